"""Checks of the baselines' settings."""

from __future__ import annotations

import math


def check_count(name: str, count: int, least: int = 1) -> int:
    """``count`` itself if it is an integer of at least ``least``; raises otherwise."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be an int, got {count!r}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
    return count


def check_positive(name: str, number: float) -> float:
    """``number`` as a float if it is finite and above 0; ValueError otherwise."""
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and above 0, got {number!r}")
    return float(number)


def check_not_negative(name: str, number: float) -> float:
    """``number`` as a float if it is finite and not negative; ValueError otherwise."""
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {number!r}")
    return float(number)


def check_share(name: str, number: float) -> float:
    """``number`` as a float if it is in [0, 1]; ValueError otherwise."""
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {number!r}")
    return float(number)

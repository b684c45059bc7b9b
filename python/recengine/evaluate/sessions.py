"""Where a user's sessions begin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def check_gap(session_gap: float) -> float:
    """``session_gap`` as a float if it is not negative; ValueError otherwise. Infinity is one session a user."""
    if math.isnan(session_gap) or session_gap < 0:
        raise ValueError(f"session_gap must not be negative, got {session_gap!r}")
    return float(session_gap)


def first_of_session(
    users: np.ndarray[Any, Any], timestamps: np.ndarray[Any, Any] | None, gap: float
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which events are the first of a session, (n,): a user's first event, and each one more than ``gap`` seconds after
    the user's previous one. ``users`` are codes, (n,), ``timestamps`` in order, (n,); without them nothing is known of
    sessions, and no event counts as a first.

    >>> first_of_session(np.array([0, 0, 1, 0]), np.array([0.0, 60.0, 60.0, 7200.0]), gap=1800.0).tolist()
    [True, False, True, True]
    """
    first = np.zeros(len(users), dtype=np.bool_)
    if timestamps is None or not len(users):
        return first
    by_user = np.argsort(users, kind="stable")
    other_user = np.diff(users[by_user]) != 0
    late = np.diff(timestamps[by_user]) > gap
    first[by_user] = np.append(True, other_user | late)
    return first

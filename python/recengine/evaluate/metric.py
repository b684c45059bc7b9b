"""What every streaming metric is: something to update, with a value at any moment."""

from __future__ import annotations

import math
from typing import Any, Protocol


class Metric(Protocol):
    """A streaming metric. ``update`` either counts its arguments or raises and changes nothing."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take one more observation."""

    @property
    def value(self) -> float:
        """The metric over everything seen so far; nan before the first observation."""


class Mean:
    """A metric that is the mean of one figure per observation."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0

    def _add(self, figure: float) -> None:
        self._sum += figure
        self.count += 1

    @property
    def value(self) -> float:
        """The mean over the observations counted so far, or nan."""
        return self._sum / self.count if self.count else math.nan

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.value:.4f} over {self.count:,}>"


def check_k(k: int) -> int:
    """``k`` itself if it is an integer of at least 1; raises otherwise."""
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {k!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return k

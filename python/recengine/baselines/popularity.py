"""The baseline every recommender has to beat: the items bought most, of all time or lately."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np

from .base import NOTHING, Baseline, Scores
from .rows import grown

WEEK = 7 * 86400.0

# Sorting all masses costs about as much as this many comparisons of all of them with one number.
_SCANS_PER_SORT = 128


class Popularity(Baseline):
    """Items ranked by how often they were learned, each time counting half as much after every ``half_life`` seconds.

    An item's decayed count at time t is the sum over its events of 2^-((t - t_event) / half_life). The common factor
    2^-(t / half_life) changes no ranking, so an item keeps its *mass*, log2 of the sum of 2^(t_event / half_life): it
    never has to be decayed, never overflows, and only ever grows. An infinite half-life ranks by plain counts, with
    equal masses exactly where counts are equal, since those go through the same sums.

    >>> model = Popularity()
    >>> for user, item in enumerate([0, 1, 1]):
    ...     model.learn(user, item)
    >>> model.rank(0, 1, k=10), model.rank(0, 0, k=10)
    (1, 2)
    """

    def __init__(self, half_life: float = math.inf) -> None:
        super().__init__()
        if not half_life > 0:
            raise ValueError(f"half_life must be above 0, got {half_life!r}")
        self._half_life = half_life
        self._mass: np.ndarray[Any, np.dtype[np.float64]] = np.zeros(0)
        # All masses at the last sort, highest first. Masses only grow: the m-th highest is never below its old value.
        self._sorted = self._mass
        self._scans = 0

    def scores(self, user: int) -> Scores:
        """The items' masses, the same for every user; -inf without a positive event."""
        self._mass = grown(self._mass, self._items, -math.inf)
        return self._mass[: self._items].copy()

    def rank(self, user: int, item: int, k: int, seen: Set[int] = NOTHING) -> int:
        """As in ``Baseline``, mostly without looking at all items."""
        beyond = k + 1
        mass = self._mass.item(item) if item < len(self._mass) else -math.inf
        if mass == -math.inf or item in seen:
            return beyond
        # If at least k + |seen| items are above it, then at least k of those are not in ``seen``.
        place = k + len(seen) - 1
        if place < len(self._sorted) and mass < self._sorted.item(place):
            return beyond
        self._scans += 1
        if self._scans % _SCANS_PER_SORT == 0:
            self._sorted = np.sort(self._mass)[::-1]
        if not seen:
            return min(int(np.count_nonzero(self._mass >= mass)), beyond)
        # Whichever rivals come first: beyond + |seen| of them hold k + 1 unseen ones, and fewer are all there are.
        rivals = np.flatnonzero(self._mass >= mass)[: beyond + len(seen)].tolist()
        return min(sum(rival not in seen for rival in rivals), beyond)

    def _learn(self, user: int, item: int, time: float) -> None:
        if item >= len(self._mass):
            self._mass = grown(self._mass, item + 1, -math.inf)
        old, new = self._mass.item(item), time / self._half_life
        self._mass[item] = max(old, new) + math.log2(1.0 + 2.0 ** -abs(old - new))

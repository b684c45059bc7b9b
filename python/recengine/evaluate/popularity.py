"""The baseline every recommender has to beat: the items bought most, of all time or lately."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np

_NOBODY: frozenset[int] = frozenset()

# Sorting all masses costs about as much as this many comparisons of all of them with one number.
_SCANS_PER_SORT = 128


class Popularity:
    """Items ranked by how often they were learned, each time counting half as much after every ``half_life``.

    An item's decayed count at time t is the sum over its events of 2^-((t - t_event) / half_life). The common factor
    2^-(t / half_life) changes no ranking, so an item keeps its *mass*, log2 of the sum of 2^(t_event / half_life): it
    never has to be decayed, never overflows, and only ever grows. An infinite half-life ranks by plain counts, with
    equal masses exactly where counts are equal, since those go through the same sums.

    Items are codes 0 .. items - 1. Times are seconds, from a start that all share.
    """

    def __init__(self, items: int, k: int, half_life: float = math.inf) -> None:
        self._k = k
        self._half_life = half_life
        self._mass: np.ndarray[Any, np.dtype[np.float64]] = np.full(items, -math.inf)
        # All masses at the last sort, highest first. Masses only grow: the m-th highest is never below its old value.
        self._sorted = self._mass.copy()
        self._scans = 0

    def learn(self, item: int, time: float) -> None:
        """Count one event of ``item``."""
        old, new = self._mass.item(item), time / self._half_life
        self._mass[item] = max(old, new) + math.log2(1.0 + 2.0 ** -abs(old - new))

    def rank(self, item: int, seen: Set[int] = _NOBODY) -> int:
        """The place of ``item`` among all items not in ``seen``, ties against it: how many of them have at least its
        mass, itself included. k + 1 stands for every place beyond k, for an item in ``seen``, and for one never
        learned."""
        beyond = self._k + 1
        mass = self._mass.item(item)
        if mass == -math.inf or item in seen:
            return beyond
        # If at least k + |seen| items are above it, then at least k of those are not in ``seen``.
        place = self._k + len(seen) - 1
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

"""Live item co-occurrence: what is taken near each other."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import numpy as np

from .base import Baseline, Scores
from .checks import check_count, check_not_negative, check_share
from .rows import grown


class Cooccurrence(Baseline):
    """Each event counts a pair, both ways, of its item and each of the user's last ``window`` items.

    A query sums the neighbours of those items: the j-th last with weight decay^(j - 1), a neighbour b with
    count(a, b) / events(b)^normalise (0: plain counts; 0.5: as the cosine). Item-based collaborative filtering
    (Sarwar et al., 2001; Linden et al., 2003), incremental as in Miranda and Jorge (2008), over a sliding window.

    An item keeps its ``slots`` best neighbours and room for as many new ones; when that is full, those counted least
    are forgotten, half of all. A new neighbour starts at 1: to inherit a count, as in space-saving sketches, would rank
    noise high. Items that are no neighbours are not recommended.

    >>> model = Cooccurrence()
    >>> for user, item in [(0, 0), (0, 1), (1, 2), (1, 3), (2, 0)]:
    ...     model.learn(user, item)
    >>> model.rank(2, 1, k=10), model.rank(2, 3, k=10)
    (1, 11)
    """

    def __init__(self, window: int = 3, decay: float = 0.2, slots: int = 64, normalise: float = 0.3) -> None:
        super().__init__()
        self._window = check_count("window", window)
        self._slots = check_count("slots", slots)
        self._normalise = check_not_negative("normalise", normalise)
        self._weights = check_share("decay", decay) ** np.arange(window)
        self._last: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=window))
        self._events: np.ndarray[Any, Any] = np.zeros(0)
        # Row a: the neighbours of item a and their counts, filled from the front, where ``_places[a]`` finds them.
        # Beyond that the counts are 0, so that whatever neighbour is named there adds nothing.
        self._neighbours: np.ndarray[Any, Any] = np.zeros((0, 2 * slots), dtype=np.int32)
        self._counts: np.ndarray[Any, Any] = np.zeros((0, 2 * slots), dtype=np.float32)
        self._places: list[dict[int, int]] = []

    def scores(self, user: int) -> Scores:
        """Summed counts; -inf for items that are no neighbours of the user's last ones."""
        last = self._last.get(user)
        if not last:
            return np.full(self._items, -np.inf)
        recent = list(last)[::-1]
        neighbours = self._neighbours[recent].ravel()
        terms = (self._counts[recent] * self._weights[: len(recent), None]).ravel()
        sums: Scores = np.bincount(neighbours, weights=terms, minlength=self._items).astype(np.float64, copy=False)
        if self._normalise:
            sums = sums / np.maximum(self._events[: self._items], 1) ** self._normalise
        sums[sums == 0] = -np.inf
        return sums

    def _learn(self, user: int, item: int, time: float) -> None:
        self._require()
        last = self._last[user]
        for other in last:
            if other != item:
                self._count(item, other)
                self._count(other, item)
        self._events[item] += 1
        last.append(item)

    def _count(self, item: int, other: int) -> None:
        places = self._places[item]
        place = places.get(other)
        if place is None:
            if len(places) == 2 * self._slots:
                places = self._forget(item)
            place = places[other] = len(places)
            self._neighbours[item, place] = other
        self._counts[item, place] += 1

    def _forget(self, item: int) -> dict[int, int]:
        """Keep the better half of a full list in the order they came; of equal counts those that came later."""
        kept = np.sort(np.argsort(self._counts[item], kind="stable")[self._slots :])
        neighbours, counts = self._neighbours[item, kept], self._counts[item, kept]
        self._neighbours[item, : self._slots], self._counts[item, : self._slots] = neighbours, counts
        self._counts[item, self._slots :] = 0
        self._places[item] = {neighbour: place for place, neighbour in enumerate(neighbours.tolist())}
        return self._places[item]

    def _require(self) -> None:
        if len(self._places) < self._items:
            self._places += [{} for _ in range(self._items - len(self._places))]
        if len(self._events) < self._items:
            self._events = grown(self._events, self._items, 0.0)
            missing = ((0, len(self._events) - len(self._counts)), (0, 0))
            self._neighbours, self._counts = np.pad(self._neighbours, missing), np.pad(self._counts, missing)

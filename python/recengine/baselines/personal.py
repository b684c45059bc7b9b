"""What the user took most often."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from .base import Baseline, Scores
from .rows import grown


class Personal(Baseline):
    """Items by how often the user took them, equal counts (also 0) by how often all users did.

    The baseline "GP-TopFreq" of Li et al. (2023), "A next basket recommendation reality check", which is hard to beat
    where users take the same things again.

    >>> model = Personal()
    >>> for user, item in [(0, 0), (1, 1), (1, 1)]:
    ...     model.learn(user, item)
    >>> model.rank(0, 0, k=10), model.rank(0, 1, k=10)
    (1, 2)
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._counts: np.ndarray[Any, np.dtype[np.float64]] = np.zeros(0)
        self._most = 0.0

    def scores(self, user: int) -> Scores:
        """Own count, plus a share below 1 that grows with everybody's count; -inf without a positive event."""
        self._counts = grown(self._counts, self._items, 0.0)
        counts = self._counts[: self._items]
        scores: Scores = np.where(counts > 0, counts / (self._most + 1), -np.inf)
        own = self._own.get(user)
        if own:
            scores[list(own)] += np.fromiter(own.values(), dtype=np.float64, count=len(own))
        return scores

    def _learn(self, user: int, item: int, time: float) -> None:
        self._own[user][item] += 1
        self._counts = grown(self._counts, self._items, 0.0)
        self._counts[item] += 1
        self._most = max(self._most, self._counts.item(item))

"""Incremental matrix factorisation for positive-only feedback."""

from __future__ import annotations

import numpy as np

from .base import Baseline, Scores
from .checks import check_count, check_not_negative, check_positive
from .rows import Rows


class ISGD(Baseline):
    """Each event moves the inner product of its user and item towards 1, by one step of gradient descent.

    Vinagre, Jorge and Gama (2014), "Fast incremental matrix factorization for recommendation with positive-only
    feedback". As there, rows start at N(0, 0.1). Items are ranked by the inner product: the paper's rule, how near to 1
    it is, did worse. A user not met yet gets no recommendation.

    >>> model = ISGD(dim=4, learning_rate=0.5)
    >>> for item in (0, 1, 0, 0):
    ...     model.learn(0, item)
    >>> model.rank(0, 0, k=10)
    1
    """

    def __init__(self, dim: int = 64, learning_rate: float = 0.02, l2: float = 0.01, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self._learning_rate = check_positive("learning_rate", learning_rate)
        self._l2 = check_not_negative("l2", l2)
        self._user_rows = Rows(check_count("dim", dim), 0.1, rng)
        self._item_rows = Rows(dim, 0.1, rng)

    def scores(self, user: int) -> Scores:
        """Inner products."""
        if user >= self._users:
            return np.full(self._items, -np.inf)
        rows = self._item_rows.require(self._items)[: self._items]
        scores: Scores = rows @ self._user_rows.require(self._users)[user]
        return scores

    def _learn(self, user: int, item: int, time: float) -> None:
        own, other = self._user_rows.require(self._users)[user], self._item_rows.require(self._items)[item]
        error = 1 - own @ other
        own += self._learning_rate * (error * other - self._l2 * own)
        other += self._learning_rate * (error * own - self._l2 * other)

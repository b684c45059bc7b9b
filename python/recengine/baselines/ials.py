"""Implicit alternating least squares, retrained at intervals, with the user folded in at each query."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, TypeAlias

import numpy as np

from .base import Baseline, Scores
from .checks import check_count, check_not_negative, check_positive

Matrix: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any]]]"


class IALS(Baseline):
    """Hu, Koren and Volinsky (2008), "Collaborative filtering for implicit feedback datasets", used as in practice.

    All item rows are fitted anew to everything learned so far after every ``retrain`` positive events, by ``sweeps``
    alternating sweeps from where they were. A query solves for its user's row exactly against the present item rows, so
    that the user's latest events count at once. An item taken n times by a user has confidence 1 + alpha n. Items that
    came after the last retraining, and users without events, are not recommended.

    >>> model = IALS(dim=2, l2=0.1, retrain=4)
    >>> for user, item in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (4, 0)]:
    ...     model.learn(user, item)
    >>> model.rank(4, 1, k=10, seen={0})
    1
    """

    def __init__(
        self,
        dim: int = 32,
        alpha: float = 1.0,
        l2: float = 10.0,
        retrain: int = 20_000,
        sweeps: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._dim = check_count("dim", dim)
        self._alpha = check_not_negative("alpha", alpha)
        self._l2 = check_positive("l2", l2)
        self._retrain = check_count("retrain", retrain)
        self._sweeps = check_count("sweeps", sweeps)
        self._rng = np.random.default_rng(seed)
        self._events = 0
        self._taken: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._rows: Matrix = np.empty((0, dim))  # of the items at the last retraining
        self._gram: Matrix = np.zeros((dim, dim))

    def scores(self, user: int) -> Scores:
        """Inner products with the user's row; -inf for items that have no row yet."""
        scores = np.full(self._items, -np.inf)
        taken = self._taken.get(user)
        if taken:
            items = np.fromiter(taken, dtype=np.intp, count=len(taken))
            counts = np.fromiter(taken.values(), dtype=np.float64, count=len(taken))
            fitted = items < len(self._rows)
            if fitted.any():
                row = self._solve(self._rows[items[fitted]], counts[fitted], self._gram)
                scores[: len(self._rows)] = self._rows @ row
        return scores

    def _learn(self, user: int, item: int, time: float) -> None:
        self._taken[user][item] += 1
        self._events += 1
        if self._events % self._retrain == 0:
            self._fit()

    def _fit(self) -> None:
        fresh = 0.1 * self._rng.standard_normal((self._items - len(self._rows), self._dim))
        rows = np.concatenate([self._rows, fresh])
        lengths = [len(taken) for taken in self._taken.values()]
        items = np.concatenate([np.fromiter(taken, dtype=np.intp) for taken in self._taken.values()])
        counts = np.concatenate([np.fromiter(taken.values(), dtype=np.float64) for taken in self._taken.values()])
        users = np.repeat(np.arange(len(lengths)), lengths)
        for _ in range(self._sweeps):
            user_rows = self._half_sweep(rows, users, items, counts, len(lengths))
            rows = self._half_sweep(user_rows, items, users, counts, self._items)
        self._rows, self._gram = rows, rows.T @ rows

    def _half_sweep(self, fixed: Matrix, owners: Any, others: Any, counts: Matrix, size: int) -> Matrix:
        """The best rows of ``size`` owners given the rows of what they go with; 0 for those that go with nothing."""
        order = np.argsort(owners, kind="stable")
        others, counts = others[order], counts[order]
        ends = np.cumsum(np.bincount(owners, minlength=size)).tolist()
        gram = fixed.T @ fixed
        rows, begin = np.zeros((size, self._dim)), 0
        for owner, end in enumerate(ends):
            if end > begin:
                rows[owner] = self._solve(fixed[others[begin:end]], counts[begin:end], gram)
            begin = end
        return rows

    def _solve(self, rows: Matrix, counts: Matrix, gram: Matrix) -> Matrix:
        """The minimiser of sum over all x of c_x (p_x - row . x)^2 + l2 |row|^2, with c = 1 and p = 0 for all but
        ``rows``: (G + X' (C - 1) X + l2 I)^-1 X' c."""
        extra = self._alpha * counts
        normal = gram + (rows.T * extra) @ rows
        normal[np.diag_indices_from(normal)] += self._l2
        solution: Matrix = np.linalg.solve(normal, rows.T @ (1 + extra))
        return solution

"""Matrix factorisation with a sampled softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import Baseline, Scores
from .checks import check_count, check_positive
from .rows import Rows, grown


class Softmax(Baseline):
    """Score = user row . item row + item bias, learned by the softmax over the event's item and sampled negatives.

    Negatives are uniform over the items met so far, with the correction log(items / negatives) that makes the sum over
    them an estimate of the sum over all items (Bengio and Senecal, 2008); the bias then learns popularity. Steps are
    scaled by row-wise Adagrad. A user not met yet is ranked for by the bias alone.

    >>> model = Softmax(dim=4)
    >>> for item in (0, 1, 0, 0):
    ...     model.learn(0, item)
    >>> model.rank(0, 0, k=10)
    1
    """

    def __init__(self, dim: int = 64, learning_rate: float = 0.1, negatives: int = 64, seed: int = 0) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)
        self._learning_rate = check_positive("learning_rate", learning_rate)
        self._negatives = check_count("negatives", negatives)
        self._user_rows = Rows(check_count("dim", dim), 0.0, self._rng)
        self._item_rows = Rows(dim, 0.1, self._rng)
        self._bias: np.ndarray[Any, Any] = np.zeros(0, dtype=np.float32)
        # Sums of squared gradients, for Adagrad: of a row the mean over its entries.
        self._user_squares: np.ndarray[Any, Any] = np.zeros(0, dtype=np.float32)
        self._item_squares: np.ndarray[Any, Any] = np.zeros(0, dtype=np.float32)
        self._bias_squares: np.ndarray[Any, Any] = np.zeros(0, dtype=np.float32)

    def scores(self, user: int) -> Scores:
        """Inner product plus bias."""
        self._require()
        scores: Scores = self._bias[: self._items].copy()
        if user < self._users:
            scores += self._item_rows.values[: self._items] @ self._user_rows.values[user]
        return scores

    def _learn(self, user: int, item: int, time: float) -> None:
        self._require()
        drawn = self._rng.integers(0, self._items, self._negatives)
        # A draw of the item itself is no negative; each row once, so that the steps below can be fancy-indexed.
        negatives, times = np.unique(drawn[drawn != item], return_counts=True)
        chosen = np.append(negatives, item)
        own, others = self._user_rows.values[user], self._item_rows.values[chosen]
        logits = others @ own + self._bias[chosen]
        logits[:-1] += np.log(times * (self._items / self._negatives))
        gradient = np.exp(logits - logits.max())
        gradient /= gradient.sum()
        gradient[-1] -= 1
        own_gradient = gradient @ others
        self._item_squares[chosen] += gradient * gradient * float(own @ own / len(own))
        self._bias_squares[chosen] += gradient * gradient
        self._user_squares[user] += float(own_gradient @ own_gradient / len(own))
        steps = self._learning_rate * gradient / np.sqrt(self._item_squares[chosen] + 1e-6)
        self._item_rows.values[chosen] = others - steps[:, None] * own
        self._bias[chosen] -= self._learning_rate * gradient / np.sqrt(self._bias_squares[chosen] + 1e-6)
        own -= self._learning_rate / math.sqrt(self._user_squares.item(user) + 1e-6) * own_gradient

    def _require(self) -> None:
        self._user_rows.require(self._users)
        self._item_rows.require(self._items)
        if len(self._bias) < self._items:
            self._bias = grown(self._bias, self._items, 0.0)
            self._item_squares = grown(self._item_squares, self._items, 0.0)
            self._bias_squares = grown(self._bias_squares, self._items, 0.0)
        self._user_squares = grown(self._user_squares, self._users, 0.0)

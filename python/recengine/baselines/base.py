"""What every baseline is: something that learns event by event, and ranks all items it has met."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from typing import Any, TypeAlias

import numpy as np

Scores: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any]]]"

NOTHING: frozenset[int] = frozenset()


class Baseline(ABC):
    """An incremental recommender over numbered users and items.

    Users and items are numbered by first appearance: a new one has the next free number. All items met so far can be
    ranked, also those whose events had no positive value; only events with a positive value teach, and how large it is
    plays no part.

    A baseline of one's own has ``scores`` and ``_learn``:

    >>> class Latest(Baseline):
    ...     "The items learned last, for everybody."
    ...     def __init__(self):
    ...         super().__init__()
    ...         self._order = []
    ...     def _learn(self, user, item, time):
    ...         self._order.append(item)
    ...     def scores(self, user):
    ...         return np.array([max((n for n, i in enumerate(self._order) if i == item), default=-np.inf)
    ...                          for item in range(self.items)])
    >>> model = Latest()
    >>> for item in (0, 1, 0):
    ...     model.learn(0, item)
    >>> model.rank(0, 1, k=10)
    2
    """

    def __init__(self) -> None:
        self._users = 0
        self._items = 0

    @property
    def users(self) -> int:
        """How many users it has met."""
        return self._users

    @property
    def items(self) -> int:
        """How many items it has met: the size of what it ranks."""
        return self._items

    def learn(self, user: int, item: int, value: float = 1.0, time: float = 0.0) -> None:
        """Take one event; ``time`` is in seconds, from a start that all events share, and never runs backwards.

        Raises
        ------
        ValueError
            For a number that is neither known nor the next free one; nothing has changed then.
        """
        if not 0 <= user <= self._users:
            raise ValueError(f"users are numbered by first appearance: expected at most {self._users}, got {user}")
        if not 0 <= item <= self._items:
            raise ValueError(f"items are numbered by first appearance: expected at most {self._items}, got {item}")
        self._users += user == self._users
        self._items += item == self._items
        if value > 0:
            self._learn(user, item, time)

    def rank(self, user: int, item: int, k: int, seen: Set[int] = NOTHING) -> int:
        """The place of ``item`` among all items met so far and not in ``seen``, for this user, ties against it: how
        many of them do not score strictly below it, itself included. k + 1 stands for every place beyond k, for an item
        in ``seen`` or not met yet, and for one that the baseline does not recommend (score -inf or nan)."""
        if item >= self._items or item in seen:
            return k + 1
        scores = self.scores(user)
        own = scores[item]
        if not own > -np.inf:
            return k + 1
        rivals = ~(scores < own)
        if seen:
            rivals[list(seen)] = False
        return min(int(np.count_nonzero(rivals)), k + 1)

    @abstractmethod
    def scores(self, user: int) -> Scores:
        """A score for each item met so far, (items,): higher is better, -inf is not recommended. Any user number may be
        asked, also one not met yet. The array is the caller's, to keep or to change."""

    @abstractmethod
    def _learn(self, user: int, item: int, time: float) -> None:
        """Learn from one positive event; both numbers have been counted already."""

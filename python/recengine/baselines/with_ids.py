"""A baseline behind the engine's interface."""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from .base import NOTHING, Baseline, Scores


class Ranked(NamedTuple):
    """Ids, best first, (m,), and their scores, (m,)."""

    ids: np.ndarray[Any, Any]
    scores: Scores


class WithIds:
    """A baseline that takes any ids and has the methods of ``recengine.Engine`` that an evaluation needs, so that it
    can stand wherever an engine can: in ``prequential``, in ``holdout``, in a caller's own loop.

    Scores are not rounded to float32, since decayed counts differ in later digits.

    >>> from recengine.baselines import Popularity
    >>> model = WithIds(Popularity())
    >>> model.learn_many(["ann", "bob", "bob"], ["tea", "tea", "cup"])
    >>> model.recommend("ann", k=2).ids.tolist()
    ['tea', 'cup']
    >>> model.recommend("ann", k=2, exclude_seen=True).ids.tolist()
    ['cup']

    Raises
    ------
    TypeError
        For something else than a ``Baseline``.
    ValueError
        For one that has learned before: its numbers stand for ids that nobody knows.
    """

    def __init__(self, model: Baseline) -> None:
        self._model = check_fresh("model", model)
        self._users: dict[Any, int] = {}
        self._items: dict[Any, int] = {}
        self._ids: list[Any] = []
        self._seen: dict[int, set[int]] = {}

    @property
    def items(self) -> KeysView[Any]:
        """The ids of all items met so far."""
        return self._items.keys()

    @property
    def settings(self) -> dict[str, Any]:
        """What it is."""
        return {"baseline": type(self._model).__name__}

    def learn_one(self, user: Any, item: Any, /, *, value: float = 1.0, timestamp: float | None = None) -> None:
        """Learn from one event; without a time all count as simultaneous."""
        number, code = self._users.get(user, len(self._users)), self._items.get(item, len(self._items))
        self._model.learn(number, code, value, 0.0 if timestamp is None else timestamp)
        if number == len(self._users):
            self._users[user] = number
        if code == len(self._items):
            self._items[item] = code
            self._ids.append(item)
        self._seen.setdefault(number, set()).add(code)

    def learn_many(
        self, users: Iterable[Any], items: Iterable[Any], /, *, values: Any = None, timestamps: Any = None
    ) -> None:
        """Learn from events one by one; ValueError if the columns differ in length."""
        users, items = _listed(users), _listed(items)
        columns = {"items": items, "values": values, "timestamps": timestamps}
        for name, column in columns.items():
            if column is not None and len(column) != len(users):
                raise ValueError(f"{name} has {len(column)} rows, users has {len(users)}")
        weights = repeat(1.0, len(users)) if values is None else map(float, values)
        times = repeat(None, len(users)) if timestamps is None else map(float, timestamps)
        for user, item, value, timestamp in zip(users, items, weights, times, strict=True):
            self.learn_one(user, item, value=value, timestamp=timestamp)

    def recommend(self, user: Any, /, k: int = 10, *, exclude_seen: bool = False) -> Ranked:
        """The k best items for a user, fewer if it recommends fewer; equal scores in the order the items came."""
        if k < 0:
            raise ValueError(f"k must not be negative, got {k}")
        number = self._users.get(user, len(self._users))
        scores = self._model.scores(number)
        recommended = scores > -np.inf
        if exclude_seen:
            recommended[list(self._seen.get(number, NOTHING))] = False
        candidates = np.flatnonzero(recommended)
        best = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
        ids = np.empty(len(best), dtype=object)
        ids[:] = [self._ids[code] for code in best.tolist()]
        return Ranked(ids, scores[best])

    def predict(self, user: Any, item: Any, /) -> float:
        """The score of one item; KeyError if the user or the item has not been met."""
        return float(self._model.scores(self._users[user])[self._items[item]])


def check_fresh(name: str, model: object) -> Baseline:
    """``model`` itself if it is a baseline that has learned nothing yet; raises otherwise."""
    if not isinstance(model, Baseline):
        raise TypeError(f"{name} must be a Baseline, got {model!r}")
    if model.users or model.items:
        raise ValueError(f"{name} has learned {model.items} items of {model.users} users before: pass a new one")
    return model


def _listed(ids: Iterable[Any]) -> list[Any]:
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)

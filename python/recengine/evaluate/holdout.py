"""Static evaluation: a recommender that has learned from one part of the events, judged by the rest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .columns import check, listed
from .figures import mean
from .intervals import Interval, mean_interval
from .metric import check_k
from .result import plain

if TYPE_CHECKING:
    from recengine.events import Events

    from .stream import Recommendation


class Ranker(Protocol):
    """The part of ``recengine.Engine`` that a holdout evaluation needs."""

    def recommend(self, user: Any, /, *, k: int, exclude_seen: bool) -> Recommendation: ...


@dataclass(frozen=True)
class HoldoutResult:
    """Figures of a static evaluation: means over users, with 95 % intervals over users. Without users they are nan.

    - ``users`` had something to be found, ``pairs`` (user, item) in all, each counted once.
    - ``recall``: the share of a user's items that are among the first k; ``ndcg``: with linear gains, divided by that
      of min(k, items) hits in front; ``hit_rate``: whether any is; ``precision``: hits divided by k; ``mrr``: 1 / place
      of the first.
    - ``known_pairs`` of the test were in train already and are left out, unless train items are recommended too.
    - ``new_items`` of the pairs have an item that train does not, ``new_users`` of the users took nothing in train.
    """

    k: int
    users: int
    pairs: int
    known_pairs: int
    new_items: int
    new_users: int
    recall: float
    ndcg: float
    hit_rate: float
    precision: float
    mrr: float
    recall_ci: Interval
    ndcg_ci: Interval
    hit_rate_ci: Interval
    precision_ci: Interval
    mrr_ci: Interval

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python, for ``json.dumps`` also with ``allow_nan=False``: nan is None."""
        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        figures = {"recall": self.recall, "NDCG": self.ndcg, "precision": self.precision, "MRR": self.mrr}
        listed = ", ".join(f"{name}@{self.k} {figure:.4f}" for name, figure in figures.items())
        return f"{self.users:,} users, {self.pairs:,} pairs: {listed}"


def holdout(engine: Ranker, train: Events, test: Events, *, k: int = 20, exclude_train: bool = True) -> HoldoutResult:
    """Rank all items for each user of ``test`` and see where the user's test items are.

    The engine has learned from ``train`` and from nothing else; how (``learn_many``, epochs of it, any other way) is
    the caller's. ``split`` makes the two parts. Recall and NDCG are as the LightGCN line of papers defines them.

    - All items that the engine knows are ranked, none sampled (Krichene and Rendle, 2020, "On sampled metrics for item
      recommendation"); what the user took in ``train``, with a positive value, is left out.
    - Only test events with a positive value are to be found. An item that is new in ``test`` cannot be found and counts
      as missed; users who took nothing in ``train`` are asked for too.
    - Ties count against: among equal scores the user's test items are taken to come last, and those that score like
      the item at place k + 1 are missed. A score that is nan is a miss.

    Parameters
    ----------
    engine
        An ``Engine``, or anything with its ``recommend``, such as ``recengine.baselines.WithIds``. It learns nothing.
    train, test
        Both with ids of the same kind. Their order does not matter.
    k
        Length of the rankings that are judged.
    exclude_train
        Whether items that the user has in ``train`` are left out, of the rankings and of what is to be found.

    Raises
    ------
    ValueError
        For a ``k`` below 1, a value that is not finite, or an engine that recommends to a user one of the user's train
        items although they are to be left out: it has not learned from this ``train``.

    Examples
    --------
    >>> from recengine.baselines import Popularity, WithIds
    >>> from recengine.events import Events
    >>> train = Events(["ann", "ann", "bob", "cat"], ["tea", "cup", "tea", "pot"])
    >>> test = Events(["bob", "cat"], ["cup", "tea"])
    >>> model = WithIds(Popularity())
    >>> model.learn_many(train.users, train.items)
    >>> print(holdout(model, train, test, k=1))
    2 users, 2 pairs: recall@1 0.5000, NDCG@1 0.5000, precision@1 0.5000, MRR@1 0.5000
    """
    check_k(k)
    for part in (train, test):
        check(dataclasses.replace(part, timestamps=None))
    owned, wanted = _taken(train), _taken(test)
    pairs = sum(map(len, wanted.values()))
    if exclude_train:
        fresh = {user: relevant - owned.get(user, set()) for user, relevant in wanted.items()}
        wanted = {user: relevant for user, relevant in fresh.items() if relevant}
    left = sum(map(len, wanted.values()))
    items = set(listed(train.items))
    figures = np.empty((5, len(wanted)))
    for column, (user, relevant) in enumerate(wanted.items()):
        ranking = engine.recommend(user, k=k + 1, exclude_seen=exclude_train)
        ids = ranking.ids.tolist()
        if exclude_train and not owned.get(user, set()).isdisjoint(ids):
            item = next(item for item in ids if item in owned[user])
            raise ValueError(f"the engine recommends {item!r} to {user!r}, who has it in train: has it learned train?")
        figures[:, column] = _figures(hits(ids, ranking.scores, relevant, k), len(relevant), k)
    everyone = np.arange(len(wanted))
    recall, ndcg, hit_rate, precision, mrr = (mean(figure) for figure in figures)
    intervals = [mean_interval(figure, everyone) for figure in figures]
    return HoldoutResult(
        k=k,
        users=len(wanted),
        pairs=left,
        known_pairs=pairs - left,
        new_items=sum(len(relevant - items) for relevant in wanted.values()),
        new_users=sum(user not in owned for user in wanted),
        recall=recall,
        ndcg=ndcg,
        hit_rate=hit_rate,
        precision=precision,
        mrr=mrr,
        recall_ci=intervals[0],
        ndcg_ci=intervals[1],
        hit_rate_ci=intervals[2],
        precision_ci=intervals[3],
        mrr_ci=intervals[4],
    )


def _taken(events: Events) -> dict[Any, set[Any]]:
    """The items of each user's events with a positive value, by user in order of appearance."""
    taken: dict[Any, set[Any]] = {}
    values = np.ones(len(events)) if events.values is None else events.values
    for user, item, value in zip(listed(events.users), listed(events.items), values.tolist(), strict=True):
        if value > 0:
            taken.setdefault(user, set()).add(item)
    return taken


def hits(ids: list[Any], scores: np.ndarray[Any, Any], relevant: set[Hashable], k: int) -> np.ndarray[Any, Any]:
    """Which of the places 1 .. k hold a relevant item, (k,), when ties count against: ``ids`` are the best k + 1."""
    found = np.array([item in relevant for item in ids], dtype=np.bool_)
    worth = np.where(np.isnan(scores), -math.inf, scores.astype(np.float64))
    if len(ids) > k:
        # Whoever else may have the score of place k + 1 comes before these.
        found &= worth > worth[k:].max()
    found &= worth > -math.inf
    order = np.lexsort((found, -worth))
    places = np.zeros(k, dtype=np.bool_)
    places[: min(k, len(ids))] = found[order[:k]]
    return places


def _figures(found: np.ndarray[Any, Any], relevant: int, k: int) -> tuple[float, float, float, float, float]:
    """Recall, NDCG, hit rate, precision and reciprocal rank of one user."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    count = int(found.sum())
    first = int(found.argmax()) + 1
    return (
        count / relevant,
        float(discounts[found].sum() / discounts[: min(k, relevant)].sum()),
        float(count > 0),
        count / k,
        1 / first if count else 0.0,
    )

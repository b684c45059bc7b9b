"""Streaming ranking metrics at k: what a query returned against what was relevant to it.

Conventions, the same for all (and those of ranx):
- A ranking is a sequence of distinct ids, best first; only its first k count. It may be shorter than k.
- The relevant items are a collection of ids (gain 1 each) or a mapping from id to gain. Gains of 0 are not relevant;
  only NDCG looks at how large a gain is.
- The value is the mean over queries. A query with nothing relevant says nothing about a ranking and is not counted.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .metric import Mean, check_k

Ranking: TypeAlias = "Sequence[Hashable] | np.ndarray[Any, Any]"
Relevant: TypeAlias = "Collection[Hashable] | Mapping[Any, float]"


def first_distinct(ranking: Ranking, k: int) -> list[Hashable]:
    """The first ``k`` ids of a ranking as a list; ValueError if one of them comes twice."""
    head = ranking[:k]
    top: list[Hashable] = head.tolist() if isinstance(head, np.ndarray) else list(head)
    if len(set(top)) < len(top):
        twice = next(item for place, item in enumerate(top) if item in top[:place])
        raise ValueError(f"a ranking must hold each item once, got {twice!r} twice")
    return top


def positive_gains(relevant: Relevant) -> dict[Hashable, float]:
    """The relevant ids with their gains; ValueError if a gain is negative or not finite."""
    if not isinstance(relevant, Mapping):
        return dict.fromkeys(relevant, 1.0)
    for item, gain in relevant.items():
        if not (math.isfinite(gain) and gain >= 0):
            raise ValueError(f"a gain must be finite and not negative, got {gain!r} for {item!r}")
    return {item: float(gain) for item, gain in relevant.items() if gain > 0}


class RankingMetric(Mean, ABC):
    """The mean over queries of one figure per query; O(k + relevant items) per update."""

    def __init__(self, k: int = 10) -> None:
        super().__init__()
        self.k = check_k(k)

    def update(self, ranking: Ranking, relevant: Relevant) -> None:
        """Count one query.

        Parameters
        ----------
        ranking
            Ids, best first, none twice within the first k.
        relevant
            The ids that should have been found, or a mapping from id to gain.

        Raises
        ------
        ValueError
            For a repeated id, or a gain that is negative or not finite.
        """
        top = first_distinct(ranking, self.k)
        gains = positive_gains(relevant)
        if gains:
            self._add(self._figure([gains.get(item, 0.0) for item in top], list(gains.values())))

    @abstractmethod
    def _figure(self, found: list[float], gains: list[float]) -> float:
        """The figure of one query, from the gain at each place (0: not relevant) and all positive gains."""


def _hits(found: list[float]) -> int:
    return len(found) - found.count(0.0)


class Recall(RankingMetric):
    """Share of the relevant items that are among the first k.

    >>> metric = Recall(k=2)
    >>> metric.update(["a", "b", "c"], {"b", "c"})
    >>> metric.value
    0.5
    """

    def _figure(self, found: list[float], gains: list[float]) -> float:
        return _hits(found) / len(gains)


class Precision(RankingMetric):
    """Relevant items among the first k, divided by k, also where the ranking is shorter.

    >>> metric = Precision(k=4)
    >>> metric.update(["a", "b"], {"b", "c"})
    >>> metric.value
    0.25
    """

    def _figure(self, found: list[float], gains: list[float]) -> float:
        return _hits(found) / self.k


class F1(RankingMetric):
    """Harmonic mean of a query's precision and recall, averaged over queries (not the F1 of the averages).

    >>> metric = F1(k=2)
    >>> metric.update(["a", "b"], {"b", "c"})
    >>> metric.value
    0.5
    """

    def _figure(self, found: list[float], gains: list[float]) -> float:
        # 2PR / (P + R) with P = hits / k and R = hits / relevant.
        return 2 * _hits(found) / (self.k + len(gains))


class HitRate(RankingMetric):
    """Share of queries with at least one relevant item among the first k.

    >>> metric = HitRate(k=2)
    >>> metric.update(["a", "b"], {"b"})
    >>> metric.update(["a", "b"], {"c"})
    >>> metric.value
    0.5
    """

    def _figure(self, found: list[float], gains: list[float]) -> float:
        return float(_hits(found) > 0)


class NDCG(RankingMetric):
    """Normalised discounted cumulative gain at k, with linear gains (Jarvelin and Kekalainen, 2002).

    DCG = sum over places r = 1..k of gain_r / log2(r + 1), divided by the DCG of the best possible ranking of length k.

    >>> metric = NDCG(k=2)
    >>> metric.update(["a", "b"], {"b"})
    >>> round(metric.value, 4)
    0.6309
    """

    def _figure(self, found: list[float], gains: list[float]) -> float:
        return _dcg(found) / _dcg(heapq.nlargest(self.k, gains))


def _dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(place) for place, gain in enumerate(gains, start=2))


class MRR(RankingMetric):
    """Mean reciprocal rank: 1 / the place of the first relevant item, 0 if it is not among the first k.

    >>> metric = MRR(k=10)
    >>> metric.update(["a", "b"], {"b"})
    >>> metric.value
    0.5
    """

    def _figure(self, found: list[float], gains: list[float]) -> float:
        return next((1 / place for place, gain in enumerate(found, start=1) if gain), 0.0)

"""Figures from whole columns: ranks, latencies and predictions as a prequential run records them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .intervals import Interval, mean_interval
from .result import BaselineFigures, RankingFigures

Column: TypeAlias = "np.ndarray[Any, Any]"


def mean(column: Column) -> float:
    """The mean, nan for an empty column."""
    return float(column.mean()) if len(column) else math.nan


def recall(ranks: Column, k: int) -> float:
    """Share of ranks 1 .. k among ``ranks``, where anything above k is a miss."""
    return mean(ranks <= k)


def ranking_figures(ranks: Column, users: Column, k: int) -> RankingFigures:
    """The figures at k of queries by ``users`` (codes) with one relevant item each, found at ``ranks`` (above k: a
    miss)."""
    hit = ranks <= k
    gain, reciprocal = hit / np.log2(ranks + 1), hit / ranks
    return RankingFigures(
        evaluated=len(ranks),
        recall=mean(hit),
        ndcg=mean(gain),
        mrr=mean(reciprocal),
        recall_ci=mean_interval(hit, users),
        ndcg_ci=mean_interval(gain, users),
        mrr_ci=mean_interval(reciprocal, users),
    )


def baseline_figures(ranks: Column, users: Column, first: Column, engine_ranks: Column, k: int) -> BaselineFigures:
    """The figures of a baseline that found the relevant items at ``ranks`` where the engine had them at
    ``engine_ranks``; ``first`` marks the queries that open a session."""
    lead, lead_interval = recall_lead(engine_ranks, ranks, users, k)
    return BaselineFigures(
        **vars(ranking_figures(ranks, users, k)),
        recall_by_decile=recall_by_decile(ranks, k),
        first_of_session=ranking_figures(ranks[first], users[first], k),
        recall_lead=lead,
        recall_lead_ci=lead_interval,
    )


def recall_lead(ranks: Column, others: Column, users: Column, k: int) -> tuple[float, Interval]:
    """By how much the recall of ``ranks`` is above that of ``others``, query by query, and the interval of that."""
    differences = (ranks <= k).astype(np.int8) - (others <= k).astype(np.int8)
    return mean(differences), mean_interval(differences, users, lowest=-1.0)


def recall_by_decile(ranks: Column, k: int) -> list[float]:
    """Recall in each tenth of the queries, in order; ten values, nan where a tenth is empty."""
    return [recall(part, k) for part in np.array_split(ranks, 10)]


def group_labels(group: Callable[[Any], object] | None, users: Sequence[Any]) -> list[str | None]:
    """The label of each user's group, or None; ``group`` is asked once per user."""
    if group is None:
        return [None] * len(users)
    labels: dict[Any, str | None] = {}
    for user in dict.fromkeys(users):
        label = group(user)
        labels[user] = None if label is None else str(label)
    return [labels[user] for user in users]


def group_figures(ranks: Column, users: Column, labels: Sequence[str | None], k: int) -> Mapping[str, RankingFigures]:
    """The ranking figures of every label; a query labelled None belongs to no group."""
    column = np.array(labels, dtype=object)
    groups = {}
    for label in sorted({label for label in labels if label is not None}):
        members = column == label
        groups[label] = ranking_figures(ranks[members], users[members], k)
    return groups


def microseconds(nanoseconds: Column) -> tuple[float, float, float]:
    """50th, 90th and 99th percentile, in microseconds; nan for an empty column."""
    if not len(nanoseconds):
        return math.nan, math.nan, math.nan
    p50, p90, p99 = np.percentile(nanoseconds, (50, 90, 99)) / 1e3
    return float(p50), float(p90), float(p99)


def rating_errors(truth: Column, predicted: Column) -> tuple[float, float]:
    """Mean absolute error and root of the mean squared error."""
    error = predicted - truth
    return mean(np.abs(error)), math.sqrt(mean(error * error))


def label_loss(truth: Column, predicted: Column) -> float:
    """Log loss in nats, with probabilities clipped to [eps, 1 - eps] as in ``LogLoss``; a value above 0 is label 1."""
    eps = np.finfo(np.float64).eps
    clipped = np.clip(predicted, eps, 1 - eps)
    return mean(-np.where(truth > 0, np.log(clipped), np.log1p(-clipped)))

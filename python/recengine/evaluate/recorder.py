"""The record of a prequential run: a row per query and a row per lesson, summed up when asked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import figures
from .catalogue import gini
from .figures import Column
from .groups import largest_gap
from .result import PrequentialResult, Progress

# A running snapshot takes its percentiles from about this many calls, so that it costs the same late in the run.
_SNAPSHOT_SAMPLE = 10_000


class Recorder:
    """Columns with room for every query and lesson, filled from the front; what lies beyond the counters means nothing.

    Invariant: a row is complete before its counter moves, so that an interrupt leaves a consistent record.
    A rank is 1 .. k, or k + 1 for a miss. The 7-day popularity has ranks only if the events have times.
    """

    def __init__(self, *, k: int, total: int, queries: int, lessons: int, has_times: bool) -> None:
        self.k = k
        self.total = total
        self.warmed_up = self.queries = self.lessons = 0
        self.warmup_ns = self.evaluation_ns = 0
        self.rank = np.zeros(queries, dtype=np.int32)
        self.popularity_rank = np.zeros(queries, dtype=np.int32)
        self.popularity_7d_rank = np.zeros(queries if has_times else 0, dtype=np.int32)
        self.novelty = np.full(queries, math.nan)
        self.query_ns = np.zeros(queries, dtype=np.int64)
        self.learn_ns = np.zeros(lessons, dtype=np.int64)
        self.predicted = np.full(lessons, math.nan)
        self.exposures: Counter[Any] = Counter()

    def progress(self, comparing: str = "", compared: int = 0) -> Progress:
        """The figures so far; while a baseline is compared, how far that one is."""
        learn = figures.microseconds(_sample(self.learn_ns[: self.lessons]))
        query = figures.microseconds(_sample(self.query_ns[: self.queries]))
        return Progress(
            done=compared if comparing else self.warmed_up + self.lessons,
            total=self.total,
            evaluated=self.queries,
            recall=figures.recall(self.rank[: self.queries], self.k),
            popularity_recall=figures.recall(self.popularity_rank[: self.queries], self.k),
            popularity_7d_recall=figures.recall(self.popularity_7d_rank[: self.queries], self.k),
            events_per_s=(
                _per_second(self.lessons, self.evaluation_ns)
                if self.lessons
                else _per_second(self.warmed_up, self.warmup_ns)
            ),
            learn_us_p50=learn[0],
            learn_us_p99=learn[2],
            query_us_p50=query[0],
            query_us_p99=query[2],
            comparing=comparing,
        )

    def result(
        self,
        *,
        protocol: Mapping[str, Any],
        users: Column,
        first: Column,
        compared: Mapping[str, Column],
        labels: Sequence[str | None],
        values: Column | None,
        catalogue_size: int,
        settings: Mapping[str, Any],
        interrupted: bool,
    ) -> PrequentialResult:
        """Sum up. ``users`` are the codes of the queries' users, ``labels`` their groups, and ``first`` marks the
        queries that open a session; ``compared`` are the ranks of the baselines, as far as they came; ``values`` are
        those of the lessons."""
        k = self.k
        rank, users, first = self.rank[: self.queries], users[: self.queries], first[: self.queries]
        ranks = {
            "popularity": self.popularity_rank[: self.queries],
            "popularity_7d": self.popularity_7d_rank[: self.queries],
            **compared,
        }
        overall = figures.ranking_figures(rank, users, k)
        baselines = {
            name: figures.baseline_figures(found, users[: len(found)], first[: len(found)], rank[: len(found)], k)
            for name, found in ranks.items()
        }
        popularity, popularity_7d = baselines["popularity"], baselines["popularity_7d"]
        groups = figures.group_figures(rank, users, labels[: self.queries], k)
        novelty = self.novelty[: self.queries]
        mae, rmse, log_loss = self._prediction_figures(values, settings.get("objective"))
        learn = figures.microseconds(self.learn_ns[: self.lessons])
        query = figures.microseconds(self.query_ns[: self.queries])
        return PrequentialResult(
            events=self.warmed_up + self.lessons,
            evaluated=self.queries,
            k=k,
            recall=overall.recall,
            ndcg=overall.ndcg,
            mrr=overall.mrr,
            popularity_recall=popularity.recall,
            popularity_ndcg=popularity.ndcg,
            popularity_mrr=popularity.mrr,
            popularity_7d_recall=popularity_7d.recall,
            popularity_7d_ndcg=popularity_7d.ndcg,
            popularity_7d_mrr=popularity_7d.mrr,
            recall_by_decile=figures.recall_by_decile(rank, k),
            popularity_recall_by_decile=popularity.recall_by_decile,
            popularity_7d_recall_by_decile=popularity_7d.recall_by_decile,
            recall_ci=overall.recall_ci,
            ndcg_ci=overall.ndcg_ci,
            mrr_ci=overall.mrr_ci,
            first_of_session=figures.ranking_figures(rank[first], users[first], k),
            baselines=baselines,
            **protocol,
            groups=groups,
            recall_gap=largest_gap([group.recall for group in groups.values()]),
            coverage=len(self.exposures) / catalogue_size if self.exposures else math.nan,
            gini=gini(self.exposures.values(), catalogue_size),
            novelty=figures.mean(novelty[~np.isnan(novelty)]),
            mae=mae,
            rmse=rmse,
            log_loss=log_loss,
            learn_us_p50=learn[0],
            learn_us_p90=learn[1],
            learn_us_p99=learn[2],
            query_us_p50=query[0],
            query_us_p90=query[1],
            query_us_p99=query[2],
            events_per_s=_per_second(self.lessons, self.evaluation_ns),
            seconds=(self.warmup_ns + self.evaluation_ns) / 1e9,
            settings=dict(settings),
            interrupted=interrupted,
        )

    def _prediction_figures(self, values: Column | None, objective: Any) -> tuple[float, float, float]:
        if values is None:
            return math.nan, math.nan, math.nan
        predicted = self.predicted[: self.lessons]
        known = ~np.isnan(predicted)
        truth, predicted = values[: self.lessons][known].astype(np.float64), predicted[known]
        if objective == "logistic":
            return math.nan, math.nan, figures.label_loss(truth, predicted)
        return *figures.rating_errors(truth, predicted), math.nan


def _sample(column: Column) -> Column:
    return column[:: len(column) // _SNAPSHOT_SAMPLE + 1]


def _per_second(count: int, nanoseconds: int) -> float:
    return count * 1e9 / nanoseconds if nanoseconds else math.nan

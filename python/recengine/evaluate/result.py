"""What a prequential run gives: figures while it runs, and the result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import Interval


@dataclass(frozen=True)
class Progress:
    """A running snapshot: the figures so far.

    ``done`` of ``total`` events have been learned, and ``evaluated`` of them were queries first. ``events_per_s`` is
    that of the phase under way. Latencies are in microseconds, on long runs those of an evenly spaced sample of the
    calls. Once the engine is through, each compared baseline goes over the same events: ``comparing`` is the name of
    the one that does, "" before, and ``done`` counts its events; the figures stay those of the engine.
    """

    done: int
    total: int
    evaluated: int
    recall: float
    popularity_recall: float
    popularity_7d_recall: float
    events_per_s: float
    learn_us_p50: float
    learn_us_p99: float
    query_us_p50: float
    query_us_p99: float
    comparing: str = ""


@dataclass(frozen=True)
class RankingFigures:
    """Recall, NDCG and MRR over some of the queries, with 95 % confidence intervals (see ``mean_interval``)."""

    evaluated: int
    recall: float
    ndcg: float
    mrr: float
    recall_ci: Interval
    ndcg_ci: Interval
    mrr_ci: Interval


@dataclass(frozen=True)
class BaselineFigures(RankingFigures):
    """The figures of a baseline. ``recall_lead`` is the engine's recall minus the baseline's over the same queries,
    with the interval of that difference: where all of it is above 0, the lead is no accident of these users."""

    recall_by_decile: list[float]
    first_of_session: RankingFigures
    recall_lead: float
    recall_lead_ci: Interval


@dataclass(frozen=True, repr=False)
class PrequentialResult:
    """The figures of a prequential run. Whatever could not be measured is nan.

    - ``events`` were learned, ``evaluated`` of them were queries first; ``interrupted`` tells whether the run was cut
      short.
    - ``recall``, ``ndcg``, ``mrr`` at ``k``, over the evaluated events; ``popularity_*`` and ``popularity_7d_*`` are
      the same for the two baselines. An evaluated event has one relevant item, so that recall is also the hit rate.
    - ``*_ci``: 95 % confidence intervals (low, high), with a user's events as one observation: see ``mean_interval``.
    - ``*_by_decile``: recall in each tenth of the evaluated events, in time order.
    - ``first_of_session``: ranking figures over the evaluated events that open a session: a user's first event of the
      stream, and each one more than ``session_gap`` seconds after the user's previous one. Empty without timestamps.
    - ``baselines``: by name the same figures for each baseline, "popularity" and "popularity_7d" among them, and the
      engine's lead over it. A baseline that an interrupt cut short has fewer queries; one it never reached has none.
    - ``order`` and ``order_seed``: whether events of equal user and time were shuffled.
    - ``groups``: ranking figures by user group, and ``recall_gap``, highest recall minus lowest.
    - ``coverage``: share of the engine's items that were recommended at least once; ``gini``: of their exposure, items
      never shown included; ``novelty``: mean self-information in bits of the recommended items, by their share of the
      positive events so far (an item without any counts as having one).
    - ``mae``, ``rmse`` (objective "squared") and ``log_loss`` (objective "logistic"): of ``predict`` before the event
      was learned, over events with a value whose user and item had come before.
    - ``learn_us_*`` and ``query_us_*``: microseconds a call of ``learn_one`` and ``recommend`` took, medians and
      percentiles.
    - ``events_per_s``: events of the evaluated part by its wall-clock time, everything included; ``seconds``: the whole
      run.
    - ``settings``: those of the engine.
    """

    events: int
    evaluated: int
    k: int
    recall: float
    ndcg: float
    mrr: float
    popularity_recall: float
    popularity_ndcg: float
    popularity_mrr: float
    popularity_7d_recall: float
    popularity_7d_ndcg: float
    popularity_7d_mrr: float
    recall_by_decile: list[float]
    popularity_recall_by_decile: list[float]
    popularity_7d_recall_by_decile: list[float]
    recall_ci: Interval
    ndcg_ci: Interval
    mrr_ci: Interval
    first_of_session: RankingFigures
    baselines: Mapping[str, BaselineFigures]
    order: str
    order_seed: int
    session_gap: float
    groups: Mapping[str, RankingFigures]
    recall_gap: float
    coverage: float
    gini: float
    novelty: float
    mae: float
    rmse: float
    log_loss: float
    learn_us_p50: float
    learn_us_p90: float
    learn_us_p99: float
    query_us_p50: float
    query_us_p90: float
    query_us_p99: float
    events_per_s: float
    seconds: float
    settings: Mapping[str, Any]
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python, for ``json.dumps`` also with ``allow_nan=False``: nan and infinity are None."""
        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}

    def __repr__(self) -> str:
        return (
            f"<PrequentialResult {self.events:,} events, recall@{self.k} {self.recall:.4f}, "
            f"popularity {self.popularity_recall:.4f}>"
        )

    def __str__(self) -> str:
        stopped = ", interrupted" if self.interrupted else ""
        ranked: dict[str, PrequentialResult | RankingFigures] = {"engine": self}
        ranked |= {"  first of session": self.first_of_session, **self.baselines}
        ranked |= {f"  {name}": group for name, group in self.groups.items()}
        lines = [
            f"{self.events:,} events, {self.evaluated:,} evaluated{stopped}",
            f"{'':<20}{f'recall@{self.k}':>11}{f'ndcg@{self.k}':>11}{f'mrr@{self.k}':>11}",
            *(_row(name, ".4f", one.recall, one.ndcg, one.mrr) for name, one in ranked.items()),
            f"{'microseconds':<20}{'p50':>11}{'p90':>11}{'p99':>11}",
            _row("learn", ",.1f", self.learn_us_p50, self.learn_us_p90, self.learn_us_p99),
            _row("query", ",.1f", self.query_us_p50, self.query_us_p90, self.query_us_p99),
            f"coverage {self.coverage:.4f}, gini {self.gini:.4f}, novelty {self.novelty:.2f} bits, "
            f"{self.events_per_s:,.0f} events/s",
        ]
        errors = {"MAE": self.mae, "RMSE": self.rmse, "log loss": self.log_loss}
        if measured := [f"{name} {value:.4f}" for name, value in errors.items() if not math.isnan(value)]:
            lines.append(", ".join(measured))
        return "\n".join(lines)


def _row(name: str, form: str, *figures: float) -> str:
    return f"{name:<20}" + "".join(f"{figure:>11{form}}" for figure in figures)


def plain(value: Any) -> Any:
    """The value as what JSON has: nan and infinity are None, whatever has no equivalent is its text."""
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case np.generic() | np.ndarray():
            return plain(value.tolist())
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return str(value)

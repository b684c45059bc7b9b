"""What a prequential run gives: figures while it runs, and the result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Progress:
    """A running snapshot: the figures so far.

    ``done`` of ``total`` events have been learned, and ``evaluated`` of them were queries first. ``events_per_s`` is
    that of the phase under way. Latencies are in microseconds, on long runs those of an evenly spaced sample of the
    calls.
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


@dataclass(frozen=True)
class GroupFigures:
    """The ranking figures of one user group."""

    evaluated: int
    recall: float
    ndcg: float
    mrr: float


@dataclass(frozen=True, repr=False)
class PrequentialResult:
    """The figures of a prequential run. Whatever could not be measured is nan.

    - ``events`` were learned, ``evaluated`` of them were queries first; ``interrupted`` tells whether the run was cut
      short.
    - ``recall``, ``ndcg``, ``mrr`` at ``k``, over the evaluated events; ``popularity_*`` and ``popularity_7d_*`` are
      the same for the two baselines. An evaluated event has one relevant item, so that recall is also the hit rate.
    - ``*_by_decile``: recall in each tenth of the evaluated events, in time order.
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
    groups: Mapping[str, GroupFigures]
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
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    def __repr__(self) -> str:
        return (
            f"<PrequentialResult {self.events:,} events, recall@{self.k} {self.recall:.4f}, "
            f"popularity {self.popularity_recall:.4f}>"
        )

    def __str__(self) -> str:
        stopped = ", interrupted" if self.interrupted else ""
        popularity = (self.popularity_recall, self.popularity_ndcg, self.popularity_mrr)
        popularity_7d = (self.popularity_7d_recall, self.popularity_7d_ndcg, self.popularity_7d_mrr)
        lines = [
            f"{self.events:,} events, {self.evaluated:,} evaluated{stopped}",
            f"{'':<20}{f'recall@{self.k}':>11}{f'ndcg@{self.k}':>11}{f'mrr@{self.k}':>11}",
            _row("engine", ".4f", self.recall, self.ndcg, self.mrr),
            _row("popularity", ".4f", *popularity),
            _row("popularity, 7 days", ".4f", *popularity_7d),
            *(_row(f"  {name}", ".4f", group.recall, group.ndcg, group.mrr) for name, group in self.groups.items()),
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


def _plain(value: Any) -> Any:
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case np.generic() | np.ndarray():
            return _plain(value.tolist())
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)

"""What one call from Python costs: `learn_one`, and `recommend` on top of its scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench.figures import Report
from bench.pairs import Pairs
from bench.side_by_side import Seconds, alone, each, whole
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine

DIM = 64


def learned(pairs: Pairs, name: Any = int) -> Engine:
    engine = Engine(dim=DIM, objective="bpr", history=0, negatives=1, seed=0)
    engine.learn_many([name(u) for u in pairs.users.tolist()], [name(i) for i in pairs.items.tolist()], threads=2)
    return engine


def report_percentiles(report: Report, seconds: Seconds, p50_bar: float | None = None) -> None:
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1e6
    report("us, p50", float(p50), at_most=p50_bar)
    report("us, p90", float(p90))
    report("us, p99", float(p99))


@pytest.mark.parametrize("name", [int, str])
def bench_learn_one(benchmark: BenchmarkFixture, report: Report, pairs: Pairs, rounds: int, name: Any) -> None:
    """Events of users and items the engine knows, in random order."""
    engine = learned(pairs, name)
    events = [
        (name(u), name(i)) for u, i in zip(pairs.users[:2_000].tolist(), pairs.items[:2_000].tolist(), strict=True)
    ]
    report_percentiles(report, alone(benchmark, each(engine.learn_one, events), rounds=rounds), p50_bar=2)


def bench_recommend_overhead(benchmark: BenchmarkFixture, report: Report, rounds: int) -> None:
    """`recommend(k=10)` among 100 items, whose scan takes well under a microsecond: what is left is overhead."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((100, DIM)).astype(np.float32) for _ in range(2))
    engine = Engine.from_factors(np.arange(100), users, np.arange(100), items)
    recommend = each(lambda user: engine.recommend(user, k=10), [(user,) for user in range(100)] * 10)
    report_percentiles(report, alone(benchmark, recommend, rounds=rounds), p50_bar=5)


def bench_learn_then_query(benchmark: BenchmarkFixture, report: Report, synthetic: Pairs, rounds: int) -> None:
    """An event of a new item, then a query of the whole catalogue, which already has it."""
    engine = learned(synthetic)
    everything = len(engine.items)
    new_items = iter(range(10**9, 2 * 10**9))

    def learn_then_query() -> None:
        item = next(new_items)
        before = engine.user_vector(0)
        engine.learn_one(0, item)
        assert not np.array_equal(engine.user_vector(0), before)
        assert item in engine.items
        assert item in engine.recommend(0, k=2 * everything).ids

    seconds = alone(benchmark, whole(learn_then_query), rounds=rounds)
    report("ms, median", float(np.median(seconds)) * 1e3)

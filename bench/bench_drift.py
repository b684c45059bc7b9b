"""Queries after the rows have moved and nothing was rebuilt, beside an engine that was built over the moved rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from bench.bench_retrieval import report_latency
from bench.catalogues import Catalogue, Catalogues, K, engine_over, found
from bench.factors import Factors, Model, with_norms
from bench.figures import Report
from bench.oracle import Found, Truth, Vectors
from bench.side_by_side import each, in_turns
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine

STEP = 0.1
EVENTS = 8_192


def steps(of: Factors, seed: int = 0) -> Iterator[tuple[Found, Vectors]]:
    """Items that move and their new rows, batch after batch, without end.

    As in SGD on sampled pairs: each event moves an item by a tenth of its first norm to or from a random user, popular
    items more often (the weights of `pairs.synthetic`).
    """
    rng = np.random.default_rng(seed)
    rows = of.items.copy()
    weights = rng.permutation((np.arange(len(rows)) + 10.0) ** -0.6)
    lengths = STEP * np.linalg.norm(rows, axis=1)
    directions = with_norms(of.users, np.ones(len(of.users)))
    popularity = np.cumsum(weights / weights.sum())
    while True:
        items = np.sort(np.searchsorted(popularity, rng.random(EVENTS)).clip(max=len(rows) - 1))
        signs = rng.choice((-1.0, 1.0), size=EVENTS)
        moves = directions[rng.integers(len(directions), size=EVENTS)] * (signs * lengths[items])[:, np.newaxis]
        moved, first = np.unique(items, return_index=True)
        rows[moved] += np.add.reduceat(moves, first, axis=0).astype(np.float32)
        yield moved, rows[moved]


def median_drift(rows: Vectors, before: Vectors) -> float:
    """How far the median row has moved, relative to its norm before."""
    norms = np.linalg.norm(before, axis=1)
    return float(np.median(np.linalg.norm(rows - before, axis=1)[norms > 0] / norms[norms > 0]))


def move(engine: Engine, of: Factors, drift: float) -> Vectors:
    """Moves rows of the engine until the median row has moved that far; returns all rows."""
    rows = of.items.copy()
    for n, (moved, new) in enumerate(steps(of)):
        engine.set_items(moved, new)
        rows[moved] = new
        if n % 8 == 7 and median_drift(rows, of.items) >= drift:
            return rows
    raise AssertionError("steps never end")


@pytest.mark.parametrize("beside", ["rebuilt", "before"])
@pytest.mark.parametrize("drift", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("model", ["als", "bpr"])
def bench_drifted(
    benchmark: BenchmarkFixture,
    report: Report,
    catalogues: Catalogues,
    rounds: int,
    model: Model,
    drift: float,
    beside: str,
) -> None:
    """Upkeep is off: only the bounds follow the rows. "before" is the shared engine, whose rows have not moved."""
    which: Catalogue = model, "gowalla"
    of, k = catalogues.factors(which), K["gowalla"]
    engine = engine_over(of)
    rows = move(engine, of, drift)
    fresh = engine_over(Factors(model, of.users, rows)) if beside == "rebuilt" else catalogues.engine(which)

    report("recall", Truth(catalogues.queries(which, 100), rows, k).recall(found(engine, catalogues.users(100), k)))
    users = [(user,) for user in catalogues.users(1_000)]
    times = in_turns(
        benchmark,
        each(lambda user: engine.recommend(user, k=k), users),
        each(lambda user: fresh.recommend(user, k=k), users),
        rounds=rounds,
    )
    report_latency(report, times, beside, 0.5)

"""One query and a batch over 40,981 rows of real models, k=20, one thread, beside faiss and hnswlib."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bench.catalogues import Catalogue, Catalogues, K
from bench.factors import Model
from bench.figures import Report
from bench.oracle import Vectors
from bench.peers import quickest_batches
from bench.side_by_side import Times, each, in_turns, whole
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine

# At least so many times faster than `IndexFlatIP`: one query; a batch.
BARS: dict[Model, float] = {"als": 7, "bpr": 4}
BATCH_BAR = 4

Call = Callable[[Engine, int, Vectors], object]


def recommend(engine: Engine, user: int, vector: Vectors) -> object:
    """The way from an id to a ranking."""
    return engine.recommend(user, k=K["gowalla"])


def search(engine: Engine, user: int, vector: Vectors) -> object:
    """The same by the user's vector, as the peers are asked."""
    return engine.search(vector, k=K["gowalla"])


def report_latency(report: Report, times: Times, peer: str, bar: float | None) -> None:
    for percentile in (50, 90, 99):
        report(f"us a query, p{percentile}", float(np.percentile(times.ours, percentile)) * 1e6)
        report(f"us a query, p{percentile}, {peer}", float(np.percentile(times.peer, percentile)) * 1e6)
    report(f"speed-up over {peer}, p50", times.speedup(), at_least=bar)
    report(f"speed-up over {peer}, p90", times.speedup(90))


def one_by_one(catalogues: Catalogues, which: Catalogue) -> list[tuple[Any, ...]]:
    """Arguments of `Call` for every user."""
    engine, queries = catalogues.engine(which), catalogues.queries(which, 1_000)
    return [(engine, user, query) for user, query in zip(catalogues.users(1_000), queries, strict=True)]


@pytest.mark.parametrize("call", [recommend, search])
@pytest.mark.parametrize("model", ["als", "bpr"])
def bench_one_query(
    benchmark: BenchmarkFixture, report: Report, catalogues: Catalogues, rounds: int, model: Model, call: Call
) -> None:
    """Exact, beside faiss `IndexFlatIP`."""
    which: Catalogue = model, "gowalla"
    index = catalogues.flat(which)
    catalogues.check(report, which)
    times = in_turns(
        benchmark,
        each(call, one_by_one(catalogues, which)),
        each(lambda query: index.search(query, K["gowalla"]), [(q,) for q in catalogues.queries(which, 200)[:, None]]),
        rounds=rounds,
    )
    report_latency(report, times, "faiss", BARS[model])


@pytest.mark.parametrize("recall", [0.9, 0.98])
@pytest.mark.parametrize("model", ["als", "bpr"])
def bench_one_query_hnswlib(
    benchmark: BenchmarkFixture, report: Report, catalogues: Catalogues, rounds: int, model: Model, recall: float
) -> None:
    """Exact, beside hnswlib at this recall or, where it does not get there, at its best."""
    which: Catalogue = model, "gowalla"
    index = catalogues.graph("hnswlib", which)
    catalogues.check(report, which)
    report("recall, hnswlib", index.reach(catalogues.truth(which), catalogues.queries(which, 100), recall))
    times = in_turns(
        benchmark,
        each(search, one_by_one(catalogues, which)),
        each(lambda query: index.search(query, K["gowalla"]), [(q,) for q in catalogues.queries(which, 200)[:, None]]),
        rounds=rounds,
    )
    report_latency(report, times, "hnswlib", 1)


@pytest.mark.parametrize("model", ["als", "bpr"])
def bench_batch(benchmark: BenchmarkFixture, report: Report, catalogues: Catalogues, rounds: int, model: Model) -> None:
    """1,000 known users at once, exact."""
    which: Catalogue = model, "gowalla"
    engine, index, queries = catalogues.engine(which), catalogues.flat(which), catalogues.queries(which, 1_000)
    users = np.array(catalogues.users(1_000))
    report("recall", catalogues.truth(which).recall(engine.recommend(users, k=K["gowalla"]).ids[:100]))
    with quickest_batches(index, queries, K["gowalla"]):
        times = in_turns(
            benchmark,
            whole(lambda: engine.recommend(users, k=K["gowalla"])),
            whole(lambda: index.search(queries, K["gowalla"])),
            rounds=rounds,
        )
    report("queries/s", len(queries) / float(np.median(times.ours)))
    report("queries/s, faiss", len(queries) / float(np.median(times.peer)))
    report("speed-up over faiss, median", times.speedup(), at_least=BATCH_BAR)

"""One query over a million rows mixed from real models, k=10, one thread, beside faiss, hnswlib and usearch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench.bench_retrieval import report_latency
from bench.catalogues import Catalogue, Catalogues, K, found, require_million
from bench.factors import Model
from bench.figures import Report
from bench.oracle import Truth
from bench.peers import GraphName
from bench.side_by_side import each, in_turns
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Cells
from recengine.retrieval import Retrieval

# Exact over rows like those of ALS; over rows like those of BPR, where every bound is loose, at recall .99.
BARS: dict[tuple[Model, bool], float] = {("als", True): 100, ("bpr", False): 20}
CAPS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def cheapest(catalogues: Catalogues, which: Catalogue, truth: Truth, recall: float) -> Any:
    """The way that visits the fewest cells and still reaches this recall."""
    for cap in CAPS:
        way = Cells(max_cells=cap)
        if truth.recall(found(catalogues.engine(which), catalogues.users(100), truth.k, retrieval=way)) >= recall:
            return way
    return "auto"


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("model", ["als", "bpr"])
def bench_million(
    benchmark: BenchmarkFixture, report: Report, catalogues: Catalogues, rounds: int, model: Model, exact: bool
) -> None:
    """Exact, or the cheapest way of recall .99, beside faiss `IndexFlatIP`.

    Each side asks as many queries in its turn as it takes to have its own rows in the caches, not the peer's.
    """
    which: Catalogue = model, "million"
    index = catalogues.flat(which)
    way: Retrieval = "auto" if exact else cheapest(catalogues, which, catalogues.truth(which), 0.99)
    report("most cells", getattr(way, "max_cells", np.inf))
    catalogues.check(report, which, retrieval=way)
    engine, users = catalogues.engine(which), [(user,) for user in catalogues.users(1_000)]
    times = in_turns(
        benchmark,
        each(lambda user: engine.recommend(user, k=K["million"], retrieval=way), users),
        each(lambda query: index.search(query, K["million"]), [(q,) for q in catalogues.queries(which, 10)[:, None]]),
        rounds=rounds,
    )
    report_latency(report, times, "faiss", BARS.get((model, exact)))


@pytest.mark.parametrize(
    ("model", "name", "bar"), [("als", "hnswlib", 5), ("bpr", "hnswlib", 1), ("bpr", "usearch", 1)]
)
def bench_million_graph(
    benchmark: BenchmarkFixture,
    report: Report,
    request: pytest.FixtureRequest,
    catalogues: Catalogues,
    rounds: int,
    model: Model,
    name: GraphName,
    bar: float,
) -> None:
    """ALS: exact, beside the graph at its best recall. BPR: at equal recall, .99 or what the graph reaches."""
    require_million(request.config)
    which: Catalogue = model, "million"
    truth = catalogues.truth(which)
    index = catalogues.graph(name, which)
    reached = index.reach(truth, catalogues.queries(which, 100), 0.99)
    report(f"recall, {name}", reached)
    way: Retrieval = "auto" if model == "als" else cheapest(catalogues, which, truth, reached)
    report("most cells", getattr(way, "max_cells", np.inf))
    catalogues.check(report, which, retrieval=way)
    engine, queries = catalogues.engine(which), catalogues.queries(which, 1_000)
    times = in_turns(
        benchmark,
        each(lambda query: engine.search(query, k=K["million"], retrieval=way), [(query,) for query in queries]),
        each(lambda query: index.search(query, K["million"]), [(query,) for query in queries[:, None]]),
        rounds=rounds,
    )
    report_latency(report, times, name, bar)

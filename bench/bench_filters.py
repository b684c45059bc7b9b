"""A query with a filter beside the same without one, beside other ways to answer it, and beside faiss."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from bench.catalogues import Catalogue, Catalogues, K, Size, engine_over, found
from bench.factors import Factors
from bench.figures import Report
from bench.oracle import Truth
from bench.peers import selection
from bench.side_by_side import each
from bench.turns import take_turns
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine, Flat

Kind = Literal["random", "best", "worst"]

# By the share that passes.
MOST_SLOW_DOWN = {0.5: 2.0, 0.0001: 1.0}


def passing(of: Factors, share: float, kind: Kind) -> npt.NDArray[np.bool_]:
    """Which items pass: random ones, or those that the average user scores best, or worst."""
    n = max(1, round(share * len(of.items)))
    scores = of.items @ of.users.mean(axis=0)
    order = np.random.default_rng(0).permutation(len(of.items)) if kind == "random" else np.argsort(scores)
    matching = np.zeros(len(of.items), dtype=np.bool_)
    matching[order[-n:] if kind == "best" else order[:n]] = True
    return matching


@pytest.fixture(scope="module")
def engines(catalogues: Catalogues) -> dict[Size, Engine]:
    """Engines of their own: the shared ones have no filters."""
    return {}


@pytest.mark.parametrize("kind", ["random", "best", "worst"])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.0001])
@pytest.mark.parametrize("size", ["gowalla", "million"])
def bench_filter(
    benchmark: BenchmarkFixture,
    report: Report,
    catalogues: Catalogues,
    engines: dict[Size, Engine],
    rounds: int,
    size: Size,
    share: float,
    kind: Kind,
) -> None:
    """ALS rows. "gathered" scans just the matching rows, which lie in an engine of their own: no gather is faster."""
    which: Catalogue = "als", size
    of, k = catalogues.factors(which), K[size]
    if size not in engines:
        engines[size] = engine_over(of)
    engine = engines[size]
    matching = passing(of, share, kind)
    engine.set_filter("passing", np.flatnonzero(matching))
    accepted = engine.filter("passing")
    gathered = engine_over(Factors(of.model, of.users, of.items[matching]))
    index, parameters = catalogues.flat(which), selection(matching)

    answers = found(engine, catalogues.users(50), k, filter=accepted)
    report("recall", Truth(catalogues.queries(which, 50), of.items, k, matching).recall(answers))
    report("results a query", float((answers >= 0).sum(axis=1).mean()))

    users = [(user,) for user in catalogues.users(200)]
    few = 50 if size == "gowalla" else 10  # of what scans everything
    queries = [(query,) for query in catalogues.queries(which, few)[:, None]]
    seconds = take_turns(
        {
            "filtered": each(lambda user: engine.recommend(user, k=k, filter=accepted), users),
            "unfiltered": each(lambda user: engine.recommend(user, k=k), users),
            "flat": each(lambda user: engine.recommend(user, k=k, filter=accepted, retrieval=Flat()), users[:few]),
            "gathered": each(lambda user: gathered.recommend(user, k=k, retrieval=Flat()), users[:few]),
            "faiss": each(lambda query: index.search(query, k, params=parameters), queries),
        },
        min(rounds, 5),
        benchmark,
    )
    p50 = {side: float(np.median(each)) * 1e6 for side, each in seconds.items()}
    for side, median in p50.items():
        report(f"us a query, p50, {side}", median)
    report("slow-down by the filter", p50["filtered"] / p50["unfiltered"], at_most=MOST_SLOW_DOWN.get(share))
    report("slow-down against flat", p50["filtered"] / p50["flat"], at_most=1.1)  # a tenth is noise
    report("slow-down against gathered", p50["filtered"] / p50["gathered"])
    report("speed-up over faiss", p50["faiss"] / p50["filtered"], at_least=1)

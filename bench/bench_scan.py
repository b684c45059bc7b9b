"""The exact fp32 scan, 40,981 rows of 64 floats, k=20, one thread, beside faiss `IndexFlatIP`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from bench.figures import Report
from bench.pairs import GOWALLA_ITEMS
from bench.side_by_side import Times, each, in_turns, whole
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine, Flat

DIM = 64
K = 20
SCAN = Flat(codes=False)  # every row in fp32, as the peer does

Vectors = npt.NDArray[np.float32]


def gaussian(rng: np.random.Generator, n: int) -> Vectors:
    """Rows of uneven norm, as factors of real models are."""
    norms = rng.lognormal(sigma=0.5, size=(n, 1))
    return (norms * rng.standard_normal((n, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def factors(small: bool) -> tuple[Vectors, Vectors]:
    """1,000 query vectors, and the rows of a catalogue."""
    rng = np.random.default_rng(0)
    return gaussian(rng, 1_000), gaussian(rng, 1_000 if small else GOWALLA_ITEMS)


@pytest.fixture(scope="module")
def engine(factors: tuple[Vectors, Vectors]) -> Engine:
    queries, rows = factors
    engine = Engine.from_factors(np.arange(len(queries)), queries, np.arange(len(rows)), rows)
    engine.threads = 1
    return engine


@pytest.fixture(scope="module")
def index(factors: tuple[Vectors, Vectors]) -> Any:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(DIM)
    index.add(factors[1])
    return index


def check(scores: Vectors, index: Any, queries: Vectors) -> None:
    """Both found the same scores. The ids may differ where two scores are equal up to rounding."""
    assert np.allclose(scores, index.search(queries, K)[0], rtol=1e-4, atol=1e-4)


def report_latency(report: Report, times: Times) -> None:
    for percentile in (50, 90, 99):
        report(f"us a query, p{percentile}", float(np.percentile(times.ours, percentile)) * 1e6)
        report(f"us a query, p{percentile}, faiss", float(np.percentile(times.peer, percentile)) * 1e6)
    report("speed-up over faiss, p50", times.speedup(), at_least=1)
    report("speed-up over faiss, p90", times.speedup(90))


def bench_recommend(
    benchmark: BenchmarkFixture,
    report: Report,
    engine: Engine,
    index: Any,
    factors: tuple[Vectors, Vectors],
    rounds: int,
) -> None:
    """One known user a query: the way from an id to a ranking."""
    queries = factors[0][:100]
    times = in_turns(
        benchmark,
        each(lambda user: engine.recommend(user, k=K, retrieval=SCAN), [(user,) for user in range(len(queries))]),
        each(lambda query: index.search(query, K), [(query,) for query in queries[:, None]]),
        rounds=rounds,
    )
    check(
        np.stack([engine.recommend(user, k=K, retrieval=SCAN).scores for user in range(len(queries))]), index, queries
    )
    report_latency(report, times)


def bench_search(
    benchmark: BenchmarkFixture,
    report: Report,
    engine: Engine,
    index: Any,
    factors: tuple[Vectors, Vectors],
    rounds: int,
) -> None:
    """One raw vector a query."""
    queries = factors[0][:100]
    times = in_turns(
        benchmark,
        each(lambda query: engine.search(query, k=K, retrieval=SCAN), [(query,) for query in queries]),
        each(lambda query: index.search(query, K), [(query,) for query in queries[:, None]]),
        rounds=rounds,
    )
    check(np.stack([engine.search(query, k=K, retrieval=SCAN).scores for query in queries]), index, queries)
    report_latency(report, times)


def bench_batch(
    benchmark: BenchmarkFixture,
    report: Report,
    engine: Engine,
    index: Any,
    factors: tuple[Vectors, Vectors],
    rounds: int,
) -> None:
    """1,000 known users at once."""
    queries, _ = factors
    users = np.arange(len(queries))
    times = in_turns(
        benchmark,
        whole(lambda: engine.recommend(users, k=K, retrieval=SCAN)),
        whole(lambda: index.search(queries, K)),
        rounds=rounds,
    )
    check(engine.recommend(users, k=K, retrieval=SCAN).scores, index, queries)
    report("queries/s", len(queries) / float(np.median(times.ours)))
    report("queries/s, faiss", len(queries) / float(np.median(times.peer)))
    report("speed-up over faiss, median", times.speedup())

"""Learning: samples a second of `learn_many`, and the time of `learn_one`, beside other libraries on the same pairs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from bench.figures import Report
from bench.pairs import Pairs
from bench.side_by_side import Times, each, in_turns, whole
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine

DIM = 64
THREADS = 2

Optimizer = Literal["adagrad", "sgd"]


def bpr_engine(pairs: Pairs, optimizer: Optimizer) -> Engine:
    """An engine that has seen every id, as the peers have when they are timed."""
    engine = Engine(dim=DIM, objective="bpr", history=0, negatives=1, optimizer=optimizer, seed=0)
    engine.learn_many(pairs.users, pairs.items, threads=THREADS)
    return engine


def report_rates(report: Report, peer: str, samples: int, times: Times, bar: float | None = None) -> None:
    report("million samples/s", samples / float(np.median(times.ours)) / 1e6)
    report(f"million samples/s, {peer}", samples / float(np.median(times.peer)) / 1e6)
    report(f"speed-up over {peer}, median", times.speedup(), at_least=bar)
    report(f"speed-up over {peer}, slowest tenth", times.speedup(90))


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def bench_implicit_bpr(
    benchmark: BenchmarkFixture, report: Report, pairs: Pairs, rounds: int, optimizer: Optimizer
) -> None:
    """One round is one epoch: as many samples as there are pairs, one negative each, known positives rejected."""
    implicit = pytest.importorskip("implicit.cpu.bpr", reason="implicit is not installed")
    model = implicit.BayesianPersonalizedRanking(factors=DIM, iterations=1, num_threads=THREADS, random_state=0)
    matrix = pairs.matrix()
    engine = bpr_engine(pairs, optimizer)

    times = in_turns(
        benchmark,
        whole(lambda: engine.learn_many(pairs.users, pairs.items, threads=THREADS)),
        whole(lambda: model.fit(matrix, show_progress=False)),  # goes on from where the last fit ended
        rounds=rounds,
    )

    report_rates(report, "implicit", len(pairs), times, bar=3)


@pytest.mark.parametrize("loss", ["warp", "bpr"])
def bench_lightfm(benchmark: BenchmarkFixture, report: Report, pairs: Pairs, rounds: int, loss: str) -> None:
    """One round is one epoch over the pairs; WARP draws up to 10 negatives for each, BPR one."""
    lightfm = pytest.importorskip("lightfm", reason="lightfm-next is not installed", exc_type=ImportError)
    model = lightfm.LightFM(no_components=DIM, loss=loss, random_state=0)
    matrix = pairs.matrix().tocoo()
    engine = bpr_engine(pairs, "adagrad")

    times = in_turns(
        benchmark,
        whole(lambda: engine.learn_many(pairs.users, pairs.items, threads=THREADS)),
        whole(lambda: model.fit_partial(matrix, epochs=1, num_threads=THREADS)),
        rounds=min(rounds, 5),
    )

    report_rates(report, f"LightFM {loss}", len(pairs), times)


@pytest.mark.parametrize("peer", ["BiasedMF", "FunkMF"])
def bench_river(benchmark: BenchmarkFixture, report: Report, synthetic: Pairs, rounds: int, peer: str) -> None:
    """The same 2,000 ratings, one call for each; they lie between 0 and 1, where FunkMF's default step is stable."""
    reco = pytest.importorskip("river.reco", reason="river is not installed")
    model = getattr(reco, peer)(n_factors=DIM, seed=0)
    engine = Engine(dim=DIM, objective="squared", history=0, seed=0)
    events = [
        (user, item, (user + item) % 5 / 5)
        for user, item in zip(synthetic.users[:2_000].tolist(), synthetic.items[:2_000].tolist(), strict=True)
    ]

    times = in_turns(
        benchmark,
        each(lambda user, item, value: engine.learn_one(user, item, value=value), events),
        each(lambda user, item, value: model.learn_one(user=user, item=item, y=value), events),
        rounds=rounds,
    )

    report("us an event, p50", float(np.median(times.ours)) * 1e6)
    report(f"us an event, p50, {peer}", float(np.median(times.peer)) * 1e6)
    report(f"speed-up over {peer}, median", times.speedup())
    report(f"speed-up over {peer}, slowest tenth", times.speedup(90))

"""Queries beside a learner of 100,000 events a second; an insert into a million rows; building their cells."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, cycle
from time import perf_counter, sleep
from typing import Any

import numpy as np
from bench.bench_latency import report_percentiles
from bench.bench_threads import beside
from bench.catalogues import Catalogue, Catalogues, K, engine_over
from bench.factors import DIM
from bench.figures import Report
from bench.oracle import Truth
from bench.pairs import Pairs
from bench.peers import BUILD_THREADS
from bench.side_by_side import Seconds, alone, each, in_turns
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine

EVENTS = 1_000
PERIOD = 0.01
MILLION: Catalogue = "als", "million"


@contextmanager
def paced(step: Callable[[], object]) -> Iterator[list[float]]:
    """Runs ``step`` every hundredth of a second in another thread; gives the seconds at which each run ended."""
    stop = threading.Event()
    ends: list[float] = []

    def repeat() -> None:
        due = perf_counter()
        while not stop.is_set():
            step()
            ends.append(perf_counter())
            due += PERIOD
            sleep(max(0.0, due - perf_counter()))

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(repeat)
        sleep(PERIOD)
        try:
            yield ends
        finally:
            stop.set()
        future.result()


def seconds_of(step: Callable[[], object], times: int = 50) -> float:
    """The median of so many runs."""
    laps = []
    for _ in range(times):
        start = perf_counter()
        step()
        laps.append(perf_counter() - start)
    return float(np.median(laps))


def bench_query_beside_learner(
    benchmark: BenchmarkFixture, report: Report, pairs: Pairs, rounds: int, small: bool
) -> None:
    """1,000 events every 10 ms, upkeep on, beside a thread that computes for as long every 10 ms, without the GIL."""
    engine = Engine(dim=DIM, objective="bpr", history=0, negatives=1, seed=0)
    for _ in range(1 if small else 10):
        engine.learn_many(pairs.users, pairs.items, threads=2)
    engine.maintain()
    engine.threads = 1
    starts = cycle(range(0, len(pairs) - EVENTS, EVENTS))

    def learn() -> None:
        chunk = slice(start := next(starts), start + EVENTS)
        engine.learn_many(pairs.users[chunk], pairs.items[chunk], threads=1)

    megabyte = bytes(1 << 20)
    busy = seconds_of(learn)
    buffer = bytes(int((1 << 20) * busy / seconds_of(lambda: hashlib.sha256(megabyte).digest())))
    n_users = min(1_000, pairs.n_users)
    queries = each(lambda user: engine.recommend(user, k=K["gowalla"]), [(user,) for user in range(n_users)] * 5)
    rates: list[float] = []

    def beside_learning() -> Seconds:
        with paced(learn) as ends:
            seconds = queries()
        if len(ends) > 1:
            rates.append(EVENTS * (len(ends) - 1) / (ends[-1] - ends[0]))
        return seconds

    def beside_computing() -> Seconds:
        with paced(lambda: hashlib.sha256(buffer).digest()):
            return queries()

    times = in_turns(benchmark, beside_learning, beside_computing, rounds=rounds)
    report("events/s", float(np.median(rates)))
    report("share of the time that the other thread is busy", busy / PERIOD)
    for percentile in (50, 90, 99):
        report(f"us a query beside learning, p{percentile}", float(np.percentile(times.ours, percentile)) * 1e6)
        report(f"us a query beside computing, p{percentile}", float(np.percentile(times.peer, percentile)) * 1e6)
        report(f"slow-down, p{percentile}", 1 / times.speedup(percentile), at_most=1.5 if percentile < 99 else None)


def bench_insert(benchmark: BenchmarkFixture, report: Report, catalogues: Catalogues, rounds: int) -> None:
    """One new item a call into a million, and that the next query has it."""
    of = catalogues.factors(MILLION)
    engine = engine_over(of)
    new = count(len(of.items))
    rows = [(row,) for row in catalogues.factors(("als", "gowalla")).items[:1_000, np.newaxis]]
    report_percentiles(
        report, alone(benchmark, each(lambda row: engine.set_items([next(new)], row), rows), rounds=rounds), p50_bar=5
    )

    longest = float(np.linalg.norm(of.items, axis=1).max())
    for user, query in zip(catalogues.users(100), catalogues.queries(MILLION, 100), strict=True):
        item = next(new)
        engine.set_items([item], (2 + user) * longest / np.linalg.norm(query) * query[np.newaxis])
        assert item in engine.recommend(user, k=K["million"]).ids


def bench_build(benchmark: Any, report: Report, catalogues: Catalogues) -> None:
    """The cells of a million rows, by two threads, while a third asks; then the memory that it all takes."""
    of, k = catalogues.factors(MILLION), K["million"]
    engines: list[Engine] = []
    answers: list[float] = []

    def rows_alone() -> None:
        ids, users = np.arange(len(of.items)), np.arange(len(of.users))
        engine = Engine.from_factors(users, of.users, ids, of.items, threads=BUILD_THREADS, maintenance=False)
        engines[:] = [engine]

    askers = cycle(catalogues.users(1_000))

    def ask() -> None:
        start = perf_counter()
        engines[0].recommend(next(askers), k=k)
        answers.append(perf_counter() - start)

    laps: list[float] = []

    def build() -> None:
        with beside(ask):
            start = perf_counter()
            engines[0].maintain()
            laps.append(perf_counter() - start)

    benchmark.pedantic(build, setup=rows_alone, rounds=2)
    report("seconds", float(np.median(laps)), at_most=20)
    report("answers/s meanwhile", len(answers) / sum(laps))
    report("ms an answer meanwhile, p99", float(np.percentile(answers, 99)) * 1e3)
    report("bytes an item", engines[0].stats()["memory_bytes"]["items"] / len(of.items))
    found = np.stack([engines[0].recommend(user, k=k).ids for user in catalogues.users(50)])
    report("recall", Truth(catalogues.queries(MILLION, 50), of.items, k).recall(found))

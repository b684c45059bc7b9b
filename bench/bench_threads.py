"""Learning and querying at once: what they cost each other, and that nobody waits for ever."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from time import monotonic, sleep
from typing import Any, Literal

import numpy as np
import pytest
from bench.figures import Report
from bench.pairs import Pairs
from bench.side_by_side import Seconds, each, in_turns, whole
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine, Flat
from recengine.retrieval import Retrieval

DIM = 64
CHUNK = 10_000


@pytest.fixture
def engine(synthetic: Pairs) -> Engine:
    engine = Engine(dim=DIM, objective="bpr", history=0, negatives=1, seed=0)
    engine.learn_many(synthetic.users, synthetic.items, threads=2)
    engine.threads = 1
    return engine


@contextmanager
def beside(step: Callable[[], object]) -> Iterator[None]:
    """Repeat ``step`` in another thread for the time of the ``with`` block."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            step()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(repeat)
        sleep(0.01)
        try:
            yield
        finally:
            stop.set()
        future.result()


def learn_chunks(engine: Engine, pairs: Pairs) -> Callable[[], object]:
    """Each call learns the next 10,000 pairs, without the GIL."""
    starts = cycle(range(0, len(pairs), CHUNK))

    def step() -> None:
        chunk = slice(start := next(starts), start + CHUNK)
        engine.learn_many(pairs.users[chunk], pairs.items[chunk], threads=1)

    return step


def learn_singly(engine: Engine, pairs: Pairs) -> Callable[[], object]:
    """Each call learns the next 1,000 pairs, one Python call for each."""
    events = cycle(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))

    def step() -> None:
        for _ in range(1_000):
            engine.learn_one(*next(events))

    return step


def hash_buffer() -> object:
    """Compute without the GIL, without touching memory that others use."""
    return hashlib.sha256(bytes(1 << 20)).digest()


def add_integers() -> object:
    """Compute with the GIL."""
    return sum(n for n in range(10_000))


@pytest.mark.parametrize("retrieval", ["rows", "auto"])
@pytest.mark.parametrize(
    ("learn", "compute"),
    [
        pytest.param(learn_chunks, hash_buffer, id="learn_many"),
        pytest.param(learn_singly, add_integers, id="learn_one"),
    ],
)
def bench_query_beside_learning(
    benchmark: BenchmarkFixture,
    report: Report,
    engine: Engine,
    synthetic: Pairs,
    rounds: int,
    learn: Callable[[Engine, Pairs], Callable[[], object]],
    compute: Callable[[], object],
    retrieval: Literal["rows", "auto"],
) -> None:
    """The same queries beside a thread that learns as fast as it can and beside one that only computes.

    ``rows`` scores every row in fp32 and shows what learning takes from a query. ``auto``, the default, has codes that
    are those of the rows beside a thread that only computes, and codes that lag behind where every row is written each
    few milliseconds.
    """
    way: Retrieval = Flat(codes=False) if retrieval == "rows" else "auto"
    queries = each(lambda user: engine.recommend(user, k=10, retrieval=way), [(user,) for user in range(1_000)])
    learn_step = learn(engine, synthetic)

    def beside_learning() -> Seconds:
        with beside(learn_step):
            return queries()

    def beside_computing() -> Seconds:
        with beside(compute):
            return queries()

    times = in_turns(benchmark, beside_learning, beside_computing, rounds=rounds)

    for percentile in (50, 90, 99):
        report(f"us a query beside learning, p{percentile}", float(np.percentile(times.ours, percentile)) * 1e6)
        report(f"us a query beside computing, p{percentile}", float(np.percentile(times.peer, percentile)) * 1e6)
        report(f"slow-down, p{percentile}", 1 / times.speedup(percentile), at_most=1.5 if percentile < 99 else None)


def bench_learn_with_two_threads(
    benchmark: BenchmarkFixture, report: Report, engine: Engine, synthetic: Pairs, rounds: int
) -> None:
    """`learn_many` with `threads=2` beside `threads=1`, on a machine with two cores or more."""
    engine.threads = 2
    times = in_turns(
        benchmark,
        whole(lambda: engine.learn_many(synthetic.users, synthetic.items, threads=2)),
        whole(lambda: engine.learn_many(synthetic.users, synthetic.items, threads=1)),
        rounds=rounds,
    )
    report("million samples/s, 2 threads", len(synthetic) / float(np.median(times.ours)) / 1e6)
    report("million samples/s, 1 thread", len(synthetic) / float(np.median(times.peer)) / 1e6)
    report("speed-up of the second thread", times.speedup())


def work(engine: Engine, pairs: Pairs, learners: int, queriers: int, seconds: float) -> tuple[list[int], list[int]]:
    """Events learned by each learner and queries answered for each querier in the given time.

    Raises `AssertionError` if a thread has not come back long after the time is over.
    """
    counts = [0] * (learners + queriers)
    end = monotonic() + seconds

    def learner(n: int) -> None:
        step = learn_chunks(engine, pairs)
        while monotonic() < end:
            step()
            counts[n] += CHUNK

    def querier(n: int) -> None:
        users = cycle(range(n, pairs.n_users))
        while monotonic() < end:
            engine.recommend(next(users), k=10)
            counts[n] += 1

    # Daemons: a deadlock must fail the run, not hang it.
    threads = [
        threading.Thread(target=learner if n < learners else querier, args=(n,), daemon=True)
        for n in range(len(counts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=seconds + 60)
    assert not any(thread.is_alive() for thread in threads), "a thread has not come back: deadlock"
    return counts[:learners], counts[learners:]


def bench_four_and_four(benchmark: Any, report: Report, engine: Engine, synthetic: Pairs, small: bool) -> None:
    """Four threads learn while four query; beside them, in turns, one and one."""
    seconds = 0.2 if small else 2.0
    four: list[tuple[list[int], list[int]]] = []
    one: list[tuple[list[int], list[int]]] = []
    benchmark.pedantic(
        lambda: four.append(work(engine, synthetic, 4, 4, seconds)),
        setup=lambda: one.append(work(engine, synthetic, 1, 1, seconds)),
        rounds=3,
    )
    for learned, answered in four:
        assert min(learned) > 0, f"a learner starved: {learned}"
        assert min(answered) > 0, f"a querier starved: {answered}"
    for name, runs in (("4 + 4", four), ("1 + 1", one)):
        report(
            f"{name} threads: million events/s", float(np.median([sum(learned) for learned, _ in runs])) / seconds / 1e6
        )
        report(f"{name} threads: queries/s", float(np.median([sum(answered) for _, answered in runs])) / seconds)
    report("4 + 4 threads: least / most learned", min(min(run[0]) / max(run[0]) for run in four))
    report("4 + 4 threads: least / most answered", min(min(run[1]) / max(run[1]) for run in four))

"""What durability costs: learning with a log against without, in turns; recovery; checkpoints beside queries; opening.

Nothing absolute is asserted: ratios and figures are printed (`pytest bench/bench_durability.py -s`). The folder lies
where `--basetemp` says, or where the system keeps temporary files.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recengine import Engine

SETTINGS: dict[str, Any] = {"dim": 64, "objective": "bpr", "history": 0}
EVENTS, TURNS = 1_000_000, 5
ITEMS = int(os.environ.get("RECENGINE_BENCH_ITEMS", "1000000"))


def stream() -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    return random.integers(0, 50_000, EVENTS), random.zipf(1.3, EVENTS) % 40_000, np.arange(EVENTS) * 1.0


def seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bench_learn_many_with_a_log(tmp_path: Path) -> None:
    users, items, times = stream()

    def learn(engine: Engine, threads: int) -> float:
        return seconds(lambda: engine.learn_many(users, items, timestamps=times, threads=threads))

    for threads in (1, 2):
        plain = Engine(**SETTINGS)
        with Engine.open(tmp_path / str(threads), checkpoint_bytes=0, **SETTINGS) as durable:
            learn(plain, threads), learn(durable, threads)  # meet new ids
            taken = [(learn(plain, threads), learn(durable, threads)) for _ in range(TURNS)]
            length = durable.stats()["durability"]["log_bytes"] / EVENTS / (TURNS + 1)
        ratio = statistics.median(with_log / without for without, with_log in taken)
        print(f"\nlearn_many, {threads} threads: {ratio:.3f} times the time, {length:.1f} bytes an event")
        assert ratio > 0


def bench_learn_one_with_a_log(tmp_path: Path) -> None:
    users, items, _ = (column[:20_000].tolist() for column in stream())

    def learn(engine: Engine) -> None:
        for user, item in zip(users, items, strict=True):
            engine.learn_one(user, item, timestamp=1.0)

    plain = Engine(**SETTINGS)
    with Engine.open(tmp_path / "folder", checkpoint_bytes=0, **SETTINGS) as durable:
        more = [
            (seconds(lambda: learn(durable)) - seconds(lambda: learn(plain))) / 20_000 * 1e6 for _ in range(TURNS * 2)
        ]
    print(f"\nlearn_one: {statistics.median(more[1:]):+.2f} us, at best {min(more[1:]):+.2f}")
    assert len(more) > 1


def bench_recovery(tmp_path: Path) -> None:
    users, items, times = stream()
    with Engine.open(tmp_path / "folder", checkpoint_bytes=0, **SETTINGS) as engine:
        engine.learn_many(users, items, timestamps=times)
        engine.learn_many(users, items)
        for user, item in zip(users[:100_000].tolist(), items[:100_000].tolist(), strict=True):
            engine.learn_one(user, item)
    taken = seconds(lambda: Engine.open(tmp_path / "folder", checkpoint_bytes=0).close())
    print(f"\nrecovery: {(2 * EVENTS + 100_000) / taken / 1e6:.2f} M events/s")
    assert taken > 0


def checkpoint_beside_others(engine: Engine, folder: Path, what: str) -> None:
    """Takes one while a thread learns single events and another asks, and prints what both felt of it."""
    stop = threading.Event()
    pauses: list[float] = []

    def queries(until: Any) -> list[float]:
        taken: list[float] = []
        while not until() or len(taken) < 200:
            user = len(taken) % 1000
            taken.append(seconds(partial(engine.recommend, user)))
        return taken

    def learn() -> None:
        while not stop.is_set():
            pauses.append(seconds(lambda: engine.learn_one(1, 2)))
            time.sleep(0.001)

    learner = threading.Thread(target=learn)
    learner.start()
    quiet = queries(lambda: True)
    before = max(pauses)
    pauses.clear()
    checkpoint_seconds: list[float] = []
    writer = threading.Thread(target=lambda: checkpoint_seconds.append(seconds(engine.checkpoint)))
    writer.start()
    busy = queries(lambda: not writer.is_alive())
    writer.join()
    stop.set()
    learner.join()
    (snapshot,) = folder.glob("snapshot-*")
    size = snapshot.stat().st_size / 1e6
    p90 = [float(np.percentile(taken, 90)) for taken in (quiet, busy)]
    print(
        f"\n{what}: checkpoint of {size:.0f} MB in {checkpoint_seconds[0]:.2f} s"
        f" ({size / checkpoint_seconds[0]:.0f} MB/s);"
        f" learners waited {max(pauses):.3f} s at most ({before:.3f} without);"
        f" query p90 {p90[1] / p90[0]:.2f} times ({p90[0] * 1e6:.0f} and {p90[1] * 1e6:.0f} us)"
    )
    assert p90[0] > 0


def bench_checkpoint_of_a_million_items(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with Engine.open(tmp_path / "folder", checkpoint_bytes=0, **SETTINGS) as engine:
        for first in range(0, ITEMS, 100_000):
            count = min(100_000, ITEMS - first)
            engine.set_items(range(first, first + count), random.standard_normal((count, 64), dtype=np.float32))
        engine.set_users(range(1000), random.standard_normal((1000, 64), dtype=np.float32))
        engine.maintain()
        checkpoint_beside_others(engine, tmp_path / "folder", f"{ITEMS} items")


def bench_checkpoint_of_the_default_engine(tmp_path: Path) -> None:
    """150,000 users with histories, 50,000 items with neighbours: what is not copied in long runs."""
    random = np.random.default_rng(0)
    users, items = 150_000, 50_000
    with Engine.open(tmp_path / "folder", checkpoint_bytes=0, sync="os", negatives=1, dim=64) as engine:
        engine.set_items(range(items), random.standard_normal((items, 64), dtype=np.float32) * 0.1)
        engine.learn_many(
            random.integers(0, users, EVENTS),
            (random.random(EVENTS) ** 2 * items).astype(int),
            timestamps=1.6e9 + np.arange(EVENTS),
            threads=2,
        )
        engine.maintain()
        checkpoint_beside_others(engine, tmp_path / "folder", f"{users} users, {items} items, {EVENTS} events")


def bench_opening_a_million_items(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    engine = Engine(dim=64, objective="bpr", history=8)
    for first in range(0, ITEMS, 100_000):
        count = min(100_000, ITEMS - first)
        engine.set_items(range(first, first + count), random.standard_normal((count, 64), dtype=np.float32))
    engine.learn_many(
        random.integers(0, 200_000, EVENTS), random.integers(0, ITEMS, EVENTS), timestamps=np.arange(EVENTS)
    )
    engine.save(tmp_path / "engine")  # and in the cache
    del engine
    opened, answered = [], []
    for _ in range(TURNS):
        start = time.perf_counter()
        mapped = Engine.load(tmp_path / "engine", mmap=True)
        opened.append(time.perf_counter() - start)
        answered.append(seconds(partial(mapped.recommend, 5)))
    verified = seconds(lambda: Engine.load(tmp_path / "engine", mmap=True, verify=True))
    copied = seconds(lambda: Engine.load(tmp_path / "engine"))
    size = (tmp_path / "engine").stat().st_size / 1e6
    print(
        f"\n{ITEMS} items, {size:.0f} MB: mapped in {statistics.median(opened) * 1e3:.1f} ms, the first answer"
        f" {statistics.median(answered) * 1e3:.0f} ms later; verified first {verified:.2f} s; read {copied:.2f} s"
    )
    assert max(opened) < copied

"""A service in small, for long: it learns, answers, explores, gains and loses users and items, takes checkpoints and is
opened again. Memory, latencies and recall must be at the end what they were when it had warmed up.

`pytest -m long tests/test_soak.py -s` runs half an hour; RECENGINE_SOAK_SECONDS says otherwise.
"""

from __future__ import annotations

import os
import random
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine, Feedback
from recengine.explore import EpsilonGreedy, Policy, ThompsonSampling
from recengine.retrieval import Cells, Flat

USERS, ITEMS, TASTES = 2_000, 6_000, 12  # live at a time; so many items that they are retrieved by cells
RATE = 2_000  # events a second
K = 10
SETTINGS: dict[str, Any] = {"dim": 16, "objective": "bpr", "history": 4}
POLICIES: list[Policy] = [EpsilonGreedy(0.2), ThompsonSampling(precision="shared")]


@dataclass
class Phase:
    """Between two openings."""

    resident: float = 0.0  # MiB, at its end
    files: float = 0.0  # MiB of the folder
    latencies: array[float] = field(default_factory=lambda: array("f"))  # of recommend, microseconds; small
    recall: float = 0.0  # of Cells(max_cells=4), of 1: the exact ranking
    events: int = 0
    checkpoints: int = 0

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share))

    def __str__(self) -> str:
        return (
            f"{self.resident:7.1f} MiB, files {self.files:6.1f} MiB, p50 {self.quantile(0.5):6.0f} us, "
            f"p99 {self.quantile(0.99):7.0f} us, recall {self.recall:.3f}, {self.events} events, "
            f"{self.checkpoints} checkpoints"
        )


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Shop:
    """Users and items of fixed tastes, of which the oldest are replaced by new ones."""

    def __init__(self) -> None:
        self.first = 0  # of the users and of the items that there are, in rounds of one in a hundred

    def users(self) -> tuple[int, int]:
        return self.first * USERS // 100, self.first * USERS // 100 + USERS

    def items(self) -> tuple[int, int]:
        return self.first * ITEMS // 100, self.first * ITEMS // 100 + ITEMS

    def events(self, count: int, chance: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each user items of the same taste, those with low numbers more often."""
        users = chance.integers(*self.users(), count)
        low, high = self.items()
        offsets = (chance.random(count) ** 2 * (high - low - TASTES)).astype(np.int64)
        return users, low + offsets + (users - low - offsets) % TASTES


class Soak:
    def __init__(self, folder: Path, shop: Shop) -> None:
        self.shop = shop
        self.engine = Engine.open(folder, threads=1, checkpoint_bytes=2**20, **SETTINGS)
        self.engine.feedback_settings = Feedback(capacity=500)
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.phase = Phase()
        self.learned = 0

    def learn(self) -> None:
        chance = np.random.default_rng(1)
        while not self.stop.wait(0.05):
            users, items = self.shop.events(RATE // 20, chance)
            self.engine.learn_many(users[10:], items[10:])
            for user, item in zip(users[:10].tolist(), items[:10].tolist(), strict=True):
                self.engine.learn_one(user, item)
            self.learned += len(users)

    def ask(self) -> None:
        chance = random.Random(2)
        while not self.stop.wait(0.01):
            user = chance.randrange(*self.shop.users())
            start = time.perf_counter_ns()
            self.engine.recommend(user, k=K, exclude_seen=True)
            self.phase.latencies.append((time.perf_counter_ns() - start) / 1e3)

    def explore(self) -> None:
        chance = random.Random(3)
        while not self.stop.wait(0.02):
            ranking = self.engine.recommend(chance.randrange(*self.shop.users()), k=5, explore=chance.choice(POLICIES))
            if not len(ranking.ids):
                continue
            number = self.engine.impression(ranking)
            with suppress(KeyError):  # removed at this very moment
                self.engine.feedback(number, int(ranking.ids[0]), 1.0)

    def churn(self) -> None:
        while not self.stop.wait(0.25):
            self.shop.first += 1
            # Those as well that were learned again while they were removed.
            self.engine.remove_users([number for number in self.engine.users if int(number) < self.shop.users()[0]])
            self.engine.remove_items([number for number in self.engine.items if int(number) < self.shop.items()[0]])

    def run(self, seconds: float) -> Phase:
        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:
                self.failures.append(error)
                self.stop.set()

        works = (self.learn, self.ask, self.explore, self.churn)
        threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join()
        for failure in self.failures:
            raise failure
        self.engine.checkpoint()
        durability = self.engine.stats()["durability"]
        assert durability["checkpoint_error"] is None
        phase = self.phase
        phase.events, phase.checkpoints = self.learned, durability["checkpoints"]
        phase.recall = self.recall()
        phase.resident = resident()
        return phase

    def recall(self) -> float:
        shared = 0
        users = range(self.shop.users()[0], self.shop.users()[1], USERS // 200)
        for user in users:
            exact = self.engine.recommend(user, k=K, retrieval=Flat()).ids
            found = self.engine.recommend(user, k=K, retrieval=Cells(max_cells=4)).ids
            shared += len(np.intersect1d(exact, found))
        return shared / (K * len(users))


def soak(folder: Path, seconds: float, phases: int, report: Callable[[str], None]) -> list[Phase]:
    shop = Shop()
    done: list[Phase] = []
    live = 0
    with Engine.open(folder, **SETTINGS) as engine:
        engine.learn_many(*shop.events(50 * ITEMS, np.random.default_rng(0)))
        engine.checkpoint()
        live = len(engine.items)
    for number in range(phases):
        running = Soak(folder, shop)
        assert len(running.engine.items) == live
        phase = running.run(seconds / phases)
        live = len(running.engine.items)
        assert live <= ITEMS * 1.05
        assert len(running.engine.users) <= USERS * 1.05
        running.engine.close()
        phase.files = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        done.append(phase)
        report(f"phase {number + 1}: {phase}")
    return done


def check_flat(phases: list[Phase], memory: float, latency: float, recall: float) -> None:
    """The last third against the second: memory and files at most so many times as large, latencies so many times as
    long, recall so much less."""
    third = len(phases) // 3
    warm, end = phases[third : 2 * third], phases[-third:]

    def mean(of: Callable[[Phase], float], part: list[Phase]) -> float:
        return float(np.mean([of(phase) for phase in part]))

    assert mean(lambda phase: phase.resident, end) <= memory * mean(lambda phase: phase.resident, warm)
    assert mean(lambda phase: phase.files, end) <= memory * mean(lambda phase: phase.files, warm)
    for latency_of in (lambda phase: phase.quantile(0.5), lambda phase: phase.quantile(0.99)):
        assert mean(latency_of, end) <= latency * mean(latency_of, warm)
    assert mean(lambda phase: phase.recall, end) >= mean(lambda phase: phase.recall, warm) - recall


def test_a_short_soak_is_flat(tmp_path: Path) -> None:
    phases = soak(tmp_path / "shop", 6.0, 6, lambda line: None)
    assert all(phase.checkpoints >= 1 for phase in phases)
    check_flat(phases, memory=1.2, latency=5.0, recall=0.15)  # figures of a second vary


@pytest.mark.long
def test_half_an_hour_is_flat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = float(os.environ.get("RECENGINE_SOAK_SECONDS", "1800"))

    def report(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    check_flat(soak(tmp_path / "shop", seconds, 12, report), memory=1.05, latency=1.5, recall=0.03)

"""Many threads on one engine, from Python: nobody waits for ever, nobody sees what was never there."""

from __future__ import annotations

import itertools
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine

DIM = 8
STABLE = range(100)  # items that stay
CHURNED = range(1000, 1200)  # items that come and go
USERS = range(50)


class Crew:
    """Threads that repeat their work until told to stop; an exception in one stops all and is raised at the end."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.rounds: dict[str, int] = {}
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], object]) -> None:
        self.rounds[name] = 0

        def run() -> None:
            try:
                while not self.stop.is_set():
                    work()
                    self.rounds[name] += 1
            except BaseException as error:
                self._failures.append(error)
                self.stop.set()

        self._threads.append(threading.Thread(target=run, name=name))

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in self._threads:
                thread.join()
        for failure in self._failures:
            raise failure


class Lives:
    """When each item could be seen: from before it was added until after it was removed, by a common counter."""

    def __init__(self) -> None:
        self._clock = itertools.count()
        self._spans: dict[int, list[list[float]]] = {}

    def now(self) -> int:
        return next(self._clock)

    def begin(self, item: int) -> None:
        self._spans.setdefault(item, []).append([self.now(), float("inf")])

    def end(self, item: int) -> None:
        self._spans[item][-1][1] = self.now()

    def seen(self, item: int, first: int, last: int) -> bool:
        return any(begin <= last and end >= first for begin, end in self._spans.get(item, []))


@pytest.mark.parametrize("strings", [False, True], ids=["int", "str"])
def test_mixed_load(strings: bool, tmp_path: Path) -> None:
    """Four learners, four queriers, one who adds and removes items, one who saves."""

    def ids(numbers: Any) -> list[Any]:
        return [f"id:{number}" for number in numbers] if strings else [int(number) for number in numbers]

    def numbers_of(found: Any) -> list[int]:
        return [int(item[3:]) if strings else item for item in found.tolist()]

    engine = Engine(dim=DIM, negatives=4, threads=2)
    engine.set_items(ids(STABLE), np.random.default_rng(0).standard_normal((len(STABLE), DIM)))
    lives = Lives()
    for item in STABLE:
        lives.begin(item)
    crew = Crew()

    def learner(seed: int) -> Callable[[], object]:
        random = np.random.default_rng(seed)

        def learn() -> None:
            users, items = ids(random.integers(len(USERS), size=300)), ids(random.integers(len(STABLE), size=300))
            for user, item in zip(users[:100], items[:100], strict=True):
                engine.learn_one(user, item)
            engine.learn_many(users, items, threads=1 + seed % 2)

        return learn

    def check(ask: Callable[[], Any]) -> None:
        first = lives.now()
        ranking = ask()
        last = lives.now()
        for ids_of_one, count in zip(np.atleast_2d(ranking.ids), np.atleast_1d(ranking.counts), strict=True):
            found = numbers_of(ids_of_one[:count])
            assert len(found) == len(set(found))
            strangers = [item for item in found if not lives.seen(item, first, last)]
            assert strangers == []
        assert not np.isnan(ranking.scores).any()

    def querier(seed: int) -> Callable[[], object]:
        random = np.random.default_rng(seed)

        def query() -> None:
            (user,) = ids(random.integers(len(USERS) + 5, size=1))
            check(lambda: engine.recommend(user, k=200, exclude_seen=bool(seed % 2)))
            check(lambda: engine.recommend(ids(random.integers(len(USERS) + 5, size=40)), k=30))
            check(lambda: engine.recommend(history=ids([3, 1005, 7]), k=20, exclude=ids([1, 1001])))
            check(lambda: engine.similar_items(ids([3])[0], k=200))
            check(lambda: engine.search(random.standard_normal(DIM), k=200))
            assert engine.rank(user, ids([1, 2, 3])).counts == 3
            assert engine.score(user, ids([1, 2, 3])).shape == (3,)
            assert len(engine.factors().item_ids) >= len(STABLE)
            assert engine.stats()["items"] >= len(STABLE)

        return query

    batches = itertools.cycle([list(CHURNED[at : at + 100]) for at in (0, 50, 100)])

    def churn() -> None:  # the only one to add or remove these: it knows what is there
        numbers = next(batches)
        for number in numbers:
            lives.begin(number)
        engine.set_items(ids(numbers), np.ones((len(numbers), DIM)))
        assert all(item in engine.items for item in ids(numbers))
        assert set(numbers) <= set(numbers_of(engine.search(np.ones(DIM), k=500).ids))
        engine.remove_items(ids(numbers))
        for number in numbers:
            lives.end(number)
        assert not any(item in engine.items for item in ids(numbers))
        assert len(engine.items) == len(STABLE)

    def save() -> None:
        engine.save(tmp_path / "engine")
        loaded = Engine.load(tmp_path / "engine")
        assert set(numbers_of(loaded.factors().item_ids)) <= set(STABLE) | set(CHURNED)
        assert loaded.recommend(ids([0])[0], k=500).counts == len(loaded.items)

    for seed in range(4):
        crew.start(f"learner {seed}", learner(seed))
        crew.start(f"querier {seed}", querier(seed))
    crew.start("churn", churn)
    crew.start("save", save)
    with crew.running():
        crew.stop.wait(1.5)
    assert min(crew.rounds.values()) > 0, crew.rounds
    assert list(tmp_path.iterdir()) == [tmp_path / "engine"]


def test_what_was_learned_is_seen_by_every_thread() -> None:
    engine = Engine(dim=DIM)
    engine.learn_one("someone", "something")
    readers = 4
    gate = threading.Barrier(readers + 1, timeout=60)
    wrong: list[str] = []

    def read() -> None:
        for number in range(200):
            gate.wait()  # the event is learned
            user, item = f"u{number}", f"i{number}"
            if user not in engine.users or item not in engine.items:
                wrong.append(f"{user}: not there")
            if item not in engine.recommend("someone", k=1000).ids:
                wrong.append(f"{item}: not recommended")
            if item in engine.recommend(user, k=1000, exclude_seen=True).ids:
                wrong.append(f"{item}: not seen")
            if len(engine.items) != number + 2:
                wrong.append(f"{number + 2} items counted as {len(engine.items)}")
            gate.wait()  # all have looked

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for number in range(200):
        engine.learn_one(f"u{number}", f"i{number}")
        gate.wait()
        gate.wait()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_removals_are_seen_by_every_thread() -> None:
    """And what is removed does not come back, whoever learned or asked meanwhile."""
    engine = Engine(dim=DIM, negatives=2)
    engine.learn_many(np.arange(200) % 7, np.arange(200))
    crew = Crew()
    random = np.random.default_rng(0)
    crew.start("learn", lambda: engine.learn_many(random.integers(0, 7, 500), random.integers(0, 100, 500)))
    crew.start("ask", lambda: engine.recommend(3, k=300))
    with crew.running():
        for item in range(100, 200):
            engine.remove_items([item])
            assert item not in engine.items
            assert item not in engine.recommend(3, k=300).ids
            assert not set(engine.recommend([1, 2], k=300).ids.ravel().tolist()) & set(range(100, item + 1))
    assert sorted(engine.items) == list(range(100))


def test_other_threads_run_while_a_batch_is_learned() -> None:
    """learn_many gives the GIL away: a loop in Python goes on beside it."""
    engine = Engine(dim=128, negatives=256)
    random = np.random.default_rng(0)
    users, items = random.integers(0, 100, 4000), random.integers(0, 1000, 4000)
    engine.learn_many(users[:500], items[:500])
    done = threading.Event()

    def learn() -> None:
        engine.learn_many(users, items)
        done.set()

    learner = threading.Thread(target=learn)
    steps = 0
    learner.start()
    while not done.is_set():
        steps += 1
        time.sleep(0)
    learner.join()
    assert steps > 100


def test_a_hundred_threads() -> None:
    """More threads than cores, each with its own user: no event is lost."""
    engine = Engine(dim=DIM, negatives=2, popularity_half_life=float("inf"))

    def work(user: int) -> None:
        for item in range(20):
            engine.learn_one(user, item)
            engine.recommend(user, k=5)

    threads = [threading.Thread(target=work, args=(user,)) for user in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.stats()["events"] == 2000
    np.testing.assert_allclose(engine.recommend(-1, k=20).scores, 100.0, rtol=1e-3)
    for user in range(100):
        assert engine.recommend(user, k=20, exclude_seen=True).counts == 0


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
def test_importing_the_engine_leaves_the_gil_off() -> None:
    assert not vars(sys)["_is_gil_enabled"]()

"""Living in a process: forks while threads are inside the engine, the end of the interpreter, the GIL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine, Graph
from recengine.diversify import MaxPerGroup
from recengine.explore import UCB, ThompsonSampling

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

USERS, ITEMS = 300, 3000  # more than are scanned in fp32


def outcome(work: Callable[[], Any], seconds: float = 30) -> str:
    """What became of `work` in a forked child: "answered", "hung", or the exception's type and text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            said = "answered"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return "hung"
        time.sleep(0.002)
    with os.fdopen(reader) as pipe:
        return pipe.read()


class Busy:
    """Threads that are inside the engine nearly all the time."""

    def __init__(self, engine: Engine) -> None:
        self.stop = False
        self.errors: list[BaseException] = []
        self.count = 0
        random = np.random.default_rng(0)
        users, items = random.integers(0, USERS, 500), random.integers(0, ITEMS, 500)
        engine.set_groups(range(ITEMS), np.arange(ITEMS) % 7)

        def learn() -> None:
            engine.learn_many(users, items)
            engine.learn_one(1, 2, source="s", offset=self.count)
            self.count += 1

        def show() -> None:
            number = engine.impression(engine.recommend(7, k=5, explore=UCB(1.0, "shared"), diversify=MaxPerGroup(1)))
            assert number > 0

        def label() -> None:
            engine.set_groups(range(ITEMS // 2), (np.arange(ITEMS // 2) + self.count) % 7)
            engine.set_filter("f", range(self.count % 100, self.count % 100 + 500))

        def ask() -> None:
            engine.stats()
            engine.impressions()

        def come_and_go() -> None:
            engine.learn_one(USERS + self.count % 50, 1)
            engine.remove_users([user for user in range(USERS, USERS + 50) if user in engine.users])

        self.threads = [
            threading.Thread(target=self.loop, args=(work,)) for work in (learn, show, label, ask, come_and_go)
        ]

    def loop(self, work: Callable[[], None]) -> None:
        try:
            while not self.stop:
                work()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Busy:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop = True
        for thread in self.threads:
            thread.join()
        assert self.errors == []


@forks
@pytest.mark.parametrize("durable", [False, True])
def test_a_child_forked_while_others_work_answers_everything(durable: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dim": 16, "negatives": 4}
    engine = Engine.open(tmp_path, checkpoint_bytes=0, sync="os", **options) if durable else Engine(**options)
    engine.set_items(range(ITEMS), np.random.default_rng(0).normal(size=(ITEMS, 16)))
    engine.set_users(range(USERS), np.ones((USERS, 16)))

    def asked() -> None:
        engine.stats()
        repr(engine)
        engine.recommend(5, k=10)
        engine.recommend(list(range(100)), k=10)
        engine.recommend(5, k=10, filter=engine.group(1))
        engine.recommend(7, k=5, explore=UCB(1.0, "shared"), diversify=MaxPerGroup(1))
        engine.recommend(7, k=5, explore=ThompsonSampling(1.0))
        engine.similar_items(5)
        engine.similar_items(5, by="behaviour")
        engine.impressions()
        assert engine.feedback_settings.capacity > 0

    def changed() -> None:
        engine.learn_one(1, 2)

    with Busy(engine):
        time.sleep(0.2)
        assert {outcome(asked) for _ in range(25)} == {"answered"}
        for refused in (changed, engine.maintain):
            assert outcome(refused).startswith("RuntimeError: this engine belongs to the parent process")
        # A graph that the parent is building may be had or not: it is not waited for.
        building = threading.Thread(target=lambda: engine.recommend(1, retrieval=Graph()))
        building.start()
        said = outcome(lambda: engine.recommend(1, retrieval=Graph()))
        building.join()
        assert said == "answered" or said.startswith("RuntimeError: the graph was being built")
    if durable:
        engine.close()


@forks
def test_a_child_of_a_mapped_engine_verifies_for_itself(tmp_path: Path) -> None:
    """It is forked before the parent's thread has verified the file, or while it does."""
    engine = Engine(dim=64, history=0, ranker=None, maintenance=False)
    engine.set_items(range(60_000), np.random.default_rng(0).normal(size=(60_000, 64)))
    engine.set_users([1], np.ones((1, 64)))
    engine.save(tmp_path / "engine")
    expected = engine.recommend(1, k=10).ids.tolist()
    mapped = Engine.load(tmp_path / "engine", mmap=True)
    newer = Engine.load(tmp_path / "engine")
    newer.remove_items(expected[0])
    newer.save(tmp_path / "engine")

    def in_child() -> None:
        assert mapped.recommend(1, k=10).ids.tolist() == expected
        deadline = time.monotonic() + 20
        while not mapped.stats()["mapping"]["verified"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            mapped.recommend(1, k=10)
        assert mapped.recommend(1, k=10).ids.tolist() == expected
        assert mapped.reload()
        assert expected[0] not in mapped.items

    assert outcome(in_child) == "answered"
    mapped.maintain()
    with mapped._reloading.setdefault(os.getpid(), threading.Lock()):  # as if the parent were at it
        assert outcome(in_child) == "answered"
    assert mapped.reload()


@forks
def test_damage_is_found_in_a_child_too(tmp_path: Path) -> None:
    engine = Engine(dim=64, history=0, ranker=None, maintenance=False)
    engine.set_items(range(60_000), np.random.default_rng(0).normal(size=(60_000, 64)))
    engine.save(tmp_path / "engine")
    file = bytearray((tmp_path / "engine").read_bytes())
    file[len(file) // 2] ^= 1
    (tmp_path / "engine").write_bytes(file)
    mapped = Engine.load(tmp_path / "engine", mmap=True)

    def in_child() -> None:
        for _ in range(2000):
            mapped.recommend(1)
            time.sleep(0.01)

    assert "FormatError" in outcome(in_child)


def ended(script: str, *arguments: str) -> None:
    """The script ends by itself, without a word."""
    code = textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("attempt", range(3))
def test_the_interpreter_ends_with_daemon_threads_inside_the_engine(attempt: int, tmp_path: Path) -> None:
    ended(
        """
        import sys, threading, time
        import numpy as np
        from recengine import Engine

        engine = Engine.open(sys.argv[1] + "/folder", dim=16, checkpoint_bytes=200_000)
        random = np.random.default_rng(0)
        users, items = random.integers(0, 3000, 200_000), random.integers(0, 9000, 200_000)
        engine.learn_many(users[:20_000], items[:20_000])

        def forever(work):
            def loop():
                while True:
                    work()
            threading.Thread(target=loop, daemon=True).start()

        forever(lambda: engine.learn_many(users, items, threads=2))
        forever(lambda: engine.learn_one(1, 2))
        forever(lambda: engine.recommend(list(range(200)), k=10))
        forever(lambda: engine.save(sys.argv[1] + "/saved"))
        forever(engine.checkpoint)
        time.sleep(0.2 + float(sys.argv[2]) * 0.1)
        """,
        str(tmp_path),
        str(attempt),
    )


def test_others_run_while_an_engine_ends(tmp_path: Path) -> None:
    """Its checkpoint in the background comes to an end first: not with the GIL."""
    engine = Engine.open(tmp_path, dim=256, objective="bpr", history=0, checkpoint_bytes=1 << 20, maintenance=False)
    rows = np.zeros((4000, 256), dtype=np.float32)
    gaps: list[float] = []
    stop = threading.Event()

    def beat() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=beat)
    thread.start()
    for first in range(0, 200_000, 4000):
        engine.set_items(range(first, first + 4000), rows)
    while not any(name.startswith(".recengine-") for name in os.listdir(tmp_path)):
        engine.set_items(range(4000), rows)
    gaps.clear()
    start = time.perf_counter()
    del engine
    taken = time.perf_counter() - start
    stop.set()
    thread.join()
    # A quarter at most: the thread may lose its core for a while.
    assert taken < 0.05 or max(gaps) < taken / 4


def test_a_handler_in_the_middle_of_a_save_cannot_close(tmp_path: Path) -> None:
    ended(
        """
        import os, signal, sys, threading, time
        import numpy as np
        from recengine import Engine

        engine = Engine.open(sys.argv[1] + "/folder", dim=256, history=0, objective="bpr", checkpoint_bytes=1 << 16)
        engine.set_items(range(50_000), np.zeros((50_000, 256), dtype=np.float32))
        refused = []

        def handler(number, frame):
            try:
                engine.close()
            except RuntimeError as error:
                refused.append(str(error))

        signal.signal(signal.SIGALRM, handler)
        while not refused:
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            engine.save(sys.argv[1] + "/saved")
            signal.setitimer(signal.ITIMER_REAL, 0)
            if engine.stats()["durability"]["closed"]:  # the handler came after the save
                engine = Engine.open(sys.argv[1] + "/folder", checkpoint_bytes=1 << 16)
        assert "by the very call that this code interrupts" in refused[0]
        before = engine.stats()["durability"]["checkpoints"]
        deadline = time.monotonic() + 30
        while engine.stats()["durability"]["checkpoints"] == before:  # they still come by themselves
            engine.set_items(range(2000), np.zeros((2000, 256), dtype=np.float32))
            assert time.monotonic() < deadline
        engine.close()
        """,
        str(tmp_path),
    )


def test_the_example_of_processes() -> None:
    example = Path(__file__).resolve().parent.parent / "examples" / "processes.py"
    done = subprocess.run(
        [sys.executable, example, "--events", "2000"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(line.split(":")[0] for line in done.stdout.splitlines()) == ["reader 0", "reader 1"]
    for line in done.stdout.splitlines():
        assert "200 users" in line

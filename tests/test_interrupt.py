"""Ctrl-C in the middle of native work: a KeyboardInterrupt soon, between two events, and an engine that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

# A child that interrupts itself once it is inside the engine; its work would take minutes.
PRELUDE = """
    import json, os, signal, threading, time
    import numpy as np
    from recengine import Engine

    def interrupt_when(condition, number=signal.SIGINT):
        def watch():
            while not condition():
                time.sleep(0.005)
            os.kill(os.getpid(), number)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    def report(**figures):
        print(json.dumps(figures), flush=True)
"""


def run(script: str) -> dict[str, Any]:
    """What the child reports. An interrupt that works needs a second or two of its minute."""
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


@pytest.mark.parametrize("threads", [1, 3])
def test_learn_many(threads: int) -> None:
    """Every event brings a new user: the users are the events that were applied, with one thread the first ones."""
    figures = run(
        f"""
        engine = Engine(dim=256, negatives=512, history=0, popularity_half_life=float("inf"), threads=3)
        engine.set_items(range(5000), np.full((5000, 256), 0.01))
        size = 500_000
        users, items = np.arange(size), np.arange(size) % 5000
        interrupt_when(lambda: len(engine.users) > 0)
        try:
            engine.learn_many(users, items, threads={threads})
        except KeyboardInterrupt as interrupt:
            message = str(interrupt)
        applied = len(engine.users)
        first = sorted(engine.users) == list(range(applied))
        counted = float(engine.recommend(-1, k=5000).scores.sum())
        events = engine.stats()["events"]
        engine.learn_many(users[:100], items[:100])  # goes on
        more = engine.recommend(0).counts
        report(applied=applied, message=message, counted=counted, first=first, events=events, more=more)
        """
    )
    applied = figures["applied"]
    assert 0 < applied < 500_000
    assert figures["message"] == f"{applied} of 500000 events were applied"
    assert figures["counted"] == pytest.approx(applied, rel=1e-3)
    assert figures["events"] == applied
    assert figures["more"] == 10
    if threads == 1:
        assert figures["first"]


def test_learn_many_where_one_thread_has_all_the_work() -> None:
    """One user's events are one thread's: the interrupt reaches it, whichever it is."""
    figures = run(
        """
        messages = []
        for user in range(6):
            engine = Engine(dim=256, negatives=512, threads=4)
            engine.set_items(range(1000), np.full((1000, 256), 0.01))
            watch = interrupt_when(lambda: len(engine.users) > 0)
            try:
                engine.learn_many(np.full(400_000, user), np.arange(400_000) % 1000, threads=4)
            except KeyboardInterrupt as interrupt:
                messages.append(str(interrupt))
            watch.join()
        report(messages=messages)
        """
    )
    assert len(figures["messages"]) == 6
    assert all(message.endswith(" of 400000 events were applied") for message in figures["messages"])


def test_learning_goes_on_where_it_was_interrupted() -> None:
    """Interrupted after n events and given the rest, an engine is what it would have been without the interrupt."""
    figures = run(
        """
        random = np.random.default_rng(0)
        size = 30_000
        users, items = random.integers(0, 500, size), random.integers(0, 1000, size)
        whole, parts = Engine(dim=64, negatives=64), Engine(dim=64, negatives=64)
        whole.learn_many(users, items)
        done, stops, watch = 0, 0, None
        while done < size:
            try:
                if watch is None and stops < 3:
                    begun = parts.stats()["events"]
                    watch = interrupt_when(lambda: parts.stats()["events"] > begun)
                parts.learn_many(users[done:], items[done:])
                done = size
                if watch is not None:
                    watch.join()
            except KeyboardInterrupt as interrupt:
                done += int((str(interrupt) or "0").split()[0])
                stops, watch = stops + 1, None
        same = all(np.array_equal(a, b) for a, b in zip(whole.factors()[:6], parts.factors()[:6]))
        report(same=same, events=parts.stats()["events"], stops=stops)
        """
    )
    assert figures["stops"] > 0
    assert figures["events"] == 30_000
    assert figures["same"]


def test_a_batch_of_queries() -> None:
    figures = run(
        """
        engine = Engine(dim=64, history=0, threads=2)
        engine.set_items(range(100_000), np.random.default_rng(0).standard_normal((100_000, 64)))
        engine.set_users(range(1000), np.random.default_rng(1).standard_normal((1000, 64)))
        users = np.arange(300_000) % 1000
        begun = time.monotonic()
        interrupt_when(lambda: time.monotonic() > begun + 0.3)
        try:
            engine.recommend(users, k=5)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        report(stopped=stopped, after=engine.recommend(5, k=5).counts, queries=engine.stats()["queries"])
        """
    )
    assert figures["stopped"]
    assert figures["after"] == 5
    assert figures["queries"] == 1


def test_what_a_handler_raises_is_what_comes_out() -> None:
    figures = run(
        """
        engine = Engine(dim=256, negatives=512)
        engine.set_items(range(5000), np.full((5000, 256), 0.01))
        def handler(*_):
            raise TimeoutError("enough")
        signal.signal(signal.SIGUSR1, handler)
        users, items = np.arange(500_000) % 100, np.arange(500_000) % 5000
        interrupt_when(lambda: len(engine.users) > 0, signal.SIGUSR1)
        try:
            engine.learn_many(users, items)
        except TimeoutError as error:
            report(error=str(error), users=len(engine.users))
        """
    )
    assert figures["error"] == "enough"
    assert figures["users"] == 100


@pytest.mark.parametrize(
    "act", ["engine.save(path)", "engine.learn_one(7, 7)", "engine.remove_items([4999])", "other.recommend(1)"]
)
def test_a_handler_that_uses_an_engine_does_not_hang(act: str) -> None:
    """It runs in the middle of a call, on the same thread, which would wait for itself: it works or is refused."""
    figures = run(
        f"""
        import tempfile
        engine, other = Engine(dim=256, negatives=512), Engine(dim=1024)
        engine.set_items(range(5000), np.full((5000, 256), 0.01))
        other.learn_one(1, 1)
        folder = tempfile.TemporaryDirectory()
        path = os.path.join(folder.name, "engine")
        def handler(*_):
            try:
                {act}
                outcomes.append("done")
            except RuntimeError as error:
                outcomes.append(str(error))
        outcomes = []
        signal.signal(signal.SIGUSR1, handler)
        users, items = np.arange(3000) % 100, np.arange(3000) % 4000
        watch = interrupt_when(lambda: len(engine.users) > 0, signal.SIGUSR1)
        engine.learn_many(users, items)
        watch.join()
        while not outcomes:
            time.sleep(0.01)
        engine.save(path)
        report(outcomes=outcomes, users=len(Engine.load(path).users))
        """
    )
    assert len(figures["outcomes"]) == 1
    assert figures["users"] >= 100


@pytest.mark.parametrize(
    ("retrieval", "ranker"), [("auto", None), ("Cells()", None), ("Graph(ef=50)", None), ("auto", "mlp")]
)
def test_a_query_in_the_middle_of_others_changes_nothing(retrieval: str, ranker: str | None) -> None:
    """A signal handler ranks on the thread that is ranking a batch: each keeps its own memory."""
    figures = run(
        f"""
        from recengine import Cells, Graph
        rng = np.random.default_rng(0)
        items = rng.normal(size=(6000, 32)).astype(np.float32) * rng.lognormal(size=(6000, 1)).astype(np.float32)
        users = rng.normal(size=(4000, 32)).astype(np.float32)
        engine = Engine.from_factors(range(4000), users, range(6000), items, history=8, ranker={ranker!r})
        engine.learn_many(rng.integers(0, 20, 2000), rng.integers(0, 6000, 2000))
        options = dict(k=20, retrieval={retrieval!r} if {retrieval!r} == "auto" else {retrieval})
        engine.maintain()
        batch = list(range(4000))
        expected, one = engine.recommend(batch, **options).ids, engine.recommend(7, **options).ids
        ranked = engine.rank(9, range(6000)).ids
        calls, same = 0, True
        def handler(number, frame):
            global calls, same
            calls += 1
            same = same and bool((engine.recommend(7, **options).ids == one).all())
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        rounds = 0
        while calls < 20:
            same = same and bool((engine.recommend(batch, **options).ids == expected).all())
            same = same and bool((engine.rank(9, range(6000)).ids == ranked).all())
            rounds += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        report(calls=calls, same=same, rounds=rounds)
        """
    )
    assert figures["calls"] >= 20
    assert figures["rounds"] >= 1
    assert figures["same"]


@pytest.mark.parametrize("method", ["'ials'", "'softmax'", "'sgd'", "Ials(steps=1000)", "Softmax(negatives=100_000)"])
def test_fit_keeps_what_is_learned(method: str) -> None:
    """The interrupt comes in the middle of an epoch: the result says how many were finished, and the engine goes on."""
    figures = run(
        f"""
        from recengine import Ials, Softmax
        random = np.random.default_rng(0)
        engine = Engine(dim=128, history=0, threads=2)
        users, items = random.integers(0, 30_000, 600_000), random.integers(0, 30_000, 600_000)
        learned_at = []

        def is_training():  # a while after the pairs have been recorded
            if not learned_at and engine.stats()["events"] >= len(users):
                learned_at.append(time.monotonic())
            return bool(learned_at) and time.monotonic() > learned_at[0] + 0.5

        interrupt_when(is_training)
        result = engine.fit(users, items, method={method}, epochs=100_000)
        finite = bool(np.isfinite(engine.factors().item_vectors).all())
        count = engine.recommend(5, k=5).counts
        report(interrupted=result.interrupted, epochs=result.epochs, finite=finite, count=count)
        """
    )
    assert figures["interrupted"]
    assert figures["epochs"] < 100_000
    assert figures["finite"]
    assert figures["count"] == 5


@pytest.mark.parametrize(
    "asked", ["explore=ThompsonSampling(samples=100_000, candidates=4096)", "diversify=DPP()", "explore=SquareCB()"]
)
def test_a_long_choice(asked: str) -> None:
    """A policy over thousands of candidates: nothing is chosen, and the engine goes on."""
    figures = run(
        f"""
        from recengine.diversify import DPP
        from recengine.explore import Random, SquareCB, ThompsonSampling

        random = np.random.default_rng(0)
        engine = Engine.from_factors([1], random.normal(size=(1, 256)), range(4096), random.normal(size=(4096, 256)))
        started = threading.Event()
        interrupt_when(started.is_set)
        try:
            started.set()
            for _ in range(1000):
                engine.recommend(1, k=4096, {asked})
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        report(stopped=stopped, more=engine.recommend(1, k=3, explore=Random()).counts)
        """
    )
    assert figures == {"stopped": True, "more": 3}


@pytest.mark.parametrize("salvage", [False, True])
def test_recovery_is_all_or_nothing(salvage: bool, tmp_path: Path) -> None:
    """Wherever Ctrl-C comes, the folder is as it was, with a torn tail that salvage would cut off too."""
    figures = run(
        f"""
        import pathlib
        folder = pathlib.Path({str(tmp_path)!r}) / "folder"
        options = dict(maintenance=False, checkpoint_bytes=0)
        n = 150_000
        with Engine.open(folder, dim=32, negatives=32, sync="os", **options) as engine:
            engine.learn_many(np.arange(n) % 1000, np.arange(n) % 700)
            engine.learn_one(1, 2)
        (log,) = folder.glob("log-*")
        log.write_bytes(log.read_bytes() + b"x" * 40)
        before = {{path.name: path.read_bytes() for path in folder.iterdir()}}
        outcomes = set()
        took = 0.0
        for share in (None, 0.05, 0.3, 0.6, 0.9):
            if share is not None:
                signal.setitimer(signal.ITIMER_REAL, took * share)
            start = time.monotonic()
            try:
                Engine.open(folder, salvage={salvage} and share is not None, **options).close()
            except KeyboardInterrupt:
                outcomes.add("stopped")
                after = {{path.name: path.read_bytes() for path in folder.iterdir()}}
                same = all(after[name] == before[name] for name in before if name != "lock")
                if not same:
                    outcomes.add("changed")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if share is None:
                took = time.monotonic() - start
                signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
                for name, data in before.items():
                    (folder / name).write_bytes(data)
        with Engine.open(folder, **options) as engine:
            report(outcomes=sorted(outcomes), events=engine.stats()["events"])
        """
    )
    assert figures == {"outcomes": ["stopped"], "events": 150_001}


def test_setting_rows_says_how_far_it_came() -> None:
    figures = run(
        """
        engine = Engine(dim=512, history=0, threads=1)
        rows = np.zeros((400_000, 512), dtype=np.float32)
        interrupt_when(lambda: len(engine.items) > 0)
        try:
            engine.set_items(range(len(rows)), rows)
        except KeyboardInterrupt as interrupt:
            message = str(interrupt)
        report(message=message, items=len(engine.items))
        """
    )
    assert figures["message"] == f"{figures['items']} of 400000 rows were set"


def test_a_source_knows_what_was_taken_of_a_batch_on_several_threads() -> None:
    figures = run(
        """
        engine = Engine(dim=256, negatives=512, history=0, threads=3)
        engine.set_items(range(5000), np.full((5000, 256), 0.01))
        size = 500_000
        interrupt_when(lambda: len(engine.users) > 0)
        try:
            engine.learn_many(np.arange(size), np.arange(size) % 5000, threads=3, source="orders", offset=0)
        except KeyboardInterrupt as interrupt:
            message = str(interrupt)
        taken = engine.stats()["sources"]["orders"] + 1
        first = sorted(engine.users) == list(range(taken))
        report(message=message, taken=taken, first=first)
        """
    )
    assert figures["message"] == f"{figures['taken']} of 500000 events were applied"
    assert 0 < figures["taken"] < 500_000
    assert figures["first"]

"""Events that cannot be learned from: refused with their batch, or left out, counted and without a trace."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine

Event = tuple[Any, Any, Any, Any, Any]  # user, item, value, timestamp, weight

NAN, INFINITY = math.nan, math.inf
KINDS: list[dict[str, Any]] = [
    {"dim": 4, "objective": "softmax", "negatives": 3},
    {"dim": 3, "objective": "bpr", "history": 0},
    {"dim": 2, "objective": "logistic", "negatives": 1},
    {"dim": 2, "objective": "squared"},
]
every_kind = pytest.mark.parametrize("options", KINDS, ids=lambda options: options["objective"])


def image(engine: Engine) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "engine")
        return (Path(folder) / "engine").read_bytes()


def reasons(engine: Engine) -> dict[str, int]:
    return {reason: count for reason, count in engine.stats()["bad_events"].items() if count}


def why_bad(event: Event, objective: str) -> str | None:
    """The reference: the first thing that is wrong with an event whose ids shall be texts."""
    user, item, value, timestamp, weight = event
    if not isinstance(value, (int, float)) or not abs(value) <= 1e6:
        return "value"
    if value not in (0, 1) if objective == "logistic" else value == 0 and objective != "squared":
        return "value"
    if not isinstance(weight, (int, float)) or not 0 <= weight <= 1e6:
        return "weight"
    if not isinstance(timestamp, (int, float)) or not -1e15 <= timestamp <= time.time() + 86400:
        return "timestamp"
    for name, value in (("user", user), ("item", item)):
        if not isinstance(value, str):
            return name
        try:
            if len(value.encode()) > 512:
                return name
        except UnicodeEncodeError:
            return name
    return None


ids = st.sampled_from(["a", "b", "ünï", "", "x" * 512]) | st.sampled_from(
    ["x" * 513, "é" * 300, "\ud800", None, 7, 1.5]
)
numbers = st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.5, -1.0]) | st.sampled_from(
    [NAN, INFINITY, -INFINITY, 1e16, 1e300, None]
)
times = st.integers(0, 10**6).map(float) | st.sampled_from(
    [-1e15, NAN, INFINITY, 1e18, -1e18, 1e14, 1.7e12, None, "now"]
)
events = st.tuples(ids, ids, numbers, times, numbers)


@every_kind
@settings(max_examples=40, deadline=None)
@given(batch=st.lists(events, min_size=1, max_size=30), durable=st.booleans())
def test_skipped_events_leave_no_trace(options: dict[str, Any], batch: list[Event], durable: bool) -> None:
    """The engine is, bit for bit, the one that met only the good events, and is so again after recovery."""
    bad = [why_bad(event, options["objective"]) for event in batch]
    good = [event for event, reason in zip(batch, bad, strict=True) if reason is None]
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.open(folder, **options) if durable else Engine(**options)
        engine.learn_many(["a"], ["b"])  # texts it is
        twin = Engine(**options)
        twin.learn_many(["a"], ["b"])
        offsets = np.arange(len(batch)) * 3
        users, items, values, timestamps, weights = zip(*batch, strict=True)
        engine.learn_many(users, items, values, timestamps, weights, source="s", offset=offsets, on_bad="skip")
        for user, item, value, timestamp, weight in good:
            twin.learn_one(user, item, value, weight, timestamp)
        twin.learn_many(["a"], [None], source="s", offset=int(offsets[-1]), on_bad="skip")  # nothing but the offset
        assert sum(reasons(engine).values()) == len(batch) - len(good)
        assert reasons(engine) == {reason: bad.count(reason) for reason in set(bad) - {None}}
        assert engine.stats()["events"] == 1 + len(good)
        assert engine.stats()["sources"] == {"s": offsets[-1]}
        assert image(engine) == image(twin)
        if durable:
            engine.close()
            again = Engine.open(folder)
            assert image(again) == image(twin)
            again.close()


@every_kind
@settings(max_examples=30, deadline=None)
@given(batch=st.lists(events, min_size=1, max_size=20))
def test_one_bad_event_refuses_the_batch(options: dict[str, Any], batch: list[Event]) -> None:
    """Before anything changes, not even the engine's clock."""
    engine = Engine(**options)
    engine.learn_many(["a"], ["b"])
    before = image(engine)
    users, items, values, timestamps, weights = (list(column) for column in zip(*batch, strict=True))
    if all(why_bad(event, options["objective"]) is None for event in batch):
        engine.learn_many(users, items, values, timestamps, weights)
    else:
        with pytest.raises((ValueError, TypeError)):
            engine.learn_many(users, items, values, timestamps, weights)
        assert image(engine) == before
        assert reasons(engine) == {}


def test_numbers_and_other_columns() -> None:
    engine = Engine(dim=2)
    engine.learn_many([1, None, 2**63, 3, "x"], np.array([1, 2, 3, 4, 5]), on_bad="skip")
    assert sorted(engine.users) == [1, 3]
    assert sorted(engine.items) == [1, 4]
    assert reasons(engine) == {"user": 3}
    engine.learn_many(np.array([5, 2**63], dtype=np.uint64), pa.array([7, None]), on_bad="skip")
    assert reasons(engine) == {"user": 4}
    engine.learn_many(np.array([6, None, 8], dtype=object), pa.array([7, 8, None]), on_bad="skip")
    assert reasons(engine) == {"user": 5, "item": 1}
    times = np.array([np.datetime64("2020-01-01"), np.datetime64("NaT")])
    engine.learn_many([9, 9], [9, 9], timestamps=times, on_bad="skip")
    assert reasons(engine) == {"user": 5, "item": 1, "timestamp": 1}


def test_ids_of_the_first_kind_or_of_the_engine() -> None:
    engine = Engine(dim=2)
    engine.learn_many([None, 1, "one"], ["a", "b", 3], on_bad="skip")
    assert list(engine.users) == [1]
    assert list(engine.items) == ["b"]
    engine.learn_many(["two", 2], [5, "c"], on_bad="skip")  # the engine's kind, not the column's first
    assert sorted(engine.users) == [1, 2]
    with pytest.raises(TypeError, match="str or int, not float64"):
        engine.learn_many(np.array([1.0]), ["a"], on_bad="skip")  # no column of ids
    with pytest.raises(ValueError, match="equal length"):
        engine.learn_many([1, 2], ["a"], on_bad="skip")


def test_offsets_of_skipped_events_are_taken() -> None:
    """Also those at the end, and those of a batch without a good event."""
    with tempfile.TemporaryDirectory() as folder:
        with Engine.open(folder, dim=2) as engine:
            engine.learn_many([1, 1, 1], [1, None, None], source="s", offset=5, on_bad="skip")
            assert engine.stats()["sources"] == {"s": 7}
            engine.learn_many([1, 1], [None, None], source="s", offset=8, on_bad="skip")
            assert engine.stats()["sources"] == {"s": 9}
            engine.learn_many([2, 2], [None, 3], source="s", offset=9, on_bad="skip")  # the first was there before
            assert engine.stats()["sources"] == {"s": 10}
            assert reasons(engine) == {"item": 4}
        with Engine.open(folder) as again:
            assert again.stats()["sources"] == {"s": 10}
            assert again.stats()["events"] == 2


def test_unknown_choice() -> None:
    with pytest.raises(ValueError, match="on_bad must be 'raise' or 'skip', not 'ignore'"):
        Engine(dim=2).learn_many([1], [1], on_bad="ignore")  # type: ignore[arg-type]


# ---- time


@pytest.mark.parametrize("moment", [1e18, -1e18, 1e15 * 1.01, NAN, INFINITY, -INFINITY])
def test_times_out_of_range(moment: float) -> None:
    engine = Engine(dim=2, max_ahead=INFINITY)
    with pytest.raises(ValueError, match="timestamp"):
        engine.learn_one(1, 1, timestamp=moment)
    with pytest.raises(ValueError, match="timestamp"):
        engine.learn_many([1], [1], timestamps=[moment])
    assert len(engine.users) == 0
    assert engine.stats()["latest_timestamp"] is None


def test_times_ahead() -> None:
    now = time.time()
    engine = Engine(dim=2, max_ahead=100.0)
    engine.learn_one(1, 1, timestamp=now + 90)
    with pytest.raises(ValueError, match="at most max_ahead = 100 seconds ahead of the clock"):
        engine.learn_one(1, 1, timestamp=now + 200)
    with pytest.raises(ValueError, match="are these seconds"):
        engine.learn_many([1, 1], [1, 1], timestamps=[now, now * 1000])
    engine.learn_many([1, 1], [1, 1], timestamps=[now, now + 200], on_bad="skip")
    assert engine.stats()["events"] == 2
    assert engine.stats()["latest_timestamp"] == now + 90
    assert engine.settings["max_ahead"] == 100.0
    for wrong in (-1.0, NAN):
        with pytest.raises(ValueError, match="max_ahead"):
            Engine(max_ahead=wrong)


def test_what_was_learned_is_recovered_whatever_the_clock_says() -> None:
    """An event is checked when it comes, not again when the log is replayed (here by a smaller limit's engine)."""
    with tempfile.TemporaryDirectory() as folder:
        with Engine.open(folder, dim=2, max_ahead=INFINITY) as engine:
            engine.learn_one(1, 1, timestamp=1e12)
        with Engine.open(folder) as again:
            assert again.settings["max_ahead"] == INFINITY
            assert again.stats()["latest_timestamp"] == 1e12


DAY = 86400.0


def taste(engine: Engine, users: range, items: int) -> float:
    """How many of the users' best five are of their own half of the items."""
    hits = [int(item) % 2 == user % 2 for user in users for item in engine.recommend(user, k=5).ids.tolist()]
    assert len(hits) == 5 * len(users)
    return float(np.mean(hits))


def stream(rng: np.random.Generator, count: int, users: int, items: int) -> tuple[Any, Any]:
    who = rng.integers(0, users, count)
    return who, rng.integers(0, items // 2, count) * 2 + who % 2


POISON = {
    "from the past": -1e15,
    "before the epoch": -1.0,
    "in milliseconds": time.time() * 1000,
    "a day ahead": time.time() + 0.99 * DAY,
}


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("ranker", ["linear", None])
def test_poisoned_times_are_forgotten(name: str, ranker: Any) -> None:
    """One event in five has a wrong time for a while; then it is as if there had been none: the popularity of the
    items, who is in a session, and what is recommended."""
    users, items, start = 20, 40, time.time() - 60 * DAY
    rng = np.random.default_rng(1)
    engines = [Engine(dim=8, negatives=8, ranker=ranker, learning_rate=0.2) for _ in range(2)]
    for phase in range(3):
        who, what = stream(rng, 3000, users, items)
        moments = start + phase * 20 * DAY + np.sort(rng.uniform(0, 20 * DAY, 3000))
        for poisoned, engine in enumerate(engines):
            times = moments.copy()
            if poisoned and phase == 1:
                times[::5] = POISON[name]
            engine.learn_many(who, what, timestamps=times, on_bad="skip")
    clean, abused = engines
    assert taste(abused, range(users), items) > taste(clean, range(users), items) - 0.05
    assert taste(abused, range(users), items) > 0.8
    popular = [engine.recommend(-1, k=items) for engine in engines]
    for ranking in popular:
        assert np.all(np.isfinite(ranking.scores))
    # Clicks of a day ahead weigh a little more until then; nothing else is left of any of them.
    counts = [dict(zip(p.ids.tolist(), p.scores.tolist(), strict=True)) for p in popular]
    now = [engine.stats()["latest_timestamp"] for engine in engines]
    assert abs(now[1] - now[0]) <= (61 * DAY if name == "a day ahead" else 0)
    assert all(0 < count < 3000 for counted in counts for count in counted.values())


def test_time_that_runs_backwards() -> None:
    """A stream in reverse: finite, and the clock is its maximum."""
    engine = Engine(dim=4, negatives=2)
    moments = np.linspace(1.7e9, 0, 500)
    engine.learn_many(np.arange(500) % 7, np.arange(500) % 11, timestamps=moments)
    assert engine.stats()["latest_timestamp"] == 1.7e9
    assert np.all(np.isfinite(engine.recommend(3, k=11).scores))
    assert np.all(np.isfinite(engine.recommend(-1, k=11).scores))

"""Capacity: no more users and items than there may be; who goes where there is no room."""

from __future__ import annotations

import math
import resource
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine
from recengine.explore import Greedy

Event = tuple[int, int]

KINDS: list[dict[str, Any]] = [
    {"dim": 4, "objective": "softmax", "negatives": 3},
    {"dim": 3, "objective": "bpr", "history": 0},
    {"dim": 2, "objective": "squared"},
]


def image(engine: Engine) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "engine")
        return (Path(folder) / "engine").read_bytes()


class Table:
    """The reference: ids in the order of their last use."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used: dict[int, int] = {}
        self.clock = 0

    def use(self, *ids: int) -> None:
        """All at once: none of them makes room for another."""
        fresh = sum(key not in self.used for key in ids)
        if excess := max(0, len(self.used) + fresh - self.most):
            oldest = sorted((use, key) for key, use in self.used.items() if key not in ids)
            for _, key in oldest[: max(excess, self.most // 32)]:
                del self.used[key]
        for key in ids:
            self.clock += 1
            self.used[key] = self.clock


events = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200)), min_size=1, max_size=60)
programs = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), events),
        st.tuples(st.just("learn"), events),
        st.tuples(st.just("set_items"), st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True)),
        st.tuples(st.just("set_users"), st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("filter"), st.integers(0, 50)),
        st.tuples(st.just("save")),
    ),
    min_size=1,
    max_size=12,
)


def learn_singly(engine: Engine, batch: list[Event]) -> None:
    for user, item in batch:
        engine.learn_one(user, item)


def learn_together(engine: Engine, batch: list[Event]) -> None:
    engine.learn_many([user for user, _ in batch], [item for _, item in batch])


@pytest.mark.parametrize("options", KINDS, ids=lambda options: options["objective"])
@settings(max_examples=40, deadline=None)
@given(program=programs, capacity=st.sampled_from([(4, 30), (7, 70), (31, None), (None, 64)]), together=st.booleans())
def test_the_least_recent_go(
    options: dict[str, Any], program: list[tuple[str, Any]], capacity: tuple[Any, Any], together: bool
) -> None:
    """As the reference has it; the same, bit for bit, in batches and one by one, and after recovery from any part of
    the log; a filter's items go with the others."""
    max_users, max_items = capacity
    settings = {**options, "max_users": max_users, "max_items": max_items, "evict": "lru"}
    users, items = Table(max_users or 10**9), Table(max_items or 10**9)
    with tempfile.TemporaryDirectory() as folder:
        durable, plain = Engine.open(folder, **settings), Engine(**settings)
        for name, *arguments in program:
            for engine, learn in ((durable, learn_together if together else learn_singly), (plain, learn_singly)):
                if name == "learn":
                    learn(engine, arguments[0])
                elif name == "filter":
                    engine.set_filter("f", [item for item in range(arguments[0]) if item in engine.items])
                elif name == "save":
                    image(engine)
                else:
                    ids = arguments[0][: max_items if name == "set_items" else max_users]
                    getattr(engine, name)(ids, np.ones((len(ids), options["dim"])))
            if name == "learn":
                for user, item in arguments[0]:
                    users.use(user)
                    items.use(item)
            elif name in ("set_items", "set_users"):
                (items if name == "set_items" else users).use(*ids)
            assert set(durable.users) == set(users.used)
            assert set(durable.items) == set(items.used)
        assert image(durable) == image(plain)
        durable.close()
        again = Engine.open(folder)
        assert image(again) == image(plain)
        learn_together(again, [(1, 1), (99, 500), (98, 501), (97, 502)])
        learn_singly(plain, [(1, 1), (99, 500), (98, 501), (97, 502)])
        assert image(again) == image(plain)
        if "f" in again.filters:
            matching = again.recommend(-1, k=300, filter=again.filter("f")).ids.tolist()
            assert set(matching) <= set(again.items)
        assert again.settings["max_users"] == max_users
        assert again.settings["evict"] == "lru"
        again.close()


def test_what_goes_leaves_nothing_behind() -> None:
    """Filters, groups, co-occurrence, histories, impressions: an id that comes back is new."""
    engine = Engine(dim=4, max_items=4, max_users=3, evict="lru")
    engine.learn_many(["u"] * 4, ["a", "b", "c", "d"])
    engine.set_filter("f", ["a", "b"])
    engine.set_groups(["a", "b", "c"], ["g", "g", "h"])
    shown = engine.impression(engine.recommend("u", k=4, explore=Greedy()))
    engine.learn_one("u", "e")
    assert "a" not in engine.items
    assert engine.recommend("u", filter=engine.filter("f")).ids.tolist() == ["b"]
    assert engine.recommend("u", filter=engine.group("g")).ids.tolist() == ["b"]
    assert "a" not in engine.similar_items("b", by="behaviour").ids.tolist()
    assert "a" not in engine.recommend("u").ids.tolist()
    engine.learn_one("u", "a")  # and "b" goes
    assert engine.recommend("u", filter=engine.filter("f")).ids.tolist() == []
    for user in ("v", "w", "x"):
        engine.learn_one(user, "a")
    assert sorted(engine.users) == ["v", "w", "x"]
    with pytest.raises(KeyError, match="user was removed"):
        engine.feedback(shown, "c", 1.0)


def test_an_error_names_the_capacity_and_changes_nothing(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "folder", dim=2, max_users=3, max_items=2) as engine:
        engine.learn_many([1, 2], [10, 11])
        before = image(engine)
        with pytest.raises(ValueError, match="max_items is 2, and 2 are there: no room for 1 new"):
            engine.learn_one(1, 12)
        with pytest.raises(ValueError, match="max_users is 3, and 2 are there: no room for 2 new"):
            engine.learn_many([1, 3, 1, 3, 4], [10, 11, 10, 10, 10])
        with pytest.raises(ValueError, match="max_items is 2"):
            engine.set_items([12], [[1.0, 1.0]])
        with pytest.raises(ValueError, match="max_users is 3"):
            engine.set_users([3, 4], np.ones((2, 2)))
        with pytest.raises(ValueError, match="max_items is 2"):
            engine.fit([1, 1], [10, 12], method="ials", epochs=1)
        assert image(engine) == before
        engine.set_users([1, 3], np.ones((2, 2)))
        engine.remove_items([10])
        engine.learn_one(3, 12)  # what was removed makes room
        with pytest.raises(ValueError, match="max_items"):
            engine.learn_one(3, 13)
        state = image(engine)
    with Engine.open(tmp_path / "folder") as again:
        assert image(again) == state
        assert again.settings["max_items"] == 2
        with pytest.raises(ValueError, match="max_items"):
            again.learn_one(3, 13)


def test_without_room_is_a_reason_to_skip() -> None:
    engine = Engine(dim=2, max_users=2, max_items=2)
    engine.learn_many([1, 1, 2, 1, 3, 3, 2], [10, 12, 11, 11, 10, 99, 10], values=[1, 0, 1, 1, 1, 0, 1], on_bad="skip")
    reasons = {reason: count for reason, count in engine.stats()["bad_events"].items() if count}
    assert reasons == {"value": 2, "max_users": 1}
    engine.learn_many([1, 4, 1], [13, 13, 11], on_bad="skip")
    reasons = {reason: count for reason, count in engine.stats()["bad_events"].items() if count}
    assert reasons == {"value": 2, "max_users": 2, "max_items": 1}
    assert sorted(engine.users) == [1, 2]
    assert sorted(engine.items) == [10, 11]
    assert engine.stats()["events"] == 5


def test_more_than_fits_at_once() -> None:
    """A batch may hold more ids than there may be, a fit may not."""
    engine = Engine(dim=2, history=0, ranker=None, max_users=50, max_items=40, evict="lru")
    engine.learn_many(np.arange(5000), np.arange(5000) % 777, threads=2)
    assert len(engine.users) <= 50
    assert len(engine.items) <= 40
    assert max(engine.users) == 4999
    engine.set_items(range(300), np.ones((300, 2)))
    assert sorted(engine.items)[-1] == 299
    assert len(engine.items) <= 40
    with pytest.raises(ValueError, match="max_users is 50"):
        engine.fit(np.arange(51), np.zeros(51, int), method="ials", epochs=1)
    engine.fit(np.arange(50), 1000 + np.arange(50) % 40, method="ials", epochs=1)
    assert sorted(engine.users) == list(range(50))
    assert sorted(engine.items) == list(range(1000, 1040))


@pytest.mark.parametrize("wrong", [{"max_users": 0}, {"max_items": -1}, {"max_items": 2**40}, {"evict": "fifo"}])
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Engine(**wrong)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="max_users"):
        Engine(max_users=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="user_budget"):
        Engine(user_budget="many")  # type: ignore[arg-type]


def resident() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def stranger_stream(first: int, count: int) -> tuple[Any, Any]:
    """One event of each new user; items wear out too."""
    users = np.arange(first, first + count)
    return users, users % 50 + users // 5000


def run_strangers(total: int, most: int, chunk: int) -> tuple[Engine, list[float]]:
    engine = Engine(dim=16, negatives=4, max_users=most, max_items=1000, evict="lru")
    memory = []
    for first in range(0, total, chunk):
        engine.learn_many(*stranger_stream(first, chunk))
        assert len(engine.users) <= most
        memory.append(resident())
    return engine, memory


def check_strangers(engine: Engine, memory: list[float], total: int, most: int) -> None:
    last = np.array(sorted(engine.users))
    assert last[-1] == total - 1
    assert len(last) >= most - most // 32
    np.testing.assert_array_equal(last, np.arange(total - len(last), total))  # those who came last, all of them
    warm = memory[len(memory) // 3]
    assert memory[-1] - warm < 8 + 0.05 * warm, memory
    for user in last[:: len(last) // 5].tolist():
        assert engine.recommend(user, k=5).counts == 5


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_strangers_without_end() -> None:
    total, most = 150_000, 2000
    check_strangers(*run_strangers(total, most, 5000), total, most)


@pytest.mark.long
def test_ten_million_strangers() -> None:
    total, most = 10_000_000, 100_000
    engine, memory = run_strangers(total, most, 100_000)
    print(f"\nresident MiB after each tenth: {[round(m) for m in memory[9::10]]}")
    check_strangers(engine, memory, total, most)


def test_threads_share_the_room() -> None:
    """Learners on several threads, batches and single events, queries and removals beside them."""
    engine = Engine(dim=8, negatives=2, max_users=100, max_items=80, evict="lru")
    stop = threading.Event()
    failures: list[BaseException] = []

    def learner(number: int) -> None:
        rng = np.random.default_rng(number)
        while not stop.is_set():
            engine.learn_many(rng.integers(0, 1000, 500), rng.integers(0, 300, 500), threads=2)
            engine.learn_one(int(rng.integers(0, 1000)), int(rng.integers(0, 300)))

    def watcher() -> None:
        while not stop.is_set():
            assert len(engine.users) <= 100
            assert len(engine.items) <= 80
            assert np.all(np.isfinite(engine.recommend(5, k=10).scores))

    def guarded(work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(learner, number)) for number in range(3)]
    threads.append(threading.Thread(target=guarded, args=(watcher,)))
    for thread in threads:
        thread.start()
    stop.wait(1.5)
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures
    engine.learn_many(np.arange(100), np.arange(100) % 80)
    assert set(range(3, 100)) <= set(engine.users)  # three go at once


# ---- a budget for each user


def shares(engine: Engine, users: range, items: int) -> float:
    hits = [int(item) % 2 == user % 2 for user in users for item in engine.recommend(user, k=5).ids.tolist()]
    return float(np.mean(hits))


def flood(budget: float | None, flooded: bool) -> tuple[Engine, np.ndarray[Any, Any]]:
    """Thirty users with a taste for half of forty items each; one of them clicks a new item without end."""
    rng = np.random.default_rng(3)
    engine = Engine(dim=8, negatives=8, user_budget=budget)
    moments = 1.7e9 + np.arange(6000) * 60.0
    users = rng.integers(0, 30, 6000)
    items = rng.integers(0, 20, 6000) * 2 + users % 2
    for begin in range(0, 6000, 500):
        part = slice(begin, begin + 500)
        engine.learn_many(users[part], items[part], timestamps=moments[part])
        if flooded:
            engine.learn_many(np.full(2000, 77), np.full(2000, 999), timestamps=np.full(2000, moments[part][-1]))
    return engine, items


def test_one_user_cannot_lift_an_item_for_others() -> None:
    guarded, _ = flood(5.0, True)
    quiet, _ = flood(5.0, False)
    defenceless, _ = flood(None, True)
    assert shares(guarded, range(30), 40) > shares(quiet, range(30), 40) - 0.05

    def place(engine: Engine, user: int) -> int:
        ids = engine.recommend(user, k=41).ids.tolist()
        return int(ids.index(999)) if 999 in ids else 41

    places = [place(guarded, user) for user in range(30)]
    assert place(defenceless, -1) == 0  # it would be the most popular one
    assert place(guarded, -1) > 0
    assert np.mean(places) > 15
    assert guarded.stats()["over_budget"] == quiet.stats()["over_budget"] + 12 * (2000 - 5)
    assert guarded.stats()["events"] == quiet.stats()["events"] + 24000
    # The user has seen it all the same.
    assert 999 not in guarded.recommend(77, k=41, exclude_seen=True).ids.tolist()


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 1.0, 100.0, 700.0, 1800.0, 5000.0, -500.0]), min_size=1, max_size=60),
    budget=st.sampled_from([1.0, 2.0, 3.5, 10.0]),
    start=st.sampled_from([0.0, -1e6, 1.7e9]),
)
def test_budget_is_a_token_bucket(gaps: list[float], budget: float, start: float) -> None:
    """It holds an hour's steps and fills by as many an hour of the engine's clock, which never runs backwards. The
    same in batches, one by one and after loading."""
    moments = (start + np.cumsum(gaps)).tolist()
    one, many = (Engine(dim=2, history=2, user_budget=budget, ranker=None) for _ in range(2))
    tokens, clock, over = budget, -math.inf, 0
    for number, moment in enumerate(moments):
        if moment > clock:
            tokens = min(budget, tokens + (moment - clock) * budget / 3600) if clock > -math.inf else budget
            clock = moment
        if tokens >= 0.75:  # half a step is let pass, for rounding; no sum here lies between
            tokens -= 1
        elif tokens < 0.25:
            over += 1
        else:
            return  # rounding decides
        one.learn_one(1, number % 3, timestamp=moment)
        if number == len(moments) // 2:
            with tempfile.TemporaryDirectory() as folder:
                one.save(Path(folder) / "engine")
                one, counted = Engine.load(Path(folder) / "engine"), one.stats()["over_budget"]
            over -= counted
    many.learn_many([1] * len(moments), [number % 3 for number in range(len(moments))], timestamps=moments)
    assert one.stats()["over_budget"] == over
    assert image(one) == image(many)


def test_what_is_over_budget_moves_nothing() -> None:
    """Neither rows, nor popularity, nor neighbours, nor the ranker: only what the user has seen."""
    rng = np.random.default_rng(0)
    engine = Engine(dim=4, negatives=3, user_budget=50.0)
    engine.learn_many(rng.integers(0, 40, 1000), rng.integers(0, 30, 1000), timestamps=np.arange(1000.0))
    engine.learn_many([7] * 60, rng.integers(0, 30, 60), timestamps=[1000.0] * 60)

    def shown() -> list[Any]:
        factors = engine.factors()
        return [
            factors.item_vectors,
            factors.item_biases,
            factors.user_vectors,
            engine.recommend(-1, k=30).scores,
            np.array(list(engine.ranker_weights().values())),
            engine.similar_items(3, k=20, by="behaviour").scores,
            engine.recommend(8, k=30).scores,
        ]

    before = shown()
    over = engine.stats()["over_budget"]
    engine.learn_many([7] * 500, rng.integers(0, 30, 500))
    for item in range(30):
        engine.learn_one(7, item, value=-1.0 if item % 2 else 1.0)
    for now, then in zip(shown(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert engine.stats()["over_budget"] == over + 530
    assert len(engine.recommend(7, exclude_seen=True).ids) == 0


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, 1e10])
def test_wrong_budgets(wrong: float) -> None:
    with pytest.raises(ValueError, match="user_budget"):
        Engine(user_budget=wrong)

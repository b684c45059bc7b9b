"""One seed and one thread give the same bits, in whatever batches the events come; several threads lose none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from recengine import Engine, _core
from reference.objectives import OBJECTIVES, Objective

Columns = dict[str, Any]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


@pytest.fixture(autouse=True)
def automatic_kernels() -> Iterator[None]:
    yield
    _core.select_kernels("")


def columns(objective: Objective, seed: int, events: int = 300, users: int = 12, items: int = 30) -> Columns:
    rng = np.random.default_rng(seed)
    binary = objective == "logistic"
    return {
        "users": rng.integers(0, users, events),
        "items": rng.zipf(1.3, events) % items,
        "values": (rng.integers(0, 2, events) if binary else rng.uniform(0.5, 3, events)).astype(np.float32),
        "weights": rng.choice([0, 0.5, 1, 2], events).astype(np.float32),
        "timestamps": 1e9 + rng.integers(0, 10**6, events),
    }


def part(events: Columns, first: int, last: int) -> Columns:
    return {name: column[first:last] for name, column in events.items()}


def learn_one_by_one(engine: Engine, events: Columns) -> None:
    rows = zip(*(column.tolist() for column in events.values()), strict=True)
    for user, item, value, weight, timestamp in rows:
        engine.learn_one(user, item, value, weight, timestamp)


def state(engine: Engine) -> bytes:
    """Every bit there is: tables, optimiser sums, what users did, popularity, counters."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine"
        engine.save(path)
        return path.read_bytes()


def saved_and_loaded(engine: Engine) -> Engine:
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "engine")
        return Engine.load(Path(folder) / "engine")


def make(objective: Objective, seed: int = 3, **options: Any) -> Engine:
    return Engine(objective=objective, dim=10, seed=seed, history=3, l2=0.01, ranker=None, **options)


@every_objective
@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(cuts=st.lists(st.integers(0, 300), max_size=5), reload_at=st.integers(0, 5), seed=st.integers(0, 2**32 - 1))
def test_batches_of_any_size_learn_the_same_bits(
    objective: Objective, cuts: list[int], reload_at: int, seed: int
) -> None:
    events = columns(objective, seed)
    one_by_one, batched = make(objective), make(objective)
    learn_one_by_one(one_by_one, events)
    edges = [0, *sorted(cuts), 300]
    for number, (first, last) in enumerate(pairwise(edges)):
        batched.learn_many(**part(events, first, last))
        if number == reload_at:
            batched = saved_and_loaded(batched)
    assert state(batched) == state(one_by_one)


@pytest.mark.parametrize("ids", [int, str])
def test_omitted_columns_are_the_defaults_of_learn_one(ids: type[int] | type[str]) -> None:
    one_by_one, batched = make("softmax"), make("softmax")
    users, items = [ids(u % 7) for u in range(100)], [ids(i * i % 23) for i in range(100)]
    for engine in (one_by_one, batched):
        engine.learn_one(ids(0), ids(0), timestamp=77.0)
    for user, item in zip(users, items, strict=True):
        one_by_one.learn_one(user, item)
    batched.learn_many(users, items)
    assert state(batched) == state(one_by_one)


@every_objective
@pytest.mark.parametrize("kernels", _core.available_kernels())
def test_a_seed_decides_everything(objective: Objective, kernels: str) -> None:
    _core.select_kernels(kernels)
    events = columns(objective, 1)
    first, second, other = make(objective), make(objective), make(objective, seed=4)
    for engine in (first, second, other):
        engine.learn_many(**events)
    assert state(first) == state(second)
    assert not np.array_equal(first.factors().item_vectors, other.factors().item_vectors)


def test_queries_do_not_change_what_is_learned() -> None:
    events = columns("softmax", 2)
    asked, unasked = make("softmax"), make("softmax")
    unasked.learn_many(**events)
    for first in range(0, 300, 10):
        asked.learn_many(**part(events, first, first + 10))
        asked.recommend(list(asked.users), k=3, exclude_seen=True)
        asked.score(0, list(asked.items))
    np.testing.assert_array_equal(asked.factors().item_vectors, unasked.factors().item_vectors)
    np.testing.assert_array_equal(asked.factors().user_vectors, unasked.factors().user_vectors)


@every_objective
def test_a_loaded_engine_goes_on_alike_after_removals(objective: Objective) -> None:
    """Slots of removed items and users have new owners later: the same ones in both."""
    events, later = columns(objective, 6, items=200), columns(objective, 7, users=15, items=200)
    engine = make(objective)
    engine.set_items(np.arange(200), np.ones((200, 10)))
    engine.learn_many(**events)
    engine.remove_items(np.arange(3, 150, 2))
    engine.remove_users([events["users"][0], events["users"][-1]])
    loaded = saved_and_loaded(engine)
    for after in (engine, loaded):
        after.learn_many(**later)
    assert state(engine) == state(loaded)


@every_objective
def test_two_threads_apply_every_event(objective: Objective) -> None:
    events = columns(objective, 5, events=5000, users=300, items=60)
    engine = make(objective, popularity_half_life=float("inf"), threads=2)
    engine.learn_many(**events, threads=2)
    assert engine.stats()["events"] == 5000
    assert set(engine.users) == set(events["users"].tolist())
    assert set(engine.items) == set(events["items"].tolist())

    chosen = events["items"][events["values"] > 0]
    times = dict(zip(*(column.tolist() for column in np.unique(chosen, return_counts=True)), strict=True))
    ids, counts = engine.recommend(-1, k=60)
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {item: times.get(item, 0) for item in engine.items}
    for user in (0, 1, 2):
        seen = set(chosen[events["users"][events["values"] > 0] == user].tolist())
        left = engine.recommend(user, k=60, exclude_seen=True).ids.tolist()
        assert set(left) == set(engine.items) - seen


def test_the_events_of_one_user_stay_in_order_on_two_threads() -> None:
    users, items = np.tile(np.arange(20), 100), np.repeat(np.arange(100), 20)
    engine = Engine(dim=4, history=3, history_decay=0.5, threads=2, ranker=None)
    engine.learn_many(users, items, threads=2)
    rows = engine.item_vector([99, 98, 97])
    expected = engine.factors().user_vectors + engine._core.context_weights()[:3] @ rows
    np.testing.assert_allclose(engine.user_vector(list(engine.users)), expected, rtol=1e-5, atol=1e-6)

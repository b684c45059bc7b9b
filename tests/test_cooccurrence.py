"""Co-occurrence against the reference: `similar_items(by="behaviour")` after any stream of events."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine
from reference.cooccurrence import Cooccurrence

events = st.lists(st.tuples(st.integers(0, 3), st.integers(10, 18), st.floats(0, 100)), min_size=1, max_size=60)
small: dict[str, Any] = {"dim": 2, "negatives": 1, "seed": 0}


def compare(engine: Engine, reference: Cooccurrence, now: float) -> None:
    for item in engine.items:
        found = engine.similar_items(item, k=100, by="behaviour")
        expected = reference.similar(int(item), now)
        assert sorted(found.ids.tolist()) == sorted(expected)
        assert np.all(np.diff(found.scores) <= 0)
        np.testing.assert_allclose(found.scores, [expected[other] for other in found.ids.tolist()], rtol=2e-5)


@settings(max_examples=60, deadline=None)
@given(
    stream=events,
    removed=st.sets(st.integers(10, 18), max_size=3),
    later=events,
    history=st.sampled_from([0, 3, 12]),
    objective=st.sampled_from(["softmax", "bpr"]),
    window=st.integers(1, 10),
    half_life=st.sampled_from([math.inf, 1000.0, 7.0]),
    batch=st.booleans(),
)
def test_scores_are_those_of_the_reference(
    stream: list[tuple[int, int, float]],
    removed: set[int],
    later: list[tuple[int, int, float]],
    history: int,
    objective: Any,
    window: int,
    half_life: float,
    batch: bool,
) -> None:
    engine = Engine(
        **small,
        objective=objective,
        history=history,
        neighbors=16,
        neighbors_window=window,
        neighbors_half_life=half_life,
    )
    # What is forgotten is the engine's to decide: a user's last items are as many as history and window need.
    reference = Cooccurrence(window, half_life)
    now = 0.0
    for part in (stream, later):
        if batch:
            users, items, times = zip(*part, strict=True)
            engine.learn_many(users, items, timestamps=np.array(times))
        for user, item, time in part:
            if not batch:
                engine.learn_one(user, item, timestamp=time)
            reference.learn(user, item, time)
            now = max(now, time)
        compare(engine, reference, now)
        for item in removed & {int(known) for known in engine.items}:
            engine.remove_items(item)
            reference.remove(item)
        compare(engine, reference, now)


def answers(engine: Engine) -> list[tuple[list[Any], list[float]]]:
    found = [engine.similar_items(item, by="behaviour") for item in engine.items]
    return [(ranking.ids.tolist(), ranking.scores.tolist()) for ranking in found]


def shop(**options: Any) -> Engine:
    """Items 0 to 29 in three kinds that are not bought together."""
    random = np.random.default_rng(5)
    kinds = random.integers(0, 3, 900)
    engine = Engine(**{**small, "neighbors": 8, **options})
    engine.learn_many(kinds * 100 + random.integers(0, 9, 900), kinds * 10 + random.integers(0, 10, 900))
    return engine


def test_k_exclude_among_and_filters_apply() -> None:
    engine = shop()
    everything = engine.similar_items(13, by="behaviour").ids.tolist()
    assert len(everything) == 8
    assert set(everything) < {10, 11, 12, 14, 15, 16, 17, 18, 19}
    assert engine.similar_items(13, k=3, by="behaviour").ids.tolist() == everything[:3]
    assert engine.similar_items(13, by="behaviour", exclude=everything[:2]).ids.tolist() == everything[2:]
    assert engine.similar_items(13, by="behaviour", among=[*everything[4:6], 1, 999]).ids.tolist() == everything[4:6]
    engine.set_filter("some", [1, everything[3], everything[7]])
    found = engine.similar_items(13, by="behaviour", filter=engine.filter("some"))
    assert found.ids.tolist() == [everything[3], everything[7]]


def test_what_cannot_be_answered_is_refused() -> None:
    engine = shop()
    with pytest.raises(KeyError, match="999"):
        engine.similar_items(999, by="behaviour")
    with pytest.raises(TypeError):
        engine.similar_items("13", by="behaviour")
    with pytest.raises(ValueError, match="'rows' or 'behaviour', not 'rwos'"):
        engine.similar_items(13, by="rwos")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="neighbors=0"):
        shop(neighbors=0).similar_items(13, by="behaviour")


@pytest.mark.parametrize(
    "options",
    [
        {"neighbors": -1},
        {"neighbors": 257},
        {"neighbors_window": 0},
        {"neighbors_window": 65},
        {"neighbors_half_life": 0.0},
        {"neighbors_half_life": math.nan},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Engine(**options)


@pytest.mark.parametrize("objective", ["softmax", "bpr", "logistic", "squared"])
@pytest.mark.parametrize("history", [0, 4])
def test_learning_is_the_same_with_neighbors_or_without(objective: Any, history: int) -> None:
    """And the same event by event or in a batch."""
    random = np.random.default_rng(1)
    users, items, times = random.integers(0, 9, 400), random.integers(0, 50, 400), np.sort(random.uniform(0, 1e6, 400))
    plain: dict[str, Any] = {"dim": 4, "objective": objective, "history": history, "seed": 3}
    without, batch, single = Engine(**plain), Engine(**plain, neighbors=5), Engine(**plain, neighbors=5)
    without.learn_many(users, items, timestamps=times)
    batch.learn_many(users, items, timestamps=times)
    for user, item, time in zip(users, items, times, strict=True):
        single.learn_one(user, item, timestamp=time)
    for other in (batch, single):
        for one, same in zip(without.factors(), other.factors(), strict=True):
            np.testing.assert_array_equal(one, same)
    assert answers(batch) == answers(single)


@pytest.mark.parametrize("history", [0, 2, 12])
def test_a_saved_engine_goes_on_bit_for_bit(history: int, tmp_path: Path) -> None:
    engine = shop(history=history, neighbors=4, neighbors_half_life=3.0)
    engine.remove_items([3, 14])
    engine.save(tmp_path / "engine")
    again = Engine.load(tmp_path / "engine")
    assert again.settings == engine.settings
    random = np.random.default_rng(2)
    users, items, times = random.integers(0, 9, 200), random.integers(0, 40, 200), random.uniform(0, 100, 200)
    for each in (engine, again):
        each.learn_many(users, items, timestamps=times)
    assert answers(engine) == answers(again)
    engine.save(tmp_path / "one")
    again.save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_lists_are_bounded_and_their_memory_is_shown() -> None:
    assert Engine().stats()["memory_bytes"]["neighbors"] == 0
    engine = Engine(**small, neighbors=4)
    engine.learn_many([1] * 500, list(range(500)))
    assert all(len(engine.similar_items(item, k=50, by="behaviour").ids) <= 4 for item in engine.items)
    assert engine.stats()["memory_bytes"]["neighbors"] > 500 * 4 * 12

"""What strangers are shown where no half-life is given: a mixture of several, learned from what new users choose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine
from reference.ranker import DAY, Demand

event = st.tuples(st.integers(0, 30), st.integers(0, 400), st.sampled_from([0.0, 30.0, 900.0, DAY, 9 * DAY, -600.0]))


@settings(max_examples=60, deadline=None)
@given(
    stream=st.lists(event, min_size=1, max_size=150),
    start=st.sampled_from([0.0, 1.7e9, -3e8]),
    batch=st.booleans(),
    k=st.integers(1, 60),
)
def test_strangers_are_shown_the_reference(
    stream: list[tuple[int, int, float]], start: float, batch: bool, k: int
) -> None:
    """As `of` has it for each item, in order; among some of them as well."""
    engine, expected, known = Engine(dim=2, max_ahead=math.inf), Demand(), set()
    users, items, pauses = (np.array(column) for column in zip(*stream, strict=True))
    times = start + np.cumsum(pauses)
    if batch:
        engine.learn_many(users, items, timestamps=times)
    for user, item, time in zip(users.tolist(), items.tolist(), times.tolist(), strict=True):
        if not batch:
            engine.learn_one(user, item, timestamp=time)
        if user in known:
            expected.events.append((item, time))
        else:
            expected.learn(item, time)
        known.add(user)
    live = sorted(engine.items)
    for among in (None, live[::3]):
        wanted = {item: expected.of(item, len(live)) for item in (among or live)}
        found = engine.recommend(10**9, k=k, among=among)
        scores = np.array([wanted[item] for item in found.ids.tolist()])
        np.testing.assert_allclose(found.scores, scores, rtol=1e-3)
        best = sorted(wanted.values(), reverse=True)[: len(found.ids)]
        np.testing.assert_allclose(scores, best, rtol=2e-3)
        assert len(found.ids) == min(k, len(wanted))


@pytest.mark.parametrize("life", [3600.0, 30 * DAY])
def test_the_half_life_is_found(life: float) -> None:
    """Streams in which items stay for an hour, or for a month: as good as the best of both half-lives, for each."""
    rng = np.random.default_rng(0)
    events = 12_000
    times = np.arange(events) * 20.0
    items = (times / life).astype(int) * 20 + np.minimum(rng.geometric(0.25, events), 19)
    engine, hits = Engine(dim=4), []
    for user, (item, time) in enumerate(zip(items.tolist(), times.tolist(), strict=True)):
        if user > 6_000 and user % 10 == 0:
            hits.append(item in engine.recommend(user, k=3).ids)
        engine.learn_one(user, item, timestamp=time)
    assert np.mean(hits) > 0.4  # the best three have .58, of an hour that nobody has seen before
    fixed = Engine(dim=4, popularity_half_life=math.inf)
    fixed.learn_many(np.arange(events), items, timestamps=times)
    if life == 3600.0:  # what was always chosen is not what is chosen now
        current = set(range(int(times[-1] / life) * 20, int(times[-1] / life) * 20 + 20))
        assert set(engine.recommend(-1, k=3).ids.tolist()) <= current
        assert not set(fixed.recommend(-1, k=3).ids.tolist()) & current


def test_a_fixed_half_life_is_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dim": 2, "popularity_half_life": 50.0}
    engine = Engine(**options)
    engine.learn_many([1, 2, 3], [7, 7, 8], timestamps=[0.0, 0.0, 100.0])
    assert engine.settings["popularity_half_life"] == 50.0
    assert Engine(dim=2).settings["popularity_half_life"] is None
    found = engine.recommend(-1)
    assert (found.ids.tolist(), found.scores.tolist()) == ([8, 7], [1.0, 0.5])
    engine.save(tmp_path / "fixed")
    Engine(dim=2).save(tmp_path / "learned")
    assert Engine.load(tmp_path / "fixed").settings["popularity_half_life"] == 50.0
    assert Engine.load(tmp_path / "learned").settings["popularity_half_life"] is None


def test_large_catalogues_skip_what_was_chosen_rarely(tmp_path: Path) -> None:
    """The same ranking as item by item, after removals, and of a file that is used where it lies."""
    rng = np.random.default_rng(1)
    engine = Engine(dim=2, maintenance=False)
    engine.set_items(range(20_000), np.zeros((20_000, 2)))
    engine.learn_many(
        rng.integers(0, 3_000, 30_000),
        (rng.random(30_000) ** 6 * 20_000).astype(int),
        timestamps=1.7e9 + np.arange(30_000) * 20.0,
    )
    best = engine.recommend(-1, k=50)
    engine.remove_items(best.ids[:10])
    engine.set_items(best.ids[:5], np.zeros((5, 2)))  # new ones, perhaps in the same places
    live = list(engine.items)
    found, each = engine.recommend(-1, k=100), engine.recommend(-1, k=len(live), among=live)
    assert found.ids.tolist() == each.ids.tolist()[:100]
    assert not set(found.ids.tolist()) & set(best.ids[:10].tolist())
    assert found.scores.tolist() == each.scores.tolist()[:100]
    engine.save(tmp_path / "state")
    for loaded in (Engine.load(tmp_path / "state"), Engine.load(tmp_path / "state", mmap=True)):
        again = loaded.recommend(-1, k=100)
        assert again.ids.tolist() == found.ids.tolist()
        assert again.scores.tolist() == found.scores.tolist()

"""Sessions, learned weights of the history, offsets of items chosen again, dislikes: what makes the next ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recengine import Engine

HISTORY, GAP, KINDS = 6, 100.0, 9
SESSION_KINDS = [0, 1, 1, 2, 2, 2]  # by place
DISLIKED = 8

Floats = NDArray[np.float64]


def lived_in(**options: Any) -> tuple[Engine, float]:
    """An engine whose weights have all moved, and the time of its last event."""
    rng = np.random.default_rng(4)
    engine = Engine(
        **{"dim": 8, "history": HISTORY, "session_gap": GAP, "negatives": 8, "seed": 2, "ranker": None, **options}
    )
    times = np.cumsum(rng.exponential(15.0, 1500))
    values = rng.choice([1.0, -1.0], 1500, p=[0.9, 0.1])
    engine.learn_many(rng.integers(0, 8, 1500), rng.integers(100, 130, 1500), values, times)
    return engine, float(times[-1])


def expected_scores(engine: Engine, acts: list[tuple[int, bool, bool]]) -> dict[int, float]:
    """Of user "new", whose acts are given newest first: item, whether of the session that goes on, disliked."""
    factors = engine.factors()
    rows = dict(zip(factors.item_ids.tolist(), factors.item_vectors.astype(np.float64), strict=True))
    biases = dict(zip(factors.item_ids.tolist(), factors.item_biases.tolist(), strict=True))
    weights = engine._core.context_weights().astype(np.float64)
    positions, offsets = weights[: 3 * HISTORY].reshape(3, HISTORY), weights[3 * HISTORY :].reshape(2, KINDS)
    goes_on = bool(acts) and acts[0][1]
    x = factors.user_vectors[factors.user_ids.tolist().index(999)].astype(np.float64)
    kinds: dict[int, int] = {}
    places = [0, 0]
    for item, in_session, disliked in acts[:HISTORY]:
        place = places[in_session]
        places[in_session] += 1
        group = 0 if in_session else 1 if goes_on else 2
        x = x + (-(0.5**place) if disliked else positions[group, place]) * rows[item]
        if item not in kinds:
            times = sum(other == item and not bad for other, _, bad in acts[:HISTORY])
            kinds[item] = DISLIKED if disliked else SESSION_KINDS[place] if in_session else 3 + min(times, 4)
    return {
        item: float(x @ row) + biases[item] + (float(offsets[0 if goes_on else 1, kinds[item]]) if item in kinds else 0)
        for item, row in rows.items()
    }


@pytest.mark.parametrize("pause", [0.0, GAP, GAP + 1])
@pytest.mark.parametrize("second", [1.0, GAP + 1])
def test_scores_follow_the_sessions(pause: float, second: float) -> None:
    """Two visits, `second` apart, then a query after a `pause`, made by another user's event."""
    engine, now = lived_in()
    visits = [(100, 1.0), (101, -1.0), (100, 1.0), (102, 1.0)]
    for item, value in visits:
        engine.learn_one(999, item, value, weight=0.0, timestamp=now)
    for item in (103, 104):
        engine.learn_one(999, item, weight=0.0, timestamp=now + second)
    engine.learn_one(998, 100, weight=0.0, timestamp=now + second + pause)
    open_now = pause <= GAP
    acts = [(item, open_now, False) for item in (104, 103)]
    acts += [(item, open_now and second <= GAP, value < 0) for item, value in reversed(visits)]
    expected = expected_scores(engine, acts)
    items = list(expected)
    np.testing.assert_allclose(engine.score(999, items), list(expected.values()), rtol=1e-4, atol=1e-4)


def test_an_event_from_the_past_joins_the_session() -> None:
    engine, now = lived_in()
    for item, time in ((100, now), (101, now - 10 * GAP), (102, now + GAP)):
        engine.learn_one(999, item, weight=0.0, timestamp=time)
    expected = expected_scores(engine, [(item, True, False) for item in (102, 101, 100)])
    np.testing.assert_allclose(engine.score(999, list(expected)), list(expected.values()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_every_kind_of_query_agrees_with_score(objective: str) -> None:
    engine, _ = lived_in(objective=objective)
    engine.set_filter("even", [item for item in engine.items if item % 2 == 0])
    items = list(engine.items)
    for user in range(8):
        scores = dict(zip(items, engine.score(user, items).tolist(), strict=True))
        best = sorted(items, key=lambda item: (-scores[item], items.index(item)))
        assert engine.recommend(user, k=40).ids.tolist() == best
        assert engine.recommend(user, k=5, retrieval="auto").ids.tolist() == best[:5]
        assert engine.recommend([user, user], k=7).ids.tolist() == [best[:7]] * 2
        assert engine.rank(user, items).ids.tolist() == best
        even = [item for item in best if item % 2 == 0]
        assert engine.recommend(user, k=6, filter=engine.filter("even")).ids.tolist() == even[:6]
        left = [item for item in best if item not in best[:3]]
        assert engine.recommend(user, k=6, exclude=best[:3]).ids.tolist() == left[:6]
        assert engine.recommend(user, k=6, among=best[4:9]).ids.tolist() == best[4:9]


def test_cells_find_the_items_with_an_offset_too() -> None:
    rng = np.random.default_rng(0)
    engine = Engine(dim=16, seed=1, history=8, ranker=None)
    engine.set_items(np.arange(6000), rng.normal(0, 0.3, (6000, 16)))
    engine.learn_many(rng.integers(0, 50, 3000), rng.integers(0, 6000, 3000))
    engine.maintain()
    for user in range(50):
        scores = engine.score(user, np.arange(6000))
        found = engine.recommend(user, k=20)
        assert found.certified
        np.testing.assert_array_equal(found.scores, np.sort(scores)[::-1][:20])


def rings(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """600 visitors, each of whom chooses the six items of one of ten rings, in any order."""
    users = np.repeat(np.arange(600), 6).tolist()
    items = [int(ring) * 6 + int(step) for ring in rng.integers(0, 10, 600) for step in rng.permutation(6)]
    return users, items


def pairs(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """600 visitors who choose any item and then its twin, and again: all but the last item is noise."""
    users = np.repeat(np.arange(600), 6).tolist()
    items = [int(twin) for item in rng.integers(0, 60, 1800) for twin in (item, item ^ 1)]
    return users, items


def test_the_weights_learn_whether_order_matters() -> None:
    ratios = []
    for stream in (pairs, rings):
        engine = Engine(dim=16, history=4, negatives=16, history_decay=0.7, seed=1, ranker=None)
        engine.learn_many(*stream(np.random.default_rng(3)))
        first, _, third = engine._core.context_weights()[:3].tolist()
        ratios.append(first / max(abs(third), 1e-3))
    assert ratios[0] > 2 * ratios[1]


@pytest.mark.parametrize("again", [False, True])
def test_offsets_learn_whether_items_are_chosen_again(again: bool) -> None:
    """Visitors who never choose an item twice in a session, and such as choose each twice."""
    users, items = rings(np.random.default_rng(3))
    if again:
        users, items = np.repeat(users, 2).tolist(), np.repeat(items, 2).tolist()
    engine = Engine(dim=16, history=6, negatives=16, seed=1, ranker=None)
    engine.learn_many(users, items)
    ring = [0, 3, 2]
    ids = engine.recommend(history=ring, k=3).ids.tolist()
    assert (ids[0] == 2) if again else (set(ids) == {1, 4, 5})


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_a_dislike_moves_the_next_ranking(objective: Any) -> None:
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(200), 8)
    taste = rng.integers(0, 4, 200)
    items = taste[users] * 10 + rng.integers(0, 10, len(users))
    engine = Engine(objective=objective, dim=16, seed=1, negatives=16 if objective == "softmax" else 4, ranker=None)
    engine.learn_many(users, items)
    for item in (3, 5):
        engine.learn_one(1000, item)
    alike = [item for item in range(10) if item not in (3, 5, 7)]
    before = engine.score(1000, [7, *alike])
    popular = engine.recommend(-1, k=40)
    engine.learn_one(1000, 7, -1.0)
    after = engine.score(1000, [7, *alike])
    assert after[0] < before[0] - 0.5
    assert float(np.mean(after[1:])) < float(np.mean(before[1:]))  # and what is like it
    assert 7 not in engine.recommend(1000, k=40, exclude_seen=True).ids
    now_popular = engine.recommend(-1, k=40)
    np.testing.assert_array_equal(now_popular.ids, popular.ids)
    np.testing.assert_array_equal(now_popular.scores, popular.scores)


def test_dislikes_in_a_batch_are_those_of_single_events() -> None:
    rng = np.random.default_rng(6)
    users, items = rng.integers(0, 20, 600), rng.integers(0, 40, 600)
    values = rng.choice([1.0, -2.0], 600)
    for options in ({"objective": "softmax"}, {"objective": "bpr"}, {"objective": "bpr", "history": 0}):
        batch, single = (Engine(dim=8, seed=3, ranker=None, **options) for _ in range(2))
        batch.learn_many(users, items, values)
        for user, item, value in zip(users.tolist(), items.tolist(), values.tolist(), strict=True):
            single.learn_one(user, item, value)
        for one, other in zip(batch.factors(), single.factors(), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(batch._core.context_weights(), single._core.context_weights())


def test_a_value_of_zero_says_nothing() -> None:
    engine = Engine(dim=4)
    with pytest.raises(ValueError, match=r"positive or negative .*, not 0"):
        engine.learn_one(1, 2, 0.0)
    assert len(engine.users) == 0


def test_sessions_and_weights_are_saved(tmp_path: Path) -> None:
    engine, now = lived_in()
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    for each in (engine, loaded):
        each.learn_one(998, 100, timestamp=now + GAP / 2)
        each.learn_one(3, 101, timestamp=now + GAP / 2)
    items = list(engine.items)
    for user in range(8):
        np.testing.assert_array_equal(loaded.score(user, items), engine.score(user, items))
    assert loaded.settings == engine.settings


@pytest.mark.parametrize("gap", [-1.0, float("nan")])
def test_a_gap_is_no_negative_time(gap: float) -> None:
    with pytest.raises(ValueError, match="session_gap"):
        Engine(session_gap=gap)

"""The ranker: its signals, scores and steps against the reference; what it may and may not change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recengine import Engine, FormatError
from reference import network
from reference import ranker as reference
from test_save_load import file_of, parts_of, saved

GAP, DAY = 100.0, 86400.0
SMALL: dict[str, Any] = {"dim": 4, "negatives": 4, "seed": 3, "history": 6, "session_gap": GAP, "neighbors": 64}

Floats = NDArray[np.float32]


def table(engine: Engine, user: Any, items: Any) -> Floats:
    """The signals as (n, m)."""
    return np.stack(list(engine.ranker_features(user, items).values()), axis=1)


def shop(events: int = 3000, **options: Any) -> Engine:
    """Users of three kinds who buy from their own 40 of 120 items, in sessions; all of it learned a little."""
    rng = np.random.default_rng(5)
    engine = Engine(**{**SMALL, "dim": 8, "negatives": 16, **options})
    users = rng.integers(0, 30, events)
    engine.learn_many(
        users, users % 3 * 40 + rng.integers(0, 40, events), timestamps=np.cumsum(rng.exponential(20.0, events))
    )
    return engine


# ---- against the reference

event = st.tuples(
    st.integers(0, 2), st.integers(10, 17), st.sampled_from([0.0, 3.0, 60.0, 150.0, DAY]), st.integers(0, 9)
)


@settings(max_examples=40, deadline=None)
@given(stream=st.lists(event, min_size=1, max_size=90), batch=st.booleans(), start=st.sampled_from([0.0, 1.7e9]))
def test_signals_are_those_of_the_reference(
    stream: list[tuple[int, int, float, int]], batch: bool, start: float
) -> None:
    engine = Engine(**SMALL)
    expected = reference.Signals(8, engine.settings["neighbors_half_life"], GAP)
    users, items, pauses, moods = (np.array(column) for column in zip(*stream, strict=True))
    times, values = start + np.cumsum(pauses), np.where(moods == 0, -1.0, 1.0)  # one in ten is a dislike
    if batch:
        engine.learn_many(users, items, values, times)
    for user, item, value, time in zip(users.tolist(), items.tolist(), values.tolist(), times.tolist(), strict=True):
        if not batch:
            engine.learn_one(user, item, value, timestamp=time)
        expected.learn(user, item, time, disliked=value < 0)
    known = [int(item) for item in engine.items]
    for user in {int(user) for user in users}:
        scores = engine.score(user, known)
        wanted = [expected.of(user, item, float(score), times[-1]) for item, score in zip(known, scores, strict=True)]
        # Decayed counts of around 1e-6 are as exact as float32 has them; times are within 64 seconds.
        np.testing.assert_allclose(table(engine, user, known), wanted, rtol=2e-4, atol=1e-3 if start else 2e-4)


def test_scores_are_weighted_signals() -> None:
    engine = shop()
    weights = np.array(list(engine.ranker_weights().values()))
    assert np.all(weights[:9] != [[1, 1]] + 8 * [[0, 0]])  # all of these have been learned
    assert np.all(weights[15] != 1)
    latest, both = engine.stats()["latest_timestamp"], set()
    assert latest is not None
    for user in range(30):
        features = table(engine, user, list(engine.items))
        over = int(not engine.ranker_features(user, list(engine.items))["in_session"].any())
        both.add(over)
        scores = dict(zip(engine.items, features.astype(float) @ weights[:, over], strict=True))
        ranking = engine.rank(user, list(engine.items))
        np.testing.assert_allclose(ranking.scores, [scores[item] for item in ranking.ids], rtol=1e-4, atol=1e-4)
        assert np.all(np.diff(ranking.scores) <= 0)
        # All 120 items are candidates: retrieved, neighbours or popular.
        top = engine.recommend(user, k=10)
        shown = engine.rank(user, top.ids.tolist())
        assert shown.ids.tolist() == top.ids.tolist()
        np.testing.assert_array_equal(shown.scores, top.scores)
    assert both == {0, 1}


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_steps_are_those_of_the_reference(objective: Any) -> None:
    """Of no more items than are retrieved, all are candidates. Events without a timestamp come at the latest one, so
    that what the ranker is asked before each is what it learns from."""
    rng = np.random.default_rng(1)
    engine = Engine(**{**SMALL, "objective": objective, "ranker": "linear", "item_features": ["price"]})
    items = list(range(30))
    engine.set_items(items, rng.normal(0, 0.3, (30, 4)))
    engine.set_item_features(items, rng.normal(0, 1, 30))
    engine.learn_many([99] * 1024, rng.integers(0, 30, 1024), weights=[0.0] * 1024)  # no lessons yet
    mine, learned, sets = reference.Weights(17), 0, set()
    for number in range(1024, 1424):
        user, item, weight = int(rng.integers(0, 12)), int(rng.integers(30)), float(rng.choice([0.5, 1.0]))
        if number % 5 == 0:  # time passes, with an event of nobody else's
            engine.learn_one(99, 0, weight=0.0, timestamp=number * 30.0)
            continue
        features = table(engine, user, items).astype(float)
        history = user in engine.users and bool(features[:, 9:15].any())
        goes_on = bool(features[:, 9].any())
        before = np.array(list(engine.ranker_weights().values())).T
        engine.learn_one(user, item, weight=weight)
        after = np.array(list(engine.ranker_weights().values())).T
        if not (history and reference.is_due(3, number, goes_on)):
            np.testing.assert_array_equal(after, before)
            continue
        over = int(not goes_on)
        mine.step(bool(over), reference.slopes(before[over], features, item, weight))
        np.testing.assert_allclose(after, mine.values, rtol=1e-3, atol=2e-4)
        mine.values = after.copy()
        learned += 1
        sets.add(over)
    assert learned > 20
    assert sets == {0, 1}


def test_the_first_events_teach_it_nothing() -> None:
    rng = np.random.default_rng(0)
    engine = Engine(**SMALL)
    start = engine.ranker_weights()
    engine.learn_many(rng.integers(0, 20, 1024), rng.integers(0, 30, 1024), timestamps=np.arange(1024) * 5.0)
    assert engine.ranker_weights() == start
    engine.learn_many(rng.integers(0, 20, 64), rng.integers(0, 30, 64), timestamps=5120.0 + np.arange(64) * 5.0)
    assert engine.ranker_weights() != start


def test_slopes_are_the_gradient_of_the_loss() -> None:
    rng = np.random.default_rng(2)
    signals, weights = rng.normal(0, 1, (7, 5)), rng.normal(0, 1, 5)
    for chosen, weight in ((0, 1.0), (3, 0.25)):
        steps = 1e-6 * np.eye(5)
        numeric = [
            (
                reference.loss(weights + step, signals, chosen, weight)
                - reference.loss(weights - step, signals, chosen, weight)
            )
            / 2e-6
            for step in steps
        ]
        np.testing.assert_allclose(reference.slopes(weights, signals, chosen, weight), numeric, rtol=1e-6, atol=1e-8)


def parameters(engine: Engine, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The network's values and Adagrad sums."""
    parts = parts_of(saved(engine, folder))
    return parts["ranker.network"].values.astype(float), parts["ranker.net_sums"].values.astype(float)


def test_the_network_is_that_of_the_reference(tmp_path: Path) -> None:
    """Outputs for any state, and each step. As above, all items are candidates."""
    rng = np.random.default_rng(1)
    engine = Engine(**{**SMALL, "dim": 20, "ranker": "mlp", "history": 2})
    items = list(range(30))
    engine.set_items(items, rng.normal(0, 0.3, (30, 20)))
    engine.learn_many([99] * 1024, rng.integers(0, 30, 1024), weights=[0.0] * 1024)
    for user in range(6):
        engine.learn_one(user, user)
    learned = 0
    for number in range(1030, 1150):
        user, item = int(rng.integers(0, 6)), int(rng.integers(30))
        if number % 5 == 0:
            engine.learn_one(99, 0, weight=0.0, timestamp=number * 30.0)
            continue
        features = table(engine, user, items).astype(float)
        goes_on = bool(features[:, 9].any())
        if not (features[:, 9:15].any() and reference.is_due(3, number, goes_on)):
            engine.learn_one(user, item)
            continue
        weights = np.array(list(engine.ranker_weights().values()))[:, int(not goes_on)]
        values, sums = parameters(engine, tmp_path)
        mine = network.Network(values)
        x, rows = engine.user_vector(user).astype(float), engine.item_vector(items).astype(float)
        z = network.inputs(features, x, rows, goes_on)
        scores = features @ weights + mine.output(z)
        ranking = engine.rank(user, items)
        np.testing.assert_allclose(ranking.scores, scores[ranking.ids.astype(int)], rtol=1e-4, atol=1e-4)
        slopes = np.exp(scores - scores.max())
        slopes /= slopes.sum()
        slopes[item] -= 1
        expected = network.stepped(values, sums, mine.gradient(z, slopes))
        engine.learn_one(user, item)
        after = parameters(engine, tmp_path)[0]
        # Where a gradient cancels to nearly nothing, the first step of Adagrad may go either way.
        close = np.isclose(after, expected, rtol=1e-3, atol=1e-4)
        assert close.mean() > 0.995
        assert np.abs(after - values).max() <= 0.0201
        learned += 1
    assert learned > 15
    assert np.abs(parameters(engine, tmp_path)[0][-64:]).max() > 0


def test_gradients_of_the_network_are_numeric_ones() -> None:
    rng = np.random.default_rng(3)
    values, z, slopes = rng.normal(0, 1, 64 * 6), rng.normal(0, 1, (7, 5)), rng.normal(0, 1, 7)
    analytic = network.Network(values).gradient(z, slopes)
    for place in rng.choice(len(values), 60, replace=False):
        step = np.zeros(len(values))
        step[place] = 1e-6
        high, low = (network.Network(values + sign * step).output(z) @ slopes for sign in (1, -1))
        assert (high - low) / 2e-6 == pytest.approx(analytic[place], rel=1e-5, abs=1e-7)


def test_names_are_those_of_the_reference() -> None:
    assert list(Engine().ranker_weights()) == reference.NAMES
    assert list(Engine(item_features=["price", "éclat"]).ranker_weights()) == [*reference.NAMES, "price", "éclat"]


# ---- what it leaves alone


@pytest.mark.parametrize("ranker", ["linear", "mlp"])
def test_it_starts_as_the_embedding_and_the_demand(ranker: Any) -> None:
    rng = np.random.default_rng(0)
    ranked, plain = (Engine(dim=8, seed=1, ranker=each) for each in (ranker, None))
    for engine in (ranked, plain):
        engine.set_items(range(300), rng.normal(0, 1, (300, 8)))
        rng = np.random.default_rng(0)
        for user, item in ((1, 5), (1, 9), (2, 5)):  # too few to learn from
            engine.learn_one(user, item, weight=0.0)
    plain.set_items(ranked.factors().item_ids, ranked.factors().item_vectors)
    for user in (1, 2):
        found = ranked.recommend(user, k=300)
        demand = ranked.ranker_features(user, found.ids)["demand"]
        np.testing.assert_allclose(found.scores, plain.score(user, found.ids) + demand, rtol=1e-5, atol=1e-6)
        assert np.all(np.diff(found.scores) <= 0)


def test_what_the_embedding_learns_does_not_depend_on_it() -> None:
    ranked, plain = shop(), shop(ranker=None)
    for one, other in zip(ranked.factors(), plain.factors(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ranked.score(1, [1, 2, 3]), plain.score(1, [1, 2, 3]))
    one, other = ranked.similar_items(5), plain.similar_items(5)
    assert one.ids.tolist() == other.ids.tolist()
    vector = ranked.user_vector(4)
    np.testing.assert_array_equal(ranked.search(vector).scores, plain.search(vector).scores)


def test_nobody_gets_what_is_popular() -> None:
    ranked, plain = shop(popularity_half_life=600.0), shop(ranker=None, popularity_half_life=600.0)
    queries: list[dict[str, Any]] = [{"user": 999}, {"history": [9999]}, {"history": []}]
    for query in queries:
        found, expected = ranked.recommend(**query), plain.recommend(**query)
        assert found.ids.tolist() == expected.ids.tolist()
        np.testing.assert_array_equal(found.scores, expected.scores)


# ---- candidates


@pytest.mark.parametrize("share", [0.0, 0.004, 0.02, 0.2, 0.9, 1.0])
def test_filters_hold_for_all_candidates(share: float) -> None:
    """Exactly min(k, matching) results, all of them matching, best first, each with its own score."""
    rng = np.random.default_rng(int(share * 100))
    engine = shop(ranker="linear")
    engine.set_items(range(120, 1000), rng.normal(0, 0.5, (880, 8)))
    engine.learn_many(rng.integers(0, 30, 500), rng.integers(0, 1000, 500))
    engine.remove_items(list(range(0, 1000, 7)))
    live = np.array(list(engine.items))
    matching = set(live[rng.random(len(live)) < share].tolist())
    engine.set_filter("some", list(matching))
    chosen = engine.filter("some")
    for user in range(0, 30, 5):
        everything = dict(zip(*(part.tolist() for part in engine.rank(user, live.tolist())), strict=True))
        excluded = rng.choice(live, 50).tolist()
        seen = set(engine.recommend(user, k=1000).ids.tolist()) - set(
            engine.recommend(user, k=1000, exclude_seen=True).ids.tolist()
        )
        among = [*rng.choice(live, 200).tolist(), 0, 7, 5000]  # some of them removed or never there
        asked: list[tuple[dict[str, Any], set[int]]] = [
            ({"filter": chosen}, matching),
            ({"filter": chosen, "exclude": excluded}, matching - set(excluded)),
            ({"filter": chosen, "exclude_seen": True}, matching - seen),
            ({"filter": chosen, "among": among}, matching & set(among)),
            ({"among": among, "exclude": excluded}, set(live.tolist()) & set(among) - set(excluded)),
        ]
        for options, allowed in asked:
            for k in (1, 10, 1000):
                ranking = engine.recommend(user, k=k, **options)
                ids = ranking.ids.tolist()
                assert len(ids) == len(set(ids)) == min(k, len(allowed))
                assert set(ids) <= allowed
                assert ranking.scores.tolist() == [np.float32(everything[item]) for item in ids]
                assert np.all(np.diff(ranking.scores) <= 0)
                if "among" in options:
                    best = sorted((everything[item] for item in allowed), reverse=True)[:k]
                    assert ranking.scores.tolist() == best


def test_many_candidates_of_the_caller() -> None:
    """More than are ranked one by one: the best of them by the embedding, and those that others found."""
    rng = np.random.default_rng(0)
    engine = shop()
    engine.set_items(range(120, 6000), rng.normal(0, 0.5, (5880, 8)))
    among = list(range(5, 6000))
    ranking = engine.recommend(3, k=20, among=among)
    assert set(ranking.ids.tolist()) <= set(among)
    assert len(ranking.ids) == 20
    assert engine.rank(3, ranking.ids.tolist()).ids.tolist() == ranking.ids.tolist()
    whole = engine.rank(3, among)
    assert len(whole.ids) == len(among)
    assert whole.scores[0] >= ranking.scores[0]


def test_plan_counts_candidates() -> None:
    engine = shop()
    plan = engine.plan(3, k=10)
    counts = plan["candidates"]
    assert set(counts) == {"retrieved", "own", "neighbors", "popular"}
    assert counts["own"] == int(sum(features.any() for features in table(engine, 3, list(engine.items))[:, 9:15]))
    assert sum(counts.values()) <= 120
    assert plan["rank_us"] > 0
    assert sum(shop(ranker=None).plan(3)["candidates"].values()) == 0
    assert engine.plan(3, among=[1, 2, 3])["candidates"]["retrieved"] == 3


def test_what_is_in_demand_is_a_candidate() -> None:
    """Of a large catalogue, for a user whom nothing else leads there."""
    rng = np.random.default_rng(0)
    engine = Engine(dim=8, negatives=4, seed=0, maintenance=False)
    engine.set_items(range(5_000), rng.normal(0, 1, (5_000, 8)))
    engine.learn_many(np.arange(3_000), rng.integers(0, 20, 3_000), timestamps=np.arange(3_000) * 60.0)
    engine.learn_one(-1, 4_321, timestamp=180_000.0)
    assert engine.plan(-1, k=10)["candidates"]["popular"] >= 15
    shown = set(engine.recommend(-1, k=60).ids.tolist())
    assert len(shown & set(range(20))) >= 15


@pytest.mark.parametrize("ranker", ["linear", "mlp"])
@pytest.mark.parametrize("options", [{}, {"exclude_seen": True}, {"among": list(range(50))}, {"exclude": [1, 2, 3]}])
def test_a_batch_is_what_its_queries_are(options: dict[str, Any], ranker: Any) -> None:
    engine = shop(item_features=["price"], ranker=ranker)
    engine.set_items(range(120, 5000), np.random.default_rng(0).normal(0, 0.3, (4880, 8)))  # cells
    engine.set_item_features(range(100), np.linspace(0, 1, 100))
    users = [*range(30), 999]
    for context in (None, {"price": 3.0}):
        batch = engine.recommend(users, k=12, context=context, **options)
        for place, user in enumerate(users):
            single = engine.recommend(user, k=12, context=context, **options)
            count = np.asarray(batch.counts)[place]
            assert batch.ids[place][:count].tolist() == single.ids.tolist()
            np.testing.assert_array_equal(batch.scores[place][:count], single.scores)


def test_a_session_is_ranked_as_a_user_with_that_session() -> None:
    engine = shop()
    session = [3, 17, 21, 3, 8]
    for item in session:
        engine.learn_one(1000, item, weight=0.0)
    # The same items at the same moment; the weight 0 leaves the user's row at zero.
    by_user, by_history = engine.recommend(1000, k=30), engine.recommend(history=session, k=30)
    assert by_user.ids.tolist() == by_history.ids.tolist()
    np.testing.assert_array_equal(by_user.scores, by_history.scores)
    without = engine.recommend(history=session, k=120, exclude_seen=True)
    assert not set(session) & set(without.ids.tolist())
    long = engine.recommend(history=[5] * 500 + session, k=5)  # no more than the last 64 count
    assert len(long.ids) == 5


def test_it_ranks_better_than_the_embedding_alone() -> None:
    """Items are bought in pairs, one after the other, which co-occurrence sees at once."""
    hits = {}
    rankers: list[Any] = ["linear", "mlp", None]
    for ranker in rankers:
        rng = np.random.default_rng(3)
        engine = Engine(dim=8, seed=0, ranker=ranker, neighbors=64)
        found = 0
        for step in range(6000):
            user, pair, time = int(rng.integers(200)), int(rng.integers(400)), step * 5.0
            engine.learn_one(user, 2 * pair, timestamp=time)
            if step > 3000:
                found += int(2 * pair + 1 in engine.recommend(user, k=3).ids)
            engine.learn_one(user, 2 * pair + 1, timestamp=time)
        hits[ranker] = found / 3000
    assert hits["linear"] > max(0.8, hits[None])
    assert hits["mlp"] > hits["linear"] - 0.02


# ---- determinism, files, removal


def state(engine: Engine) -> list[Any]:
    rankings = engine.recommend(list(engine.users), k=20)
    return [engine._core.ranker_weights().tobytes(), rankings.ids.tolist(), rankings.scores.tobytes()]


@pytest.mark.parametrize("ranker", ["linear", "mlp"])
def test_learn_many_is_learn_one_in_a_loop(ranker: Any) -> None:
    rng = np.random.default_rng(7)
    users, items = rng.integers(0, 25, 2500), rng.integers(0, 90, 2500)
    values = rng.choice([1.0, -1.0], 2500, p=[0.95, 0.05])
    times = np.cumsum(rng.exponential(20.0, 2500))
    batch, single, again = (Engine(**SMALL, ranker=ranker) for _ in range(3))
    batch.learn_many(users, items, values, times)
    for columns in zip(users.tolist(), items.tolist(), values.tolist(), times.tolist(), strict=True):
        single.learn_one(*columns[:3], timestamp=columns[3])
    for first in range(0, 2500, 311):
        part = slice(first, first + 311)
        again.learn_many(users[part], items[part], values[part], times[part])
    assert state(batch) == state(single) == state(again)
    assert batch.ranker_weights()["after_last"] != (0.0, 0.0)


def test_large_catalogues_are_learned_from_in_part() -> None:
    """Beyond 2,048 rows a lesson draws its candidates; the same twice."""
    rng = np.random.default_rng(0)
    engines = [Engine(dim=4, negatives=4, seed=1), Engine(dim=4, negatives=4, seed=1)]
    rows, users = rng.normal(0, 0.3, (9000, 4)), rng.integers(0, 50, 1500)
    items = np.minimum(rng.exponential(300, 1500), 8999).astype(int)
    for engine in engines:
        engine.set_items(range(9000), rows)
        engine.learn_many(users, items, timestamps=np.arange(1500) * 60.0)
    assert state(engines[0]) == state(engines[1])
    assert engines[0].ranker_weights()["popularity_all"] != (0.0, 0.0)


@pytest.mark.parametrize("ranker", ["linear", "mlp"])
def test_it_goes_through_a_file(ranker: Any, tmp_path: Path) -> None:
    engine = shop(item_features=["price", "größe"], ranker=ranker)
    engine.set_item_features(range(40), np.random.default_rng(0).normal(0, 1, (40, 2)))
    engine.remove_items([3, 50, 51])
    file = saved(engine, tmp_path)
    loaded = Engine.load(tmp_path / "state")
    assert loaded.settings == engine.settings
    assert loaded.settings["ranker"] == ranker
    assert loaded.settings["item_features"] == ("price", "größe")
    rng = np.random.default_rng(9)
    users, items = rng.integers(0, 30, 800), rng.integers(0, 130, 800)
    assert state(loaded) == state(engine)
    for each in (engine, loaded):
        each.learn_many(users, items, timestamps=1e6 + np.arange(800) * 30.0)
    assert state(loaded) == state(engine)
    np.testing.assert_array_equal(table(loaded, 2, range(4, 40)), table(engine, 2, range(4, 40)))
    assert saved(loaded, tmp_path) != file


def test_a_file_from_before_there_were_rankers(tmp_path: Path) -> None:
    """That is what an engine without one writes."""
    plain = shop(ranker=None)
    assert not [
        name for name in parts_of(saved(plain, tmp_path)) if name.startswith("ranker") or name.endswith("times")
    ]
    loaded = Engine.load(tmp_path / "state")
    assert loaded.settings["ranker"] is None
    assert loaded.recommend(1).ids.tolist() == plain.recommend(1).ids.tolist()


def test_wrong_contents_are_refused(tmp_path: Path) -> None:
    engine = Engine(**SMALL, item_features=["a", "b"], ranker="mlp")
    engine.learn_many([1, 2, 1], [10, 11, 12])
    engine.remove_items([11])
    good = saved(engine, tmp_path)
    nan, inf = math.nan, math.inf
    for name, position, value in [
        *(("ranker", 0, kind) for kind in (0, 7, 2**40)),
        *(("ranker.weights", position, value) for position in (0, 35) for value in (nan, inf, 65.0)),
        *(("ranker.sums", 3, value) for value in (nan, inf, -1.0)),
        *(("ranker.network", 70, value) for value in (nan, inf, -16.5)),
        *(("ranker.net_sums", 70, value) for value in (nan, inf, -1.0)),
        *(("ranker.trends", 5, value) for value in (nan, inf)),
        *(("ranker.totals", 7, value) for value in (nan, inf)),
        *(("ranker.mixtures", position, value) for position in (0, 15) for value in (nan, 0.0, 2.5)),
        *(("ranker.mixtures", 17, value) for value in (nan, 0.0, 0.2)),
        *(("ranker.popular", 0, entry) for entry in (2, 99, 2**32 - 1)),
        *(("ranker.features", 1, value) for value in (nan, inf, 2e15)),
        *(("ranker.offsets", position, value) for position, value in ((0, 1), (1, 3), (2, 2**60))),
        ("ranker.names", 0, 0xFF),
        ("ranker.names", 1, ord("a")),
        *(("history.times", 0, value) for value in (nan, inf, 2e15)),
    ]:
        parts = parts_of(good)
        parts[name].values[position] = value
        (tmp_path / "wrong").write_bytes(file_of(parts))
        try:
            Engine.load(tmp_path / "wrong")
        except FormatError:
            continue
        pytest.fail(f"{name}[{position}] = {value} is accepted")
    for name in (name for name in parts_of(good) if name.startswith("ranker") or name == "history.times"):
        parts = parts_of(good)
        del parts[name]
        (tmp_path / "wrong").write_bytes(file_of(parts))
        with pytest.raises(FormatError):
            Engine.load(tmp_path / "wrong")


def test_what_is_removed_leaves_no_trace() -> None:
    engine = shop(item_features=["price"])
    engine.set_item_features([5], [3.0])
    assert engine.ranker_features(5 % 30, [5])["price"].tolist() == [3.0]
    engine.remove_items(list(range(120)))
    engine.remove_users(list(range(30)))
    engine.learn_many([2, 3], [700, 701])
    users, items = list(engine.users), list(engine.items)
    assert (sorted(users), sorted(items)) == ([2, 3], [700, 701])
    features = engine.ranker_features(2, items)
    for name in ("after_last", "before_recent", "owned", "owned_times", "price"):
        assert not features[name].any(), name
    np.testing.assert_allclose(features["popularity_all"], math.log(2), rtol=1e-6)
    assert sorted(engine.recommend(2, k=200).ids.tolist()) == [700, 701]


# ---- explanations


@pytest.mark.parametrize("options", [{}, {"ranker": None}, {"item_features": ["price"]}, {"ranker": "mlp"}])
def test_explanations_add_up(options: dict[str, Any]) -> None:
    engine = shop(**options)
    if "item_features" in options:
        engine.set_item_features(range(120), np.linspace(-1, 1, 120))
    for user in (0, 7, 13):
        ranking = engine.rank(user, list(engine.items))
        for item, score in zip(ranking.ids.tolist()[::9], ranking.scores.tolist()[::9], strict=True):
            found = engine.explain(user, item)
            assert (found.user, found.item, found.score) == (user, item, score)
            assert sum(part.contribution for part in found.parts) == pytest.approx(score, abs=1e-5)
            names = [part.name for part in found.parts]
            assert names.count("user") == names.count("bias") == 1
            assert 0 < names.count("history") <= 6
            for part in found.parts:
                assert part.contribution == pytest.approx(part.value * part.weight, rel=1e-5, abs=1e-7)
                assert (part.item is not None) == (part.name in ("history", "after_last", "before_last"))
                assert part.item is None or type(part.item) is int
            assert found.sentence().startswith("because ")


def test_explanations_after_a_dislike() -> None:
    """The last item that counts is the last that was chosen, and nothing is said to be bought that was disliked."""
    engine = shop()
    engine.learn_one(500, 10, timestamp=1e7)
    engine.learn_one(500, 60, -1.0, timestamp=1e7)
    for item in (9, 11, 60, 61):
        parts = engine.explain(500, item).parts
        assert {part.item for part in parts if part.name in ("after_last", "before_last")} == {10}
        assert [part.item for part in parts if part.name == "disliked"] == [60]
    engine.learn_one(501, 60, -1.0, timestamp=1e7)
    parts = engine.explain(501, 61).parts
    assert {part.item for part in parts if part.name in ("after_last", "before_last")} == {None}
    two = Engine.from_factors([7], [[0.0, 0.0]], [1, 2], [[1.0, 0.0], [-1.0, 0.0]], history=4)
    two.learn_one(7, 1, -1.0, weight=0.0)
    assert two.score(7, [2])[0] > 0
    assert two.explain(7, 2).sentence() == "because it may suit you"


def test_a_context_that_is_none() -> None:
    engine = shop(item_features=["margin"])
    for context in (["margin"], {"margin": "a"}, {"margin": None}):
        with pytest.raises(TypeError, match="context"):
            engine.recommend(1, context=context)  # type: ignore[arg-type]


def test_explanations_of_other_users() -> None:
    engine = shop()
    unknown = engine.explain(999, 4)
    assert [part.name for part in unknown.parts] == ["popularity"]
    assert unknown.score == pytest.approx(float(engine.rank(999, [4]).scores[0]))
    assert unknown.sentence() == "because it is popular"
    with pytest.raises(KeyError, match="4711"):
        engine.explain(1, 4711)
    als = Engine(dim=4, user_model="als")
    als.set_items([1, 2], [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    als.learn_one(1, 1)
    found = als.explain(1, 2)
    assert sum(part.contribution for part in found.parts) == pytest.approx(float(als.score(1, [2])[0]), abs=1e-5)


# ---- the caller's features


def test_a_feature_that_matters_is_learned() -> None:
    rng = np.random.default_rng(0)
    engine = Engine(**SMALL, item_features=["cheap", "noise"])
    items = np.arange(1500)  # each chosen a few times: how often says less than the feature
    engine.set_items(items, rng.normal(0, 0.1, (1500, 4)))
    engine.set_item_features(items, np.stack([items < 500, rng.normal(0, 1, 1500)], axis=1))
    chosen = np.where(rng.random(8000) < 0.9, rng.integers(0, 500, 8000), rng.integers(500, 1500, 8000))
    engine.learn_many(rng.integers(0, 800, 8000), chosen, timestamps=np.arange(8000) * 50.0)
    weights = engine.ranker_weights()
    assert weights["cheap"][1] > 0.2
    assert abs(weights["noise"][1]) < weights["cheap"][1]


def test_context_counts_for_one_request() -> None:
    engine = shop(item_features=["margin", "price"])
    engine.set_item_features([7, 80], [[5.0, 0.0], [0.0, 5.0]])
    plain = engine.rank(1, [6, 7, 80])
    scores = dict(zip(plain.ids.tolist(), plain.scores.tolist(), strict=True))
    changed = engine.rank(1, [6, 7, 80], context={"margin": 2.0})
    moved = dict(zip(changed.ids.tolist(), changed.scores.tolist(), strict=True))
    assert moved[7] == pytest.approx(scores[7] + 10.0, abs=1e-4)
    assert (moved[6], moved[80]) == (scores[6], scores[80])
    assert engine.recommend(1, k=1, context={"price": 1e4}, among=[6, 7, 80]).ids.tolist() == [80]
    assert engine.plan(1, context={"price": 1.0})["rank_us"] > 0
    assert engine.recommend(history=[1], k=1, among=[6, 7, 80], context={"price": 1e4}).ids.tolist() == [80]
    assert engine.rank(1, [6, 7, 80]).scores.tolist() == plain.scores.tolist()


# ---- bad input


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"ranker": "lineár"}, "ranker must be one of 'none' 'linear' 'mlp', not 'lineár'"),
        ({"ranker": "linear", "objective": "squared"}, "ranker must be None for objective 'squared', not 'linear'"),
        ({"ranker": "linear", "objective": "logistic"}, "ranker must be None for objective 'logistic', not 'linear'"),
        ({"ranker": None, "item_features": ["a"]}, "item_features must be empty without a ranker, not a"),
        ({"item_features": ["a", "a"]}, "item_features must be distinct names, not twice 'a'"),
        ({"item_features": ["score"]}, "item_features must not have the name of a signal, 'score'"),
        ({"item_features": [""]}, "item_features must be names of 1 to 64 bytes, not ''"),
        ({"item_features": ["x" * 65]}, "item_features must be names of 1 to 64 bytes"),
        ({"item_features": [f"f{n}" for n in range(17)]}, "item_features must be at most 16 names, not 17"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        Engine(**options)


@pytest.mark.parametrize("names", ["price", [1], [None]])
def test_names_must_be_strings(names: Any) -> None:
    with pytest.raises(TypeError, match="item_features"):
        Engine(item_features=names)


def test_defaults() -> None:
    def settled(**options: Any) -> tuple[Any, int]:
        settings = Engine(**options).settings
        return settings["ranker"], settings["neighbors"]

    assert settled() == ("linear", 64)
    assert settled(neighbors=0) == ("linear", 0)
    assert settled(ranker=None) == (None, 0)
    for options in ({"history": 0}, {"objective": "bpr"}, {"objective": "squared"}, {"user_model": "als"}):
        assert settled(**options) == (None, 0)
    assert settled(objective="bpr", ranker="linear") == ("linear", 64)
    factors = [1], [[1.0]], [2], [[1.0]]
    assert Engine.from_factors(*factors).settings["ranker"] is None
    assert Engine.from_factors(*factors, ranker="linear").recommend(1).ids.tolist() == [2]


def test_wrong_features_and_contexts_are_refused() -> None:
    engine = shop(100, item_features=["a", "b"])
    items = list(engine.items)[:2]
    for values in ([1.0, 2.0], [[1.0, 2.0]], [[1.0], [2.0]], np.ones((2, 3)), 1.0):
        with pytest.raises(ValueError, match="shape"):
            engine.set_item_features(items, values)
    for wrong in (math.nan, math.inf, 1e16):
        with pytest.raises(ValueError, match="item feature"):
            engine.set_item_features(items, [[0.0, 0.0], [0.0, wrong]])
        with pytest.raises(ValueError, match="context"):
            engine.recommend(1, context={"a": wrong})
    with pytest.raises(KeyError, match="4711"):
        engine.set_item_features([items[0], 4711], [[1.0, 1.0], [2.0, 2.0]])
    assert not table(engine, 1, items)[:, -2:].any()  # nothing has changed
    with pytest.raises(ValueError, match="'c'"):
        engine.recommend(1, context={"c": 1.0})
    plain = shop(100, ranker=None)
    for call in (lambda: plain.ranker_features(1, items), lambda: plain.set_item_features(items, [1.0, 2.0])):
        with pytest.raises(ValueError, match=r"ranker|item_features"):
            call()
    with pytest.raises(ValueError, match="'a'"):
        plain.recommend(1, context={"a": 1.0})
    with pytest.raises(KeyError, match="4711"):
        engine.ranker_features(1, [4711])


@pytest.mark.parametrize("ranker", ["linear", "mlp"])
def test_rows_as_large_as_they_may_be(ranker: Any) -> None:
    """Inner products that overflow order nothing, and teach nothing that is not finite."""
    engine = Engine(**SMALL, ranker=ranker)
    engine.set_items(range(30), np.where(np.arange(30)[:, None] % 3 == 0, 1e15, -1e15) * np.ones((30, 4)))
    engine.set_users(range(5), np.full((5, 4), 1e15))
    engine.learn_many(np.arange(3000) % 5, np.arange(3000) % 7, timestamps=np.arange(3000) * 40.0)
    weights = np.array(list(engine.ranker_weights().values()))
    assert np.all(np.abs(weights) <= 64)
    ranking = engine.recommend(1, k=30)
    assert len(ranking.ids) == 30
    assert np.all(np.isfinite(ranking.scores))


def test_time_that_runs_backwards() -> None:
    engine = shop(max_ahead=np.inf)
    engine.learn_one(1, 5, timestamp=-1e15)
    engine.learn_one(1, 6, timestamp=1e15)
    engine.learn_one(1, 7, timestamp=0.0)
    features = table(engine, 1, list(engine.items))
    assert np.all(np.isfinite(features))
    assert np.all(np.isfinite(engine.recommend(1, k=200).scores))


def test_one_event_counts_at_most_eightfold() -> None:
    rng = np.random.default_rng(7)
    users, items = rng.integers(0, 40, 3000), rng.integers(0, 60, 3000)

    def after(events: int, weight: float) -> tuple[object, object]:
        """The ranker's weights before and after the last of so many events more, which has this weight."""
        engine = Engine(dim=8, threads=1, maintenance=False)
        engine.learn_many(users, items, timestamps=np.arange(3000) * 60.0)
        for number in range(events - 1):
            engine.learn_one(number % 40, number % 60, timestamp=2e5)
        before = engine.ranker_weights()
        engine.learn_one(1, 2, weight=weight, timestamp=2e5)
        return before, engine.ranker_weights()

    lessons = [events for events in range(1, 200) if len(set(map(str, after(events, 1.0)))) == 2]  # one in 64, or 4
    assert lessons
    for events in lessons[:3]:
        assert after(events, 1e4) == after(events, 8.0) != after(events, 7.0)

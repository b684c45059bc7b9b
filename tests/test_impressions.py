"""Impressions and feedback: what joins, what it weighs, what it teaches, and the log of it."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine, Feedback, ImpressionLog
from recengine.diversify import MMR
from recengine.explore import UCB, EpsilonGreedy, Greedy, Random, Softmax, ThompsonSampling

SCORES = [2.0, 1.0, 0.5, 0.0]
ITEMS = ["a", "b", "c", "d"]


def made(**settings: Any) -> Engine:
    rows = np.eye(4, 4, dtype=np.float32) * np.array(SCORES)[:, None]
    return Engine.from_factors(["ann"], np.ones((1, 4)), ITEMS, rows, **{"objective": "bpr", **settings})


def shown(engine: Engine, explore: Any = None, k: int = 2, seed: int = 1, **options: Any) -> tuple[int, Any]:
    ranking = engine.recommend("ann", k=k, explore=explore or Softmax(1.0), seed=seed)
    return engine.impression(ranking, **options), ranking


def test_the_log_holds_what_was_chosen_and_what_came_of_it() -> None:
    engine = made()
    number, ranking = shown(engine, timestamp=100.0)
    other, _ = shown(engine, EpsilonGreedy(0.5), seed=7)
    assert other == number + 1
    engine.feedback(number, ranking.ids[1], 0.5, learn=False)
    engine.feedback(number, ranking.ids[1], 2.0, learn=False)
    log = engine.impressions()
    assert len(log) == 2
    row = log[0]
    assert (row.number, row.time, row.user, row.policy, row.parameter, row.diversity, row.seed) == (
        number, 100.0, "ann", "softmax", 1.0, "none", 1,
    )  # fmt: skip
    assert row.candidates.tolist() == ITEMS
    np.testing.assert_array_equal(row.scores, np.array(SCORES, np.float32))
    assert row.items.tolist() == ranking.ids.tolist()
    np.testing.assert_array_equal(row.log_propensities, ranking.log_propensities)
    assert math.isnan(row.rewards[0])
    assert row.rewards[1] == 2.5
    assert log[1].policy == "epsilon_greedy"
    assert np.isnan(log[1].rewards).all()


def test_the_latest_impressions_are_kept() -> None:
    engine = made()
    engine.feedback_settings = Feedback(capacity=3)
    numbers = [shown(engine)[0] for _ in range(5)]
    assert [row.number for row in engine.impressions()] == numbers[2:]
    with pytest.raises(KeyError, match=f"impression {numbers[0]} has expired"):
        engine.feedback(numbers[0], "a", 1.0)
    engine.feedback_settings = Feedback(capacity=1)
    assert len(engine.impressions()) == 1


def test_the_window_ends() -> None:
    engine = made()
    engine.feedback_settings = Feedback(window=60.0)
    number, ranking = shown(engine, timestamp=1000.0)
    item = ranking.ids[0]
    assert engine.feedback(number, item, 1.0, timestamp=1060.0) > 0
    with pytest.raises(KeyError, match=f"impression {number} has expired.*61.*60"):
        engine.feedback(number, item, 1.0, timestamp=1061.0)
    assert engine.stats()["latest_timestamp"] == 1060.0  # nothing half applied
    engine.learn_one("bob", "a", timestamp=2000.0)
    with pytest.raises(KeyError, match="expired"):
        engine.feedback(number, item, 1.0)
    engine.feedback_settings = Feedback(window=math.inf)
    assert engine.feedback(number, item, 1.0) > 0


def test_without_timestamps_there_is_no_window(tmp_path: Path) -> None:
    """The engine has no other clock: what was shown before the first timestamp has no time, and does not expire when
    that comes."""
    engine = made()
    engine.feedback_settings = Feedback(window=60.0)
    numbers = [shown(engine)[0] for _ in range(2)]
    assert [math.isnan(row.time) for row in engine.impressions()] == [True, True]
    item = engine.impressions()[0].items[0]
    assert engine.feedback(numbers[0], item, 1.0) > 0
    engine.save(tmp_path / "early")
    for again in (engine, Engine.load(tmp_path / "early")):
        assert math.isnan(again.impressions()[0].time)
        again.learn_one("ann", "a", timestamp=1e9)
        assert again.feedback(numbers[0], item, 1.0) > 0
        assert again.feedback(numbers[0], item, 1.0, timestamp=5.0) > 0
        again.save(tmp_path / "late")
        assert math.isnan(Engine.load(tmp_path / "late").impressions()[1].time)
        # From now on what is untimed has the time of the latest event.
        later, _ = shown(again)
        assert again.impressions()[-1].time == 1e9
        again.learn_one("ann", "a", timestamp=1e9 + 61)
        with pytest.raises(KeyError, match=f"impression {later} has expired"):
            again.feedback(later, again.impressions()[-1].items[0], 1.0)


def test_clocks_that_differ() -> None:
    """Feedback that is timed before its impression, by another machine, is within the window."""
    engine = made()
    engine.feedback_settings = Feedback(window=60.0)
    number, ranking = shown(engine, timestamp=100.0)
    assert engine.feedback(number, ranking.ids[0], 1.0, timestamp=99.5) > 0
    assert engine.impressions()[0].rewards[0] == 1.0
    assert (engine.stats()["events"], engine.stats()["latest_timestamp"]) == (1, 100.0)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_inverse_propensity_weights(bias: float) -> None:
    engine = made()
    engine.feedback_settings = Feedback(clip=3.0, position_bias=bias)
    for seed in range(20):
        number, ranking = shown(engine, seed=seed)
        for slot, item in enumerate(ranking.ids):
            expected = min(3.0, math.exp(-ranking.log_propensities[slot]) * (slot + 1) ** bias)
            assert engine.feedback(number, item, 1.0, learn=False) == pytest.approx(expected)


def test_top_k_weights() -> None:
    engine = made()
    engine.feedback_settings = Feedback(correction="top_k", clip=2.0)
    wanted = np.exp(SCORES) / np.exp(SCORES).sum()
    for seed in range(20):
        number, ranking = shown(engine, Random(), k=3, seed=seed)
        for slot, item in enumerate(ranking.ids):
            share = wanted[ITEMS.index(item)]
            ratio = min(2.0, share / math.exp(ranking.log_propensities[slot]))
            expected = ratio * 3 * (1 - share) ** 2
            assert engine.feedback(number, item, 1.0, learn=False) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("explore", [UCB(1.0), ThompsonSampling(1.0)])
def test_unknown_propensities_weigh_one(explore: Any) -> None:
    engine = made()
    number, ranking = shown(engine, explore)
    assert engine.feedback(number, ranking.ids[0], 1.0) == 1.0
    engine.feedback_settings = Feedback(correction="none")
    number, ranking = shown(engine)
    assert engine.feedback(number, ranking.ids[0], 1.0) == 1.0


@pytest.mark.parametrize(
    ("objective", "reward", "value", "size"),
    [("bpr", 2.0, 1.0, 2.0), ("softmax", -1.5, -1.0, 1.5), ("logistic", -1.0, 0.0, 1.0), ("squared", 3.5, 3.5, 1.0)],
)
def test_feedback_teaches_what_a_weighted_event_does(objective: Any, reward: float, value: float, size: float) -> None:
    taught, told = made(objective=objective, seed=3), made(objective=objective, seed=3)
    number, ranking = shown(taught)
    item = str(ranking.ids[0])
    weight = taught.feedback(number, item, reward, timestamp=50.0)
    told.learn_one("ann", item, value=value, weight=float(np.float32(weight * size)), timestamp=50.0)
    np.testing.assert_array_equal(taught.factors().item_vectors, told.factors().item_vectors)
    np.testing.assert_array_equal(taught.factors().user_vectors, told.factors().user_vectors)
    assert taught.stats()["events"] == 1


@pytest.mark.parametrize("objective", ["bpr", "softmax", "logistic", "squared"])
@pytest.mark.parametrize("names", [("bob", "cid"), (7, 8)])
def test_feedback_of_a_new_user_is_learned(objective: Any, names: tuple[Any, Any]) -> None:
    """Whoever is not known is shown what is popular, and is a user from the first feedback on."""
    bob, cid = names
    users, rows = ["ann"] if isinstance(bob, str) else [1], np.eye(4, dtype=np.float32)
    taught, told = (Engine.from_factors(users, np.ones((1, 4)), ITEMS, rows, objective=objective) for _ in range(2))
    ranking = taught.recommend([bob, cid], k=2, explore=Softmax(1.0), seed=1)
    numbers = taught.impression(ranking)
    assert [row.user for row in taught.impressions()] == [bob, cid]
    assert bob not in taught.users
    for _ in range(50):
        weight = taught.feedback(numbers[0], ranking.ids[0, 0], 1.0)
        told.learn_one(bob, str(ranking.ids[0, 0]), weight=float(np.float32(weight)))
    assert taught.stats()["events"] == 50
    assert (bob in taught.users, cid in taught.users) == (True, False)
    np.testing.assert_array_equal(taught.user_vector(bob), told.user_vector(bob))
    np.testing.assert_array_equal(taught.factors().item_vectors, told.factors().item_vectors)


def test_the_first_user_that_is_shown_something_settles_the_kind_of_ids() -> None:
    engine = Engine(dim=4)
    engine.set_items(ITEMS, np.eye(4))
    held = engine.recommend(7, k=1, explore=Greedy())
    number = engine.impression(engine.recommend("bob", k=1, explore=Greedy()))
    for wrong in (lambda: engine.learn_one(7, "a"), lambda: engine.impression(held)):
        with pytest.raises(TypeError, match="are strings"):
            wrong()
    engine.feedback(number, "a", 1.0)
    assert "bob" in engine.users
    for users in ("x" * 600, ["bob", "x" * 600]):
        with pytest.raises(ValueError, match="600 bytes"):
            engine.recommend(users, k=1, explore=Greedy())


def test_new_users_need_room() -> None:
    full = made(max_users=1)
    ranking = full.recommend("bob", k=2, explore=Greedy())
    number = full.impression(ranking)
    with pytest.raises(ValueError, match="max_users"):
        full.feedback(number, ranking.ids[0], 1.0)
    assert np.isnan(full.impressions()[0].rewards).all()
    assert full.feedback(number, ranking.ids[0], 1.0, learn=False) == 1.0
    assert list(full.users) == ["ann"]
    evicting = made(max_users=1, evict="lru")
    shown_to_ann, _ = shown(evicting)
    ranking = evicting.recommend("bob", k=2, explore=Greedy())
    number = evicting.impression(ranking)
    assert evicting.feedback(number, ranking.ids[0], 0.0) == 1.0  # teaches nothing, and nobody has to go for it
    assert list(evicting.users) == ["ann"]
    evicting.feedback(number, ranking.ids[0], 1.0)
    assert list(evicting.users) == ["bob"]
    with pytest.raises(KeyError, match=f"impression {shown_to_ann} is gone: its user was removed"):
        evicting.feedback(shown_to_ann, "a", 1.0)


def test_visitors_teach_nothing_and_say_so() -> None:
    engine = made(history=2)
    number = engine.impression(engine.recommend(history=["a"], k=2, explore=Softmax(1.0), seed=1))
    item = engine.impressions()[0].items[0]
    before = engine.factors().item_vectors
    assert engine.feedback(number, item, 1.0) == 0.0
    np.testing.assert_array_equal(engine.factors().item_vectors, before)
    assert engine.impressions()[0].rewards[0] == 1.0
    assert engine.stats()["events"] == 0


def test_what_teaches_nothing_is_recorded() -> None:
    engine = made()
    number, ranking = shown(engine)
    first, second = ranking.ids
    engine.feedback(number, first, 0.0)  # shown, not chosen
    engine.feedback(number, second, 1.0, learn=False)
    assert engine.stats()["events"] == 0
    assert engine.impressions()[0].rewards.tolist() == [0.0, 1.0]
    visitor = engine.impression(engine.recommend(history=["a"], k=2, explore=Greedy()))
    engine.feedback(visitor, "a", 1.0)
    assert engine.stats()["events"] == 0
    assert engine.impressions()[1].user is None
    number, ranking = shown(engine, Greedy())
    engine.remove_items("a")
    with pytest.raises(KeyError, match="'a', or it was removed"):
        engine.feedback(number, "a", 1.0)
    assert "a" not in engine.items  # nor is it back


def test_batches_are_shown_together() -> None:
    engine = made()
    ranking = engine.recommend(["ann", "bob"], k=2, explore=Softmax(1.0), seed=1)
    numbers = engine.impression(ranking)
    assert numbers.tolist() == [1, 2]
    assert engine.feedback(numbers[1], ranking.ids[1, 0], 1.0) > 0
    assert engine.impression(engine.recommend([], k=2, explore=Greedy())).tolist() == []


def test_bad_feedback_changes_nothing() -> None:
    engine = made()
    number, ranking = shown(engine)
    for error, arguments, told in (
        (ValueError, (number, ranking.ids[0], math.nan), "nan"),
        (ValueError, (number, ranking.ids[0], math.inf), "inf"),
        (ValueError, (number, ranking.ids[0], 1e7), "1e"),
        (KeyError, (99, "a", 1.0), "unknown impression 99"),
        (KeyError, (0, "a", 1.0), "unknown impression 0"),
        (KeyError, (-1, "a", 1.0), "unknown impression -1"),
        (KeyError, (number, "nothing", 1.0), "did not show item 'nothing'"),
        (KeyError, (number, 3, 1.0), "did not show item 3"),
        (TypeError, (1.5, "a", 1.0), "1.5"),
        (TypeError, (number, 1.5, 1.0), "item"),
    ):
        with pytest.raises(error, match=told):
            engine.feedback(*arguments)
    with pytest.raises(ValueError, match="timestamp"):
        engine.feedback(number, ranking.ids[0], 1.0, timestamp=math.nan)
    with pytest.raises(ValueError, match="timestamp"):
        engine.impression(ranking, timestamp=1e18)
    with pytest.raises(ValueError, match="explore=Greedy"):
        engine.impression(engine.recommend("ann"))
    with pytest.raises(TypeError, match="Ranking"):
        engine.impression("ann")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ids of this engine"):
        Engine.from_factors([1], [[1.0]], [2], [[1.0]]).impression(ranking)
    assert np.isnan(engine.impressions()[0].rewards).all()
    assert engine.stats()["events"] == 0


@pytest.mark.parametrize(
    "values", [{"capacity": 0}, {"window": 0.0}, {"window": math.nan}, {"clip": -1.0}, {"position_bias": -0.5}]
)
def test_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Feedback(**values)
    core = {**Engine()._core.feedback_settings(), **values}
    with pytest.raises(ValueError, match=next(iter(values))):
        Engine()._core.set_feedback_settings(*core.values())


def test_settings_of_a_wrong_kind() -> None:
    engine = made()
    with pytest.raises(TypeError, match="Feedback"):
        engine.feedback_settings = {"clip": 3.0}  # type: ignore[assignment]
    with pytest.raises(TypeError, match="capacity"):
        Feedback(capacity=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="correction"):
        Feedback(correction="dr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="correction"):
        engine._core.set_feedback_settings(1, 1.0, "dr", 1.0, 0.0)


def test_the_log_goes_through_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    engine = made()
    number, ranking = shown(engine)
    engine.feedback(number, ranking.ids[0], 1.0)
    engine.impression(engine.recommend(history=["a"], k=3, explore=UCB(1.0)))
    engine.impression(engine.recommend("ann", k=2, explore=Random(), diversify=MMR(), seed=2))
    log = engine.impressions()
    log.to_parquet(tmp_path / "log.parquet")
    for again in (ImpressionLog.from_parquet(tmp_path / "log.parquet"), ImpressionLog.from_arrow(log.to_arrow())):
        assert len(again) == len(log)
        for one, other in zip(again, log, strict=True):
            for name in type(one).__dataclass_fields__:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
                assert type(getattr(one, name)) is type(getattr(other, name))
    with pytest.raises(ValueError, match="rewards"):
        ImpressionLog.from_arrow(log.to_arrow().drop_columns(["rewards"]))


def test_number_ids_go_through_arrow() -> None:
    pytest.importorskip("pyarrow")
    engine = Engine.from_factors([7], [[1.0]], [1, 2], [[1.0], [2.0]])
    engine.impression(engine.recommend(7, explore=Random(), seed=0))
    again = ImpressionLog.from_arrow(engine.impressions().to_arrow())
    assert again[0].user == 7
    assert again[0].candidates.dtype == np.int64


def test_threads_show_and_answer_at_once() -> None:
    engine = made()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for n in range(200):
                number, ranking = shown(engine, seed=seed * 1000 + n)
                engine.feedback(number, ranking.ids[n % 2], 1.0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    log = engine.impressions()
    assert [row.number for row in log] == list(range(1, 801))
    assert sum(int(np.isfinite(row.rewards).sum()) for row in log) == 800


def test_shown_items_are_known_better() -> None:
    """UCB leaves what it has shown often for what it has not."""
    engine = Engine.from_factors(["ann"], np.ones((1, 4)), ITEMS, np.eye(4) * 1.0, item_bias=[0.3, 0.2, 0.1, 0.0])
    seen = []
    for _ in range(12):
        ranking = engine.recommend("ann", k=1, explore=UCB(1.0))
        engine.impression(ranking)
        seen.append(ranking.ids[0])
    assert seen[0] == "a"
    assert set(seen) == set(ITEMS)
    engine.remove_users("ann")
    assert engine.stats()["users"] == 0


@pytest.mark.parametrize("names", [["ann", "bob"], [1, 2]])
def test_what_was_shown_to_a_removed_user_is_gone(names: list[Any]) -> None:
    engine = Engine.from_factors(names, np.ones((2, 4)), ITEMS, np.eye(4, dtype=np.float32), objective="bpr")
    numbers = engine.impression(engine.recommend(names, k=2, explore=Random(), seed=3)).tolist()
    visitor = engine.impression(engine.recommend(history=["a"], k=2, explore=Random(), seed=3))
    engine.remove_users(names[:1])
    log = engine.impressions()
    assert [row.number for row in log] == [numbers[1], visitor]
    with pytest.raises(KeyError, match=f"impression {numbers[0]} is gone: its user was removed"):
        engine.feedback(numbers[0], "a", 1.0)
    engine.feedback(numbers[1], log[0].items[0], 1.0)
    assert engine.impressions()[0].rewards[0] == 1.0


def test_feedback_that_cannot_be_learned_is_not_recorded(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "shop", objective="bpr", dim=4, history=0) as engine:
        engine.learn_many(["ann"] * 3, ["a", "b", "c"])
        number, ranking = shown(engine)
        engine.close()
        with pytest.raises(ValueError, match="closed"):
            engine.feedback(number, ranking.ids[0], 1.0)
        assert np.isnan(engine.impressions()[0].rewards).all()

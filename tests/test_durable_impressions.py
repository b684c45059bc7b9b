"""Impressions in files and logs: what was shown is there after reopening, and what was removed is not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine, Feedback, ImpressionLog
from recengine.explore import UCB, Greedy, Random, Softmax, ThompsonSampling

ITEMS = ["a", "b", "c", "d"]


def made(**settings: Any) -> Engine:
    rows = np.eye(4, dtype=np.float32)
    return Engine.from_factors(["ann", "bob"], np.ones((2, 4)), ITEMS, rows, **{"objective": "bpr", **settings})


def filled(folder: Path, **options: Any) -> Engine:
    engine = Engine.open(folder, dim=4, objective="bpr", history=2, checkpoint_bytes=0, **options)
    engine.set_items(ITEMS, np.eye(4))
    engine.set_users(["ann", "bob"], np.ones((2, 4)))
    return engine


def same(one: ImpressionLog, other: ImpressionLog) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        for name in type(left).__dataclass_fields__:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def killed(folder: Path) -> Path:
    """What a process that is killed now leaves."""
    copy = folder.with_name("killed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return copy


@pytest.mark.parametrize("checkpoint", [False, True])
def test_feedback_joins_after_a_kill(checkpoint: bool, tmp_path: Path) -> None:
    live = filled(tmp_path / "shop")
    live.feedback_settings = Feedback(capacity=7, window=500.0, correction="top_k", clip=3.0, position_bias=0.5)
    numbers = [
        live.impression(live.recommend(who, k=2, explore=explore), timestamp=100.0)
        for who, explore in (("ann", Random()), ("bob", Softmax(1.0)), ("ann", ThompsonSampling(samples=50)))
    ]
    live.feedback(numbers[0], live.impressions()[0].items[1], 2.0)
    if checkpoint:
        live.checkpoint()
    with Engine.open(killed(tmp_path / "shop")) as again:
        same(again.impressions(), live.impressions())
        assert again.feedback_settings == live.feedback_settings
        item = live.impressions()[1].items[0]
        assert again.feedback(numbers[1], item, 1.0) == live.feedback(numbers[1], item, 1.0)
        same(again.impressions(), live.impressions())
        np.testing.assert_array_equal(again.factors().item_vectors, live.factors().item_vectors)
        for explore in (UCB(1.0), UCB(1.0, "shared"), ThompsonSampling(2.0), Random()):  # the same draws from here on
            one, other = again.recommend("ann", k=3, explore=explore), live.recommend("ann", k=3, explore=explore)
            assert (one.seed, one.ids.tolist()) == (other.seed, other.ids.tolist())
        with pytest.raises(KeyError, match="expired"):
            again.feedback(numbers[1], item, 1.0, timestamp=601.0)


def test_impressions_without_a_time_after_a_kill(tmp_path: Path) -> None:
    live = filled(tmp_path / "shop")
    live.feedback_settings = Feedback(window=60.0)
    number = live.impression(live.recommend("ann", k=2, explore=Random()))
    live.learn_one("bob", "a", timestamp=1e9)
    with Engine.open(killed(tmp_path / "shop")) as again:
        assert math.isnan(again.impressions()[0].time)
        assert again.feedback(number, again.impressions()[0].items[0], 1.0) > 0


def test_saved_and_loaded(tmp_path: Path) -> None:
    engine = made(ranker="linear", item_features=["price"])
    engine.impression(engine.recommend(history=["a", "b"], k=2, explore=UCB(1.0, "shared"), context={"price": 0.25}))
    engine.feedback(1, engine.impressions()[0].items[0], -1.0)
    engine.impression(engine.recommend("bob", k=3, explore=Random()))
    engine.remove_users("bob")
    engine.impression(engine.recommend("ann", k=3, explore=Greedy()), timestamp=8.0)
    engine.save(tmp_path / "file")
    again = Engine.load(tmp_path / "file")
    same(again.impressions(), engine.impressions())
    assert [row.number for row in again.impressions()] == [1, 3]
    assert again.impressions()[0].history.tolist() == ["a", "b"]
    assert again.impressions()[0].context.tolist() == [0.25]
    with pytest.raises(KeyError, match="its user was removed"):
        again.feedback(2, "a", 1.0)
    ranking = again.recommend("ann", k=4, explore=UCB(1.0, "shared"))
    np.testing.assert_array_equal(ranking.ids, engine.recommend("ann", k=4, explore=UCB(1.0, "shared")).ids)
    assert again.impression(ranking) == 4


def test_saved_where_all_that_was_shown_is_gone(tmp_path: Path) -> None:
    engine = made()
    engine.impression(engine.recommend("bob", k=3, explore=Random()))
    engine.remove_users("bob")
    engine.save(tmp_path / "file")
    again = Engine.load(tmp_path / "file")
    assert len(again.impressions()) == 0
    with pytest.raises(KeyError, match="its user was removed"):
        again.feedback(1, "a", 1.0)


def test_nothing_is_saved_where_nothing_was_shown(tmp_path: Path) -> None:
    made().save(tmp_path / "file")
    assert b"shown" not in (tmp_path / "file").read_bytes()
    assert b"precision" not in (tmp_path / "file").read_bytes()


def test_removed_items_keep_their_places_only(tmp_path: Path) -> None:
    live = filled(tmp_path / "shop")
    for _ in range(3):
        live.impression(live.recommend("ann", k=3, explore=Random()))
    live.impression(live.recommend(history=["b", "a"], k=4, explore=Greedy()))
    held = live.recommend("bob", k=4, explore=Random(), seed=5)
    before = live.impressions()
    live.remove_items("a")
    live.learn_one("ann", "a")  # another item of the same name
    for engine in (live, Engine.open(killed(tmp_path / "shop"))):
        after = engine.impressions()
        for old, new in zip(before, after, strict=True):
            assert new.candidates.tolist() == [None if item == "a" else item for item in old.candidates]
            assert new.history.tolist() == [item for item in old.history if item != "a"]
            for name in ("scores", "slate", "log_propensities", "rewards"):
                np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
            with pytest.raises(KeyError, match="'a', or it was removed"):
                engine.feedback(new.number, "a", 1.0)
            weight = engine.feedback(new.number, next(item for item in new.items if item is not None), 1.0)
            assert (weight > 0) == (new.user is not None)
        if engine is not live:
            engine.close()
    # What was chosen before the removal may be shown after it.
    live.remove_items("a")
    number = live.impression(held)
    row = live.impressions()[-1]
    assert (row.number, row.candidates.tolist().count(None)) == (number, 1)
    live.remove_users("bob")
    gone = live.impression(held)
    with pytest.raises(KeyError, match="its user was removed"):
        live.feedback(gone, "b", 1.0)
    live.close()
    with Engine.open(tmp_path / "shop") as again:
        assert [row.number for row in again.impressions()] == [1, 2, 3, 4]


def test_the_log_with_removed_items_goes_through_arrow() -> None:
    pytest.importorskip("pyarrow")
    for engine in (made(), Engine.from_factors([7], [[1.0]], [1, 2], [[1.0], [2.0]])):
        items = list(engine.items)
        engine.impression(engine.recommend(history=items[:2], k=2, explore=Random(), seed=0))
        engine.remove_items(items[:1])
        log = engine.impressions()
        assert None in log[0].candidates
        same(ImpressionLog.from_arrow(log.to_arrow()), log)
        older = log.to_arrow().drop_columns(["context", "history"])
        assert ImpressionLog.from_arrow(older)[0].history.tolist() == []


def test_removed_ids_are_in_no_file_after_a_checkpoint(tmp_path: Path) -> None:
    secret_user, secret_item = "user-7f3a", "item-9c1d"
    with filled(tmp_path / "shop") as engine:
        engine.learn_one(secret_user, secret_item)
        for who in (secret_user, "ann"):
            ranking = engine.recommend(who, k=5, explore=Random())
            engine.feedback(engine.impression(ranking), secret_item, 1.0)
        engine.impression(engine.recommend(history=[secret_item], k=2, explore=Random()))
        held = engine.recommend(secret_user, k=5, explore=Random())
        engine.checkpoint()

        def traces() -> int:
            files = [path.read_bytes() for path in (tmp_path / "shop").iterdir()]
            return sum(word.encode() in file for file in files for word in (secret_user, secret_item))

        assert traces() == 2
        engine.remove_users(secret_user)
        engine.remove_items(secret_item)
        engine.checkpoint()
        engine.impression(held)
        engine.save(tmp_path / "shop" / "saved")
        assert traces() == 0
        assert len(engine.impressions()) == 2


def test_a_user_without_a_row_can_be_removed_too(tmp_path: Path) -> None:
    """Who was only shown something is in impressions, and in their files, and nowhere else."""
    secret = "user-7f3a"
    with filled(tmp_path / "shop") as engine:
        for _ in range(2):
            ranking = engine.recommend(secret, k=2, explore=Random())
            number = engine.impression(ranking)
            engine.feedback(number, ranking.ids[0], 1.0, learn=False)
        assert secret not in engine.users
        held = [engine.recommend(who, k=2, explore=Random()) for who in (secret, "stranger")]
        with pytest.raises(KeyError, match="unknown user 'nobody'"):
            engine.remove_users([secret, "nobody"])
        engine.checkpoint()

        def traces() -> int:
            return sum(secret.encode() in path.read_bytes() for path in (tmp_path / "shop").iterdir())

        assert traces() == 1
        engine.remove_users([secret, secret])
        with Engine.open(killed(tmp_path / "shop")) as again:
            assert len(again.impressions()) == 0
        with pytest.raises(KeyError, match="unknown user"):
            engine.remove_users(secret)
        engine.checkpoint()
        # Whoever was not known when users were removed may be one of them.
        for ranking in held:
            with pytest.raises(KeyError, match="its user was removed"):
                engine.feedback(engine.impression(ranking), ranking.ids[0], 1.0)
        engine.save(tmp_path / "shop" / "saved")
        assert traces() == 0
        fresh = engine.recommend("stranger", k=2, explore=Random())
        engine.remove_items(next(item for item in ITEMS if item not in fresh.ids))
        assert engine.feedback(engine.impression(fresh), fresh.ids[0], 1.0) > 0
        with Engine.open(killed(tmp_path / "shop")) as again:
            assert list(again.users) == ["ann", "bob", "stranger"]
            np.testing.assert_array_equal(again.user_vector("stranger"), engine.user_vector("stranger"))


def test_the_queue_is_bounded_in_files_too(tmp_path: Path) -> None:
    with filled(tmp_path / "shop") as engine:
        engine.feedback_settings = Feedback(capacity=5)
        for _ in range(20):
            engine.impression(engine.recommend("ann", k=2, explore=Random()))
        engine.checkpoint()
        engine.impression(engine.recommend("ann", k=2, explore=Random()))
    with Engine.open(tmp_path / "shop") as again:
        assert [row.number for row in again.impressions()] == [17, 18, 19, 20, 21]
        again.feedback_settings = Feedback(capacity=2)
    with Engine.open(tmp_path / "shop") as again:
        assert len(again.impressions()) == 2


def test_a_closed_engine_shows_nothing(tmp_path: Path) -> None:
    engine = filled(tmp_path / "shop")
    ranking = engine.recommend("ann", k=2, explore=UCB(1.0))
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.impression(ranking)
    with pytest.raises(ValueError, match="closed"):
        engine.feedback_settings = Feedback(capacity=2)
    assert len(engine.impressions()) == 0
    assert engine.feedback_settings == Feedback()
    again = engine.recommend("ann", k=4, explore=UCB(1.0))
    assert again.ids.tolist() == engine.recommend("ann", k=4, explore=UCB(1.0)).ids.tolist()


def test_a_refused_batch_takes_no_seed() -> None:
    one, other = made(seed=3), made(seed=3)
    one.set_filter("sold", ["a"])
    sold = one.filter("sold")
    one.remove_filter("sold")
    with pytest.raises(KeyError, match="sold"):
        one.recommend(["ann", "bob"], k=2, explore=Random(), filter=sold)
    with pytest.raises(TypeError, match="user ids"):
        one.recommend([1, 2], k=2, explore=Random())
    seeds = [engine.recommend(["ann", "bob"], k=2, explore=Random()).seed.tolist() for engine in (one, other)]
    assert seeds[0] == seeds[1]
    assert math.isfinite(seeds[0][0])

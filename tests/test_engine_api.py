"""What the engine's methods return: shapes, dtypes, ids; and that it shares no array with its callers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine

DIM = 8
INTS: list[Any] = [-(2**63), -1, 0, 1, 2**63 - 1]
STRINGS: list[Any] = ["", "a", "a\0b", "é", "日本語", "😀", "x" * 512, "é" * 256]
KINDS = pytest.mark.parametrize("ids", [INTS, STRINGS], ids=["int", "str"])


def vectors(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def catalogue(item_ids: list[Any], user_ids: list[Any] | None = None, **settings: Any) -> Engine:
    """An engine over random factors: what it should answer is a line of numpy."""
    users = ["ann", "bob"] if user_ids is None else user_ids
    biases = np.linspace(-1, 1, len(item_ids), dtype=np.float32)
    return Engine.from_factors(
        users, vectors(len(users), 1), item_ids, vectors(len(item_ids), 2), None, biases, **settings
    )


@KINDS
def test_ids_come_back_as_they_went_in(ids: list[Any], tmp_path: Path) -> None:
    engine = Engine(dim=DIM)
    for user, item in zip(ids, reversed(ids), strict=True):
        engine.learn_one(user, item)
    engine.save(tmp_path / "engine")
    dtype = np.dtype(np.int64) if ids is INTS else np.dtype(object)
    for each in (engine, Engine.load(tmp_path / "engine")):
        assert list(each.users) == ids
        assert list(each.items) == ids[::-1]
        assert all(user in each.users and user in each.items for user in ids)
        factors = each.factors()
        for column in (factors.user_ids, factors.item_ids):
            assert column.dtype == dtype
            assert sorted(column.tolist()) == sorted(ids)
        for ranking in (each.recommend(ids[0], k=99), each.recommend("nobody" if ids is STRINGS else 5, k=99)):
            assert ranking.ids.dtype == dtype
            assert sorted(ranking.ids.tolist()) == sorted(ids)
            assert all(type(item) is type(ids[0]) for item in ranking.ids.tolist())
        assert sorted([*each.similar_items(ids[0], k=99).ids.tolist(), ids[0]]) == sorted(ids)


def test_one_kind_a_side_each_its_own() -> None:
    engine = Engine(dim=DIM)
    engine.learn_one("ann", 1)
    assert list(engine.users) == ["ann"]
    assert list(engine.items) == [1]
    assert "ann" in engine.users
    assert 1 in engine.items


@pytest.mark.parametrize(
    "key", [1.0, None, True, b"ann", ["ann"], 2**63, -(2**63) - 1, "x" * 513, "\ud800", "other", 7]
)
def test_what_is_no_id_of_the_engine_is_not_in_it(key: object) -> None:
    engine = catalogue(["tea"])
    assert key not in engine.items
    assert key not in engine.users


def test_numpy_ids() -> None:
    engine = Engine(dim=DIM)
    engine.learn_one(np.str_("ann"), np.int32(7).item())
    engine.learn_many([np.str_("ann")], [np.int32(7)])
    assert np.int64(7) in engine.items
    assert np.str_("ann") in engine.users
    assert engine.recommend(np.str_("ann"), k=1).ids.tolist() == [7]


def test_containers() -> None:
    engine = catalogue(["tea", "cup", "pen"])
    assert len(engine.items) == 3
    assert list(engine.items) == ["tea", "cup", "pen"]
    assert repr(engine.items) == "<3 items>"
    assert repr(engine.users) == "<2 users>"


@KINDS
def test_scalar_and_batch_shapes(ids: list[Any]) -> None:
    engine = catalogue(ids, ids)
    dtype = np.dtype(np.int64) if ids is INTS else np.dtype(object)
    n = len(ids)
    for k, shown in [(0, 0), (1, 1), (n, n), (n + 7, n)]:
        one = engine.recommend(ids[0], k=k)
        assert (one.ids.shape, one.scores.shape, one.counts) == ((shown,), (shown,), shown)
        assert (one.ids.dtype, one.scores.dtype) == (dtype, np.dtype(np.float32))
        assert isinstance(one.counts, int)
        many = engine.recommend(ids[:2], k=k)
        assert (many.ids.shape, many.scores.shape) == ((2, k), (2, k))
        assert isinstance(many.counts, np.ndarray)
        assert (many.ids.dtype, many.scores.dtype) == (dtype, np.dtype(np.float32))
        assert many.counts.dtype == np.dtype(np.int64)
        assert many.counts.tolist() == [shown, shown]
        assert many.ids[:, shown:].tolist() == [[-1 if ids is INTS else None] * (k - shown)] * 2
        assert (many.scores[:, shown:] == -np.inf).all()
        assert one.certified is True
        assert many.certified is True


@KINDS
def test_shapes_where_nothing_matches(ids: list[Any]) -> None:
    engine = catalogue(ids, ids)
    dtype = np.dtype(np.int64) if ids is INTS else np.dtype(object)
    missing = -1 if ids is INTS else None
    for ranking in (
        engine.recommend(ids[0], among=[]),
        engine.recommend(ids[0], k=0),
        engine.recommend(ids[0], exclude=ids),
        engine.recommend(history=[], among=[]),
        engine.rank(ids[0], []),
        engine.search(vectors(1)[0], k=0),
    ):
        assert (ranking.ids.shape, ranking.ids.dtype, ranking.counts) == ((0,), dtype, 0)
    batch = engine.recommend(ids[:2], k=3, exclude=ids)
    assert batch.ids.dtype == dtype
    assert batch.ids.tolist() == [[missing] * 3] * 2
    assert engine.recommend(np.array(ids[:0]), k=3).ids.shape == (0, 3)
    engine.remove_items(ids)
    assert engine.factors().item_ids.dtype == dtype


def test_vectors_are_copies() -> None:
    engine = catalogue(["tea", "cup"])
    reads: list[Callable[[], npt.NDArray[np.float32]]] = [
        lambda: engine.item_vector("tea"),
        lambda: engine.item_vector(["tea", "cup"]),
        lambda: engine.user_vector("ann"),
        lambda: engine.factors().item_vectors,
        lambda: engine.factors().item_biases,
        lambda: engine.score("ann", ["tea"]),
        lambda: engine.recommend("ann").scores,
    ]
    for read in reads:
        first = read()
        kept = first.copy()
        first[:] = 99
        np.testing.assert_array_equal(read(), kept)
    assert engine.item_vector("tea").shape == (DIM,)
    assert engine.item_vector(["cup", "tea", "cup"]).shape == (3, DIM)
    assert engine.item_vector(["cup", "tea", "cup"]).dtype == np.float32
    assert engine.user_vector([]).shape == (0, DIM)


def test_arguments_are_not_changed_nor_kept() -> None:
    rows = vectors(2)
    ids = np.array([5, 6])
    kept_rows, kept_ids = rows.copy(), ids.copy()
    engine = Engine(dim=DIM)
    engine.set_items(ids, rows)
    np.testing.assert_array_equal(rows, kept_rows)
    np.testing.assert_array_equal(ids, kept_ids)
    rows[:] = 0
    ids[:] = 0
    np.testing.assert_array_equal(engine.item_vector(kept_ids), kept_rows)


def test_factors_go_round() -> None:
    users, items = vectors(3, 1), vectors(4, 2)
    engine = Engine.from_factors([1, 2, 3], users, list("abcd"), items, [1, 2, 3], [4, 5, 6, 7], global_bias=0.5)
    factors = engine.factors()
    assert factors.user_ids.tolist() == [1, 2, 3]
    assert factors.item_ids.tolist() == list("abcd")
    np.testing.assert_array_equal(factors.user_vectors, users)
    np.testing.assert_array_equal(factors.item_vectors, items)
    assert factors.user_biases.tolist() == [1, 2, 3]
    assert factors.item_biases.tolist() == [4, 5, 6, 7]
    assert factors.global_bias == 0.5
    assert engine.settings["history"] == 0
    again = Engine.from_factors(*(factors[k] for k in (0, 1, 3, 4, 2, 5)), global_bias=factors.global_bias)
    for one, other in zip(again.factors(), factors, strict=True):
        np.testing.assert_array_equal(one, other)


def test_setting_rows_again() -> None:
    engine = catalogue(["tea", "cup"])
    rows = vectors(3, 5)
    engine.set_items(["pen", "tea", "tea"], rows)  # the last one counts
    np.testing.assert_array_equal(engine.item_vector(["pen", "tea"]), rows[[0, 2]])
    assert engine.factors().item_biases.tolist() == [-1.0, 1.0, 0.0]  # without biases, they stay
    engine.set_items(["cup"], rows[:1], [0.25])
    assert engine.factors().item_biases.tolist() == [-1.0, 0.25, 0.0]
    engine.set_users(["eve"], rows[:1])
    np.testing.assert_array_equal(engine.user_vector("eve"), rows[0])


def test_setting_known_rows_takes_no_memory() -> None:
    engine = Engine(dim=DIM)
    ids, rows = np.arange(20_000), np.zeros((20_000, DIM), dtype=np.float32)
    engine.set_items(ids, rows)
    before = engine.stats()["memory_bytes"]["items"]
    engine.set_items(ids, rows)
    engine.learn_many(ids, ids, weights=np.zeros(20_000))
    assert engine.stats()["memory_bytes"]["items"] == before


def test_settings_make_the_same_engine_again() -> None:
    engine = Engine(
        dim=12,
        objective="logistic",
        seed=7,
        learning_rate=0.25,
        learning_rate_decay=0.125,
        optimizer="sgd",
        l2=0.5,
        max_step=2.0,
        init_scale=0.5,
        negatives=3,
        recent_share=0.5,
        history=2,
        history_decay=0.75,
        popularity_half_life=3600.0,
        threads=2,
    )
    assert engine.settings["learning_rate"] == 0.25
    assert engine.settings["objective"] == "logistic"
    assert Engine(**engine.settings).settings == engine.settings
    engine.learning_rate = 0.5
    engine.threads = 5
    assert (engine.learning_rate, engine.threads) == (0.5, 5)
    assert (engine.settings["learning_rate"], engine.settings["threads"]) == (0.5, 5)


def test_a_rate_of_zero_learns_nothing_but_remembers() -> None:
    engine = catalogue([1, 2, 3], history=2)
    before = engine.factors()
    engine.learning_rate = 0.0
    engine.learn_many(["ann"] * 3, [1, 2, 3])
    after = engine.factors()
    np.testing.assert_array_equal(before.item_vectors, after.item_vectors)
    np.testing.assert_array_equal(before.user_vectors, after.user_vectors)
    assert engine.recommend("ann", exclude_seen=True).counts == 0
    engine.learning_rate = 0.1
    engine.learn_one("ann", 1)
    assert not np.array_equal(before.item_vectors, engine.factors().item_vectors)


def test_weight_zero_remembers_without_learning() -> None:
    engine = catalogue([1, 2, 3], history=2)
    before = engine.factors()
    engine.learn_one("ann", 2, weight=0.0)
    np.testing.assert_array_equal(before.item_vectors, engine.factors().item_vectors)
    assert engine.recommend("ann", exclude_seen=True, k=9).counts == 2
    assert engine.recommend("nobody", k=1).ids.tolist() == [2]


def test_statistics() -> None:
    engine = Engine(dim=DIM)
    assert engine.stats()["latest_timestamp"] is None
    engine.learn_many(["a", "b"], [1, 1], timestamps=[7.0, 5.0])
    engine.learn_one("a", 2)
    engine.recommend("a")
    engine.recommend(["a", "b"])
    figures = engine.stats()
    assert (figures["users"], figures["items"], figures["events"], figures["queries"]) == (2, 2, 3, 3)
    assert figures["latest_timestamp"] == 7.0
    assert figures["memory_bytes"]["items"] > 0
    assert figures["query_us"]["count"] > 0
    assert 0 < figures["query_us"]["p50"] <= figures["query_us"]["p90"] <= figures["query_us"]["p99"]


def test_representations() -> None:
    engine = catalogue(["<b>tea", "cup"])
    assert repr(engine) == "Engine(objective='softmax', dim=8, users=2, items=2, events=0)"
    assert "softmax" in engine._repr_html_()
    assert "&lt;b&gt;tea" in engine.recommend("ann")._repr_html_()
    assert "2 queries" in repr(engine.recommend(["ann", "bob"], k=4))
    assert repr(engine.recommend("ann", k=0)) == "Ranking()"


def test_an_empty_engine_answers(tmp_path: Path) -> None:
    engine = Engine(dim=DIM)
    engine.save(tmp_path / "engine")
    for each in (engine, Engine.load(tmp_path / "engine")):
        assert (len(each.users), len(each.items), list(each.items)) == (0, 0, [])
        assert each.recommend("ann").counts == 0
        assert each.recommend(5).counts == 0
        assert each.recommend(history=["x"]).counts == 0
        assert each.recommend(["ann", "bob"], k=3).ids.shape == (2, 3)
        assert each.recommend([], k=3).ids.shape == (0, 3)
        assert each.search(np.zeros(DIM)).counts == 0
        assert each.score("ann", []).shape == (0,)
        assert each.rank("ann", []).counts == 0
        assert each.item_vector([]).shape == (0, DIM)
        assert each.factors().user_vectors.shape == (0, DIM)
        with pytest.raises(KeyError, match="x"):
            each.similar_items("x")
        with pytest.raises(KeyError, match="x"):
            each.score("ann", ["x"])
        with pytest.raises(KeyError, match="x"):
            each.item_vector("x")
        each.remove_items([])
        each.remove_users([])
        each.learn_many([], [])
        assert each.stats()["events"] == 0
        each.learn_one(1, "x")  # none of this has settled what ids are
        assert each.recommend(1).ids.tolist() == ["x"]


def test_removed_items_are_forgotten() -> None:
    engine = Engine(dim=DIM)
    engine.learn_many(["ann"] * 4 + ["bob"], ["a", "b", "c", "d", "a"])
    engine.remove_items(["a", "c", "a"])
    assert sorted(engine.items) == ["b", "d"]
    assert len(engine.items) == 2
    assert "a" not in engine.items
    known, unknown = engine.recommend("ann"), engine.recommend("nobody")
    for ranking in (known, unknown, engine.search(np.ones(DIM)), engine.similar_items("b")):
        assert not {"a", "c"} & set(ranking.ids.tolist())
    with pytest.raises(KeyError, match="'a'"):
        engine.item_vector("a")
    engine.set_items(["a"], vectors(1))
    assert engine.recommend("ann", exclude_seen=True).ids.tolist() == ["a"]  # another item by the same name
    np.testing.assert_array_equal(engine.item_vector("a"), vectors(1)[0])
    assert engine.recommend("nobody").ids[-1] == "a"
    assert engine.recommend("nobody").scores[-1] == pytest.approx(0.01)  # as of any new item
    assert engine.factors().item_biases[list(engine.items).index("a")] == 0


def test_removed_users_are_forgotten() -> None:
    engine = Engine(dim=DIM)
    engine.learn_many(["ann", "ann", "bob"], ["a", "b", "c"])
    engine.remove_users(["ann"])
    assert list(engine.users) == ["bob"]
    np.testing.assert_array_equal(engine.recommend("ann").ids, engine.recommend("nobody").ids)
    with pytest.raises(KeyError, match="'ann'"):
        engine.user_vector("ann")
    engine.learn_one("eve", "c")  # into the freed row, perhaps
    assert sorted(engine.recommend("eve", exclude_seen=True).ids.tolist()) == ["a", "b"]
    learned = engine.factors().user_vectors[list(engine.users).index("eve")]
    newest = float(engine._core.context_weights()[0])
    np.testing.assert_allclose(engine.user_vector("eve"), learned + newest * engine.item_vector("c"), rtol=1e-5)

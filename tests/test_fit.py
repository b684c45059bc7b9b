"""Offline training: the methods against float64 references, early stopping, bad input, threads."""

from __future__ import annotations

import math
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine, Ials, Sgd, Softmax
from recengine.fit import Epoch
from reference.factorisation import als_epoch, slope, softmax_loss, solve_side, unit

Floats = npt.NDArray[np.float64]
METHODS: list[Any] = ["sgd", "ials", "softmax"]
USERS, ITEMS, GROUPS = 120, 60, 4


def clustered(seed: int = 0, n: int = 3000) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of users who mostly choose among the items of their own group."""
    rng = np.random.default_rng(seed)
    users = rng.integers(USERS, size=n)
    group = np.where(rng.random(n) < 0.9, users % GROUPS, rng.integers(GROUPS, size=n))
    return users, group + GROUPS * rng.integers(ITEMS // GROUPS, size=n)


def counts(users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Floats:
    table = np.zeros((USERS, ITEMS))
    np.add.at(table, (users, items), 1.0)
    return table


def ordered(engine: Engine) -> tuple[Floats, Floats]:
    """Rows of users 0, 1, ... and items 0, 1, ..., as queries use them."""
    users, items = sorted(engine.users), sorted(engine.items)
    return engine.user_vector(users).astype(np.float64), engine.item_vector(items).astype(np.float64)


@pytest.mark.parametrize("history", [0, 3])
@pytest.mark.parametrize("dim", [5, 64])
def test_ials_is_the_exact_minimum_of_each_side_in_turn(dim: int, history: int) -> None:
    users, items = clustered()
    engine = Engine(dim=dim, history=history, seed=3, ranker=None)
    start = np.random.default_rng(1).normal(scale=0.3, size=(ITEMS, dim)).astype(np.float32)
    engine.set_items(range(ITEMS), start)
    method = Ials(unobserved_weight=0.2, l2=0.05, l2_exponent=0.6, steps=400)
    result = engine.fit(users, items, method=method, epochs=2)
    expected = als_epoch(counts(users, items), start.astype(np.float64), w0=0.2, l2=0.05, exponent=0.6, epochs=2)
    for rows, wanted in zip(ordered(engine), expected, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=2e-4)
    assert result.epochs == result.best_epoch == 2
    assert result.recalls == ()


def test_ials_takes_values_as_weights() -> None:
    users, items = clustered(n=400)
    values = np.random.default_rng(2).uniform(0.5, 3, size=400).astype(np.float32)
    weights = np.zeros((USERS, ITEMS))
    np.add.at(weights, (users, items), values)
    used_users, used_items = np.unique(users), np.unique(items)
    engine = Engine(dim=6, history=0)
    start = np.random.default_rng(1).normal(size=(ITEMS, 6)).astype(np.float32)
    engine.set_items(range(ITEMS), start)
    engine.fit(users, items, values, method=Ials(0.1, 0.1, 1.0, steps=300), epochs=1)
    expected = als_epoch(
        weights[np.ix_(used_users, used_items)], start[used_items].astype(np.float64), w0=0.1, l2=0.1, exponent=1.0
    )
    np.testing.assert_allclose(engine.user_vector(used_users), expected[0], atol=2e-4)
    np.testing.assert_allclose(engine.item_vector(used_items), expected[1], atol=2e-4)


@pytest.mark.parametrize("exponent", [1.0, 0.5])
@pytest.mark.parametrize("history_weight", [0.0, 1.5])
@pytest.mark.parametrize("popularity", [0.0, 0.8])
def test_the_first_step_of_softmax_follows_the_gradient(
    popularity: float, history_weight: float, exponent: float
) -> None:
    """Over all items and users at once; Adam's first step is the sign of the gradient, times the rate."""
    rng = np.random.default_rng(4)
    pairs = (rng.random((12, 9)) < 0.4).astype(np.float64)
    pairs[np.arange(12), np.arange(12) % 9] = 1
    engine = Engine(dim=4, history=0)
    own = rng.normal(size=(12, 4)).astype(np.float32).astype(np.float64)
    rows = rng.normal(size=(9, 4)).astype(np.float32).astype(np.float64)
    engine.set_users(range(12), own)
    engine.set_items(range(9), rows)
    rate, temperature = 0.01, 0.3
    method = Softmax(temperature, history_weight, exponent, rate, 2, popularity, negatives=9, batch=12)
    engine.fit(*np.nonzero(pairs), method=method, epochs=1)

    if history_weight > 0:
        own = np.zeros_like(own)
    options = {
        "temperature": temperature,
        "history_weight": history_weight,
        "exponent": exponent,
        "popularity": popularity,
    }
    item_slope = slope(lambda at: softmax_loss(pairs, own, at, **options), rows)
    user_slope = slope(lambda at: softmax_loss(pairs, at, rows, **options), own)
    expected_items = unit(rows - rate * np.sign(item_slope))
    expected_own = own - 2 * rate * np.sign(user_slope)
    history = history_weight * (pairs @ expected_items) / pairs.sum(axis=1, keepdims=True)
    expected_users = unit(expected_own + history)
    users, items = ordered(engine)
    # Nothing but a gradient of nearly zero is of uncertain sign.
    assert min(np.abs(item_slope).min(), np.abs(user_slope).min()) > 1e-4
    np.testing.assert_allclose(items * math.sqrt(temperature), expected_items, atol=2e-5)
    np.testing.assert_allclose(users * math.sqrt(temperature), expected_users, atol=2e-5)


@pytest.mark.parametrize("popularity", [0.0, 0.7])
def test_softmax_leaves_items_with_a_bias_by_their_pairs(popularity: float) -> None:
    users, items = [1, 2, 3, 4, 1, 2, 3, 1], ["a", "a", "a", "a", "b", "b", "b", "c"]
    engine = Engine(dim=4, history=0)
    engine.set_items(["c", "unpaired"], np.ones((2, 4)), [9.0, 9.0])
    engine.fit(users, items, method=Softmax(popularity=popularity), epochs=2)
    found = engine.factors()
    biases = dict(zip(found.item_ids.tolist(), found.item_biases.tolist(), strict=True))
    expected = {"a": popularity * math.log(4), "b": popularity * math.log(3), "c": 0, "unpaired": 9}
    assert biases == pytest.approx(expected, rel=1e-6)
    scores = engine.user_vector(1) @ engine.item_vector(["a", "b"]).T + [biases["a"], biases["b"]]
    np.testing.assert_allclose(engine.score(1, ["a", "b"]), scores, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("history", [0, 4])
def test_groups_are_found(method: Any, history: int) -> None:
    users, items = clustered()
    engine = Engine(dim=16, history=history, seed=1, ranker=None)
    engine.fit(users, items, method=method, epochs=20)
    top = engine.recommend(np.arange(USERS), k=10).ids
    assert np.mean(top % GROUPS == np.arange(USERS)[:, np.newaxis] % GROUPS) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_one_thread_is_reproducible_and_threads_agree(method: Any) -> None:
    users, items = clustered()

    def fitted(threads: int) -> tuple[Floats, Floats]:
        engine = Engine(dim=20, history=0, seed=7, threads=4)
        engine.fit(users, items, method=method, epochs=4, threads=threads)
        return ordered(engine)

    first, second, parallel = fitted(1), fitted(1), fitted(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    if method != "sgd":  # the same sums, in another order at most
        assert all(np.allclose(a, b, atol=5e-3) for a, b in zip(first, parallel, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_pairs_are_recorded_once_and_held_out_ones_too(method: Any) -> None:
    users, items = clustered(n=1500)
    engine = Engine(dim=8, history=3, seed=2, ranker=None)
    result = engine.fit(users, items, timestamps=np.arange(1500.0), method=method, epochs=3, validation=0.2)
    assert len(result.recalls) == 3
    assert all(0 <= recall <= 1 for recall in result.recalls)
    for user in range(0, USERS, 7):
        seen = set(items[users == user].tolist())
        left = engine.recommend(user, k=ITEMS, exclude_seen=True).ids.tolist()
        assert set(left) == set(range(ITEMS)) - seen
    if method != "sgd":
        assert engine.stats()["events"] == 1500


def test_the_rows_after_are_those_of_the_best_epoch() -> None:
    """The rates are such that the first epoch is not the last that could be best, and the last is not."""
    users, items = clustered()
    scored: list[tuple[float, Floats]] = []

    def look(epoch: Epoch) -> None:
        scored.append((epoch.recall, engine.item_vector(range(ITEMS)).astype(np.float64)))
        assert epoch.planned == 12
        assert epoch.number == len(scored)

    engine = Engine(dim=16, history=0, objective="bpr", learning_rate=0.5, seed=3)
    engine.learn_many([0] * ITEMS, list(range(ITEMS)))  # all items are there from the start
    result = engine.fit(users, items, method=Sgd(), epochs=12, validation=0.2, progress=look)
    assert result.recalls == tuple(recall for recall, _ in scored)
    assert result.best_epoch == int(np.argmax(result.recalls)) + 1
    kept = scored[result.best_epoch - 1][1]
    assert np.array_equal(engine.item_vector(range(ITEMS)), kept)


@pytest.mark.parametrize("method", METHODS)
def test_patience_stops_early(method: Any) -> None:
    users, items = clustered()
    engine = Engine(dim=16, history=0, seed=3)
    result = engine.fit(users, items, method=method, epochs=200, validation=0.2, patience=2)
    assert result.stopped_early
    assert not result.interrupted
    assert result.epochs == result.best_epoch + 2 == len(result.recalls) < 200
    assert result.seconds > 0


def test_an_interrupt_between_epochs_keeps_what_is_learned() -> None:
    users, items = clustered()

    def interrupt(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    engine, other = Engine(dim=8, history=0), Engine(dim=8, history=0)
    result = engine.fit(users, items, method="ials", epochs=50, threads=1, progress=interrupt)
    other.fit(users, items, method="ials", epochs=2, threads=1)
    assert result.interrupted
    assert result.epochs == 2
    assert all(np.array_equal(a, b) for a, b in zip(ordered(engine), ordered(other), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_texts_lists_and_arrow(method: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    users, items = ["ann", "ann", "bob", "bob", "eve"], ["tea", "cup", "tea", "cup", "tea"]
    columns = [(users, items), (np.array(users), np.array(items)), (pa.array(users), pa.chunked_array([items]))]
    tables = []
    for user_column, item_column in columns:
        engine = Engine(dim=8, history=0)
        engine.fit(user_column, item_column, method=method, epochs=3, threads=1)
        tables.append(engine.item_vector(["tea", "cup"]))
        assert set(engine.users) == {"ann", "bob", "eve"}
    assert np.array_equal(tables[0], tables[1])
    assert np.array_equal(tables[0], tables[2])


def test_learning_goes_on_after_ials() -> None:
    """The first events after it move the rows, but do not throw them."""
    users, items = clustered()
    engine = Engine(dim=16, history=0, seed=1)
    engine.fit(users, items, method="ials", epochs=10)
    before = engine.item_vector(range(ITEMS))
    more_users, more_items = clustered(seed=5, n=300)
    engine.learn_many(more_users, more_items)
    after = engine.item_vector(range(ITEMS))
    assert not np.array_equal(before, after)
    assert np.linalg.norm(after - before) < np.linalg.norm(before)
    top = engine.recommend(np.arange(USERS), k=10).ids
    assert np.mean(top % GROUPS == np.arange(USERS)[:, np.newaxis] % GROUPS) > 0.9


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"epochs": 0}, ValueError, "epochs must be between 1 and"),
    ({"epochs": 2.5}, TypeError, r"epochs must be an int, not 2\.5"),
    ({"validation": 0.7}, ValueError, r"validation must be between 0 and 0\.5, not 0\.7"),
    ({"validation": math.nan}, ValueError, "validation must be between"),
    ({"patience": 3}, ValueError, "patience needs pairs to judge by"),
    ({"patience": 0, "validation": 0.1}, ValueError, "patience must be between 1"),
    ({"threads": 0}, ValueError, "threads must be between 1"),
    ({"method": "als"}, ValueError, "method must be 'sgd', 'ials' or 'softmax', or a value with options, not 'als'"),
    ({"method": 3}, TypeError, "not 3"),
    ({"method": Ials(l2=0.0)}, ValueError, "l2 must be between 1e-12"),
    ({"method": Ials(unobserved_weight=-1.0)}, ValueError, "unobserved_weight must be between 0 and 1e"),
    ({"method": Ials(steps=0)}, ValueError, "steps must be between 1 and 1000, not 0"),
    ({"method": Ials(l2="x")}, TypeError, "l2 must be a number, not 'x'"),  # type: ignore[arg-type]
    ({"method": Softmax(temperature=0.01)}, ValueError, "temperature must be between 0.025"),
    ({"method": Softmax(popularity=math.nan)}, ValueError, "popularity must be"),
    ({"method": Softmax(popularity=101)}, ValueError, "popularity must be between -100 and 100, not 101"),
    ({"method": Softmax(negatives=0)}, ValueError, "negatives must be between 1"),
    ({"method": Softmax(batch=0)}, ValueError, "batch must be between 1"),
    ({"method": "softmax", "values": [1.0, 2.0]}, ValueError, "values must be None for method 'softmax'"),
    ({"method": "ials", "values": [1.0, -2.0]}, ValueError, "values must be positive and at most 1e6, not -2"),
    ({"method": "ials", "values": [1.0, math.nan]}, ValueError, "values must be positive"),
    ({"values": [1.0]}, ValueError, "values must be a column of length 2"),
    ({"items": [1]}, ValueError, "users and items must be of equal length, not 2 and 1"),
    ({"users": [], "items": []}, ValueError, "at least one pair"),
    ({"users": [1.5, 2.5]}, TypeError, "ids must"),
    ({"users": ["a", "b"], "method": "ials"}, TypeError, "user ids of this engine are ints, not strings"),
    ({"progress": 1}, TypeError, "progress must be a bool or a function, not 1"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD)
def test_bad_input_changes_nothing(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    engine = Engine(dim=4, history=0)
    engine.learn_one(1, 1)
    before = engine.factors()
    with pytest.raises(error, match=text):
        engine.fit(**{"users": [1, 2], "items": [1, 2], **arguments})
    assert engine.stats()["events"] == 1
    assert len(engine.users) == len(engine.items) == 1
    assert np.array_equal(before.item_vectors, engine.factors().item_vectors)


def test_queries_and_removals_while_it_trains() -> None:
    users, items = clustered()
    engine = Engine(dim=32, history=2, threads=2)
    engine.learn_many(users, items)
    errors: list[BaseException] = []
    stop = False

    def query() -> None:
        rng = np.random.default_rng(0)
        try:
            while not stop:
                scores = engine.recommend(int(rng.integers(USERS)), k=10).scores
                assert np.isfinite(scores).all()
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=query)
    thread.start()
    for gone, method in enumerate(METHODS):
        engine.fit(users, items, method=method, epochs=5)
        engine.remove_items([gone])
    stop = True
    thread.join()
    assert errors == []


# ---- user_model="als"


def test_dislikes_are_no_likes_later(tmp_path: Path) -> None:
    """However much comes after them; until the user likes the item. Through files, and removals."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.4, (200, 8))
    engines = [Engine(user_model="als", dim=8, history=history, maintenance=False) for history in (4, 0)]
    for engine in engines:
        engine.set_items(range(200), rows)
        without = Engine(user_model="als", dim=8, history=4, maintenance=False)
        without.set_items(range(200), rows)
        for item in (3, 5):
            engine.learn_one("ann", item)
        for item in (7, 5):
            engine.learn_one("ann", item, -1.0)
        for item in range(20, 30):
            engine.learn_one("ann", item)
        for item in (3, *range(20, 30)):
            without.learn_one("ann", item)
        np.testing.assert_allclose(engine.user_vector("ann"), without.user_vector("ann"), rtol=1e-4, atol=1e-6)
        assert {7, 5} <= set(range(200)) - set(engine.recommend("ann", k=200, exclude_seen=True).ids.tolist())
        engine.save(tmp_path / "state")
        for loaded in (Engine.load(tmp_path / "state"), Engine.load(tmp_path / "state", mmap=True, verify=True)):
            np.testing.assert_array_equal(loaded.user_vector("ann"), engine.user_vector("ann"))
        loaded = Engine.load(tmp_path / "state")
        loaded.remove_items([7])
        loaded.set_items([7], rows[7:8])  # another item: not disliked
        for one in (engine, loaded):
            one.learn_one("ann", 5)
            one.learn_one("ann", 7)
        without.learn_one("ann", 5)
        without.learn_one("ann", 7)
        for one in (engine, loaded):
            np.testing.assert_allclose(one.user_vector("ann"), without.user_vector("ann"), rtol=1e-4, atol=1e-6)


def folded(item_rows: Floats, weights: Floats, w0: float, l2: float, exponent: float) -> Floats:
    solved: Floats = solve_side(weights[np.newaxis], item_rows, w0, l2, exponent)[0]
    return solved


def als_engine(dim: int = 12, **settings: Any) -> tuple[Engine, Floats]:
    engine = Engine(dim=dim, user_model="als", als_unobserved_weight=0.3, als_l2=0.02, als_l2_exponent=0.5, **settings)
    rows = np.random.default_rng(8).normal(scale=0.4, size=(ITEMS, dim)).astype(np.float32)
    engine.set_items(range(ITEMS), rows)
    return engine, rows.astype(np.float64)


@pytest.mark.parametrize("dim", [3, 12, 64, 100])
def test_users_are_the_closed_form_after_each_event(dim: int) -> None:
    engine, rows = als_engine(dim, history=4)
    chosen: list[int] = []
    for item in [3, 7, 3, 1, 7, 7, 30, 12, 13, 14, 15, 3]:
        engine.learn_one("ann", item)
        chosen.append(item)
        weights = np.zeros(ITEMS)
        weights[chosen] = 1
        for recent in set(chosen[-4:]):  # what is still in the history counts as often as it is there
            weights[recent] = chosen[-4:].count(recent)
        expected = folded(rows, weights, 0.3, 0.02, 0.5)
        np.testing.assert_allclose(engine.user_vector("ann"), expected, atol=1e-4 * (1 + np.abs(expected).max()))
        np.testing.assert_allclose(engine.score("ann", [5, 6]), rows[[5, 6]] @ expected, atol=5e-4)


def test_sessions_are_solved_alike() -> None:
    engine, rows = als_engine()
    found = engine.recommend(history=[4, 9, 4], k=5)
    weights = np.zeros(ITEMS)
    weights[[4, 9]] = 2, 1
    scores = rows @ folded(rows, weights, 0.3, 0.02, 0.5)
    order = np.argsort(-scores)[:5]
    assert found.ids.tolist() == order.tolist()
    np.testing.assert_allclose(found.scores, scores[order], atol=1e-4)
    assert engine.recommend(history=[999], k=5).scores.tolist() == [0] * 5  # nothing known: what is popular


def test_the_gramian_follows_the_items() -> None:
    engine, rows = als_engine()
    engine.learn_many([1, 1], [2, 5])
    engine.user_vector(1)
    rows[10:40] *= 3
    engine.set_items(range(10, 40), rows[10:40])
    weights = np.zeros(ITEMS)
    weights[[2, 5]] = 1
    np.testing.assert_allclose(engine.user_vector(1), folded(rows, weights, 0.3, 0.02, 0.5), atol=2e-4)
    engine.remove_items([*range(20, 40), 5])
    kept = np.delete(np.arange(ITEMS), [5, *range(20, 40)])
    weights[5] = 0
    expected = folded(rows[kept], weights[kept], 0.3, 0.02, 0.5)
    np.testing.assert_allclose(engine.user_vector(1), expected, atol=2e-4)


def test_items_stay_unless_a_rate_is_given() -> None:
    engine, rows = als_engine()
    engine.learn_many([1, 1, 2], [2, 5, 5])
    assert np.array_equal(engine.item_vector(range(ITEMS)), rows.astype(np.float32))
    assert engine.learning_rate == 0
    moving, _ = als_engine(learning_rate=0.1, negatives=4)
    moving.learn_many([1, 1, 2], [2, 5, 5])
    assert not np.array_equal(moving.item_vector(range(ITEMS)), rows.astype(np.float32))
    assert np.array_equal(moving.factors().user_vectors, np.zeros((2, 12), dtype=np.float32))


def test_fit_and_fold_in_agree(tmp_path: Path) -> None:
    """A fitted user and one folded in are the same once the items stand still; saved and loaded too."""
    users, items = clustered()
    distinct = np.unique(users * ITEMS + items)
    users, items = distinct // ITEMS, distinct % ITEMS
    settings: dict[str, Any] = {"dim": 10, "history": 0, "seed": 1, "als_l2": 0.01, "als_unobserved_weight": 0.1}
    learned, folding = Engine(**settings), Engine(user_model="als", **settings)
    for engine in (learned, folding):
        engine.fit(users, items, method="ials", epochs=60, threads=1)
    np.testing.assert_allclose(learned.user_vector(range(USERS)), folding.user_vector(range(USERS)), atol=2e-2)
    folding.save(tmp_path / "engine")
    again = Engine.load(tmp_path / "engine")
    assert np.array_equal(again.user_vector(range(USERS)), folding.user_vector(range(USERS)))
    assert again.settings == folding.settings
    assert Engine(**again.settings).settings == again.settings


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"user_model": "nearest"}, "user_model must be one of 'learned' 'als', not 'nearest'"),
        ({"user_model": "als", "als_l2": 0.0}, "l2 must be between"),
        ({"user_model": "als", "als_unobserved_weight": -1.0}, "unobserved_weight must be between"),
        ({"user_model": "als", "dim": 5000}, "dim must be at most 4096 for user_model 'als', not 5000"),
    ],
)
def test_bad_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Engine(**settings)

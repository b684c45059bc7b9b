"""The baselines: one contract for all, and each against the method written out slowly."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine.baselines import IALS, ISGD, NAMES, Baseline, Cooccurrence, Personal, Popularity, Softmax, WithIds, make
from recengine.baselines.base import Scores

Stream = list[tuple[int, int, float, float]]

# Retrained often enough for the short streams of the tests; the others as they are.
MODELS: dict[str, Callable[[], Baseline]] = {**NAMES, "ials": lambda: IALS(dim=3, retrain=7)}


def by_appearance(numbers: list[int]) -> list[int]:
    codes: dict[int, int] = {}
    return [codes.setdefault(number, len(codes)) for number in numbers]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from([1.0, 1.0, 2.5, 0.0, -1.0]))))
    users, items = by_appearance([row[0] for row in rows]), by_appearance([row[1] for row in rows])
    return [
        (user, item, row[2], 86400.0 * at) for at, (user, item, row) in enumerate(zip(users, items, rows, strict=True))
    ]


def taught(model: Baseline, stream: Stream) -> Baseline:
    for row in stream:
        model.learn(*row)
    return model


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=40, deadline=None)
@given(stream=streams(), k=st.integers(1, 12), seen=st.sets(st.integers(0, 9)))
def test_ranks_are_those_of_the_scores(name: str, stream: Stream, k: int, seen: set[int]) -> None:
    model = taught(MODELS[name](), stream)
    assert model.items == len({item for _, item, _, _ in stream})
    assert model.users == len({user for user, _, _, _ in stream})
    known = {item for item in seen if item < model.items}
    for user in range(model.users + 1):
        scores = model.scores(user).tolist()
        assert len(scores) == model.items
        for item in range(model.items + 1):
            if item == model.items or item in known or scores[item] == -math.inf:
                expected = k + 1
            else:
                rivals = [other for other in range(model.items) if other not in known]
                expected = min(sum(scores[other] >= scores[item] for other in rivals), k + 1)
            assert model.rank(user, item, k, known) == expected


@pytest.mark.parametrize("name", MODELS)
def test_a_query_changes_nothing_and_a_run_repeats(name: str) -> None:
    rng = np.random.default_rng(1)
    users, items = by_appearance(rng.integers(0, 9, 300).tolist()), by_appearance(rng.integers(0, 200, 300).tolist())
    asked, unasked = MODELS[name](), MODELS[name]()
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        asked.rank(user, item, 10)
        asked.scores(user)[:] = 7.0
        asked.learn(user, item, 1.0, float(row))
        unasked.learn(user, item, 1.0, float(row))
    for user in range(9):
        np.testing.assert_array_equal(asked.scores(user), unasked.scores(user))


@pytest.mark.parametrize("name", MODELS)
def test_only_positive_values_teach(name: str) -> None:
    stream = [(0, 0), (0, 1), (1, 0), (1, 2), (0, 2), (1, 1)]
    model = taught(MODELS[name](), [(user, item, value, 0.0) for user, item in stream for value in (-1.0, 0.0)])
    assert (model.users, model.items) == (2, 3)
    before = model.scores(0)
    model.learn(0, 1, 0.0)
    np.testing.assert_array_equal(model.scores(0), before)
    one, five = (taught(MODELS[name](), [(user, item, value, 0.0) for user, item in stream]) for value in (1.0, 5.0))
    np.testing.assert_array_equal(one.scores(0), five.scores(0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("user", "item"), [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_refuses_numbers_that_skip(name: str, user: int, item: int) -> None:
    model = taught(MODELS[name](), [(0, 0, 1.0, 0.0), (0, 1, 1.0, 0.0)])
    before = model.scores(0)
    with pytest.raises(ValueError, match="numbered by first appearance: expected at most"):
        model.learn(user, item)
    assert (model.users, model.items) == (1, 2)
    np.testing.assert_array_equal(model.scores(0), before)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("popularity")])
def test_learns_what_users_take(name: str) -> None:
    """Two kinds of users, each taking the ten items of its kind in turn."""
    model = IALS(dim=4, retrain=50) if name == "ials" else make(name)
    rng, hits = np.random.default_rng(2), []
    for row in range(1500):
        user = int(rng.integers(0, 10)) if row >= 10 else row
        item = row if row < 20 else int(rng.integers(0, 10)) * 2 + user % 2
        if row >= 1200:
            hits.append(model.rank(user, item, 10) <= 10)
        model.learn(user, item if row >= 20 else row)
    assert np.mean(hits) > 0.75  # 0.5 by chance


def test_nan_is_a_miss_and_counts_against_others() -> None:
    class Broken(Baseline):
        def scores(self, user: int) -> Scores:
            return np.array([math.nan, 1.0, 2.0])

        def _learn(self, user: int, item: int, time: float) -> None:
            pass

    model = taught(Broken(), [(0, item, 1.0, 0.0) for item in range(3)])
    assert [model.rank(0, item, 5) for item in range(3)] == [6, 3, 2]


def test_a_diverged_model_hits_nothing() -> None:
    model = ISGD(dim=2, learning_rate=1e30)
    with np.errstate(all="ignore"):
        for row in range(20):
            model.learn(0, row % 2 if row > 1 else row)
        assert np.isnan(model.scores(0)).all()
        assert model.rank(0, 1, 10) == 11


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="unknown baseline 'isdg', expected one of popularity, popularity_7d, "):
        make("isdg")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Popularity(half_life=0.0), ValueError, "half_life must be above 0, got 0.0"),
        (lambda: Popularity(half_life=math.nan), ValueError, "nan"),
        (lambda: ISGD(dim=0), ValueError, "dim must be at least 1, got 0"),
        (lambda: ISGD(dim=2.5), TypeError, "dim must be an int, got 2.5"),  # type: ignore[arg-type]
        (lambda: ISGD(learning_rate=0.0), ValueError, "learning_rate must be finite and above 0, got 0.0"),
        (lambda: ISGD(l2=-1.0), ValueError, "l2 must be finite and not negative, got -1.0"),
        (lambda: Softmax(negatives=0), ValueError, "negatives must be at least 1, got 0"),
        (lambda: Softmax(learning_rate=math.inf), ValueError, "inf"),
        (lambda: IALS(l2=0.0), ValueError, "l2 must be finite and above 0, got 0.0"),
        (lambda: IALS(alpha=math.nan), ValueError, "alpha must be finite and not negative, got nan"),
        (lambda: IALS(retrain=True), TypeError, "retrain must be an int, got True"),
        (lambda: IALS(sweeps=0), ValueError, "sweeps must be at least 1, got 0"),
        (lambda: Cooccurrence(window=0), ValueError, "window must be at least 1, got 0"),
        (lambda: Cooccurrence(slots=0), ValueError, "slots must be at least 1, got 0"),
        (lambda: Cooccurrence(decay=1.5), ValueError, r"decay must be in \[0, 1\], got 1.5"),
        (lambda: Cooccurrence(normalise=-0.5), ValueError, "normalise must be finite and not negative, got -0.5"),
    ],
)
def test_refuses_settings(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


# Each against its method.


@settings(max_examples=60, deadline=None)
@given(stream=streams())
def test_personal_is_own_counts_then_all_counts(stream: Stream) -> None:
    model = taught(Personal(), stream)
    own, everybody = defaultdict[int, Counter[int]](Counter), Counter[int]()
    for user, item, value, _ in stream:
        own[user][item] += value > 0
        everybody[item] += value > 0
    for user in range(model.users + 1):
        keys = {item: (own[user][item], everybody[item]) for item in everybody if everybody[item]}
        for item, key in keys.items():
            assert model.rank(user, item, 20) == sum(other >= key for other in keys.values())


def test_isgd_is_gradient_descent_on_the_squared_error() -> None:
    """A step on a known pair, against the numerical gradient of (1 - p.q)^2 / 2 + l2 (|p|^2 + |q|^2) / 2, where the
    item's step already sees the user's new row."""
    rate, l2 = 0.1, 0.05
    model = ISGD(dim=3, learning_rate=rate, l2=l2, seed=5)
    model.learn(0, 0)
    p, q = (rows.values[0].astype(np.float64) for rows in (model._user_rows, model._item_rows))

    def loss(p: Any, q: Any) -> float:
        return float((1 - p @ q) ** 2 / 2 + l2 * (p @ p + q @ q) / 2)

    steps = 1e-6 * np.eye(3)
    new_p = p - rate * np.array([(loss(p + step, q) - loss(p - step, q)) / 2e-6 for step in steps])
    error = 1 - p @ q  # of before both steps, as in the paper's algorithm
    new_q = q + rate * (error * new_p - l2 * q)
    model.learn(0, 0)
    np.testing.assert_allclose(model._user_rows.values[0], new_p, rtol=1e-5)
    np.testing.assert_allclose(model._item_rows.values[0], new_q, rtol=1e-5)


def test_isgd_ranks_by_the_inner_product() -> None:
    model = ISGD(dim=1, seed=0)
    taught(model, [(0, item, 1.0, 0.0) for item in range(4)])
    model._user_rows.values[0] = 1.0
    model._item_rows.values[:4, 0] = [0.2, 0.9, 1.4, 3.0]
    assert [model.rank(0, item, 4) for item in range(4)] == [4, 3, 2, 1]


def test_softmax_steps_down_the_gradient_of_its_loss() -> None:
    """The direction of every step, with Adagrad's scale taken out, against the numerical gradient."""
    model = Softmax(dim=3, negatives=200, seed=4)
    for row in range(40):
        model.learn(row % 3 if row > 2 else row, row % 5 if row > 4 else row)
    draws = np.random.default_rng()
    draws.bit_generator.state = model._rng.bit_generator.state
    sample = draws.integers(0, 5, 200)
    user, item = 1, 3
    times = np.array([np.count_nonzero(sample == other) * 5 / 200 for other in range(5)])
    times[item] = 1
    old = [np.concatenate([model._user_rows.values[user], model._item_rows.values[:5].ravel(), model._bias[:5]])]

    def loss(row: Any) -> float:
        logits = row[3:18].reshape(5, 3) @ row[:3] + row[18:]
        return float(np.log(times @ np.exp(logits)) - logits[item])

    parameters = old[0].astype(np.float64)
    steps = 1e-6 * np.eye(23)
    gradient = np.array([(loss(parameters + step) - loss(parameters - step)) / 2e-6 for step in steps])
    model.learn(user, item)
    new = np.concatenate([model._user_rows.values[user], model._item_rows.values[:5].ravel(), model._bias[:5]])
    squares = np.concatenate(
        [np.full(3, model._user_squares[user]), np.repeat(model._item_squares[:5], 3), model._bias_squares[:5]]
    )
    expected = -model._learning_rate * gradient / np.sqrt(squares + 1e-6)
    np.testing.assert_allclose(new - parameters, expected, rtol=1e-3, atol=1e-5)


def objective(model: IALS, row: Any, rows: Any, counts: Any) -> float:
    confidence, wanted = 1 + model._alpha * counts, (counts > 0).astype(float)
    return float((confidence * (wanted - rows @ row) ** 2).sum() + model._l2 * row @ row)


def test_ials_folds_the_user_in_exactly() -> None:
    """No other row of the user has a lower objective over all items, the untaken ones included."""
    rng = np.random.default_rng(3)
    model = IALS(dim=4, alpha=2.0, l2=0.5, retrain=200)
    taken = defaultdict[int, Counter[int]](Counter)
    stream = [(0, 0), *[(int(user), int(item)) for user, item in rng.integers(0, 8, (199, 2))]]
    for user, item in zip(by_appearance([u for u, _ in stream]), by_appearance([i for _, i in stream]), strict=True):
        model.learn(user, item)
        taken[user][item] += 1
    rows = model._rows
    assert rows.shape == (8, 4)
    model.learn(2, 5)
    taken[2][5] += 1
    counts = np.array([taken[2][item] for item in range(8)], dtype=float)
    row = np.linalg.lstsq(rows, model.scores(2), rcond=None)[0]
    np.testing.assert_allclose(rows @ row, model.scores(2))
    best = objective(model, row, rows, counts)
    for nudge in 1e-3 * rng.standard_normal((50, 4)):
        assert objective(model, row + nudge, rows, counts) > best


def test_ials_recommends_no_item_before_its_retraining() -> None:
    model = IALS(dim=2, retrain=4)
    taught(model, [(0, 0, 1.0, 0.0), (0, 1, 1.0, 0.0), (1, 0, 1.0, 0.0)])
    assert model.scores(0).tolist() == [-math.inf, -math.inf]
    taught(model, [(1, 1, 1.0, 0.0), (1, 2, 1.0, 0.0)])
    assert np.isfinite(model.scores(0)).tolist() == [True, True, False]
    assert not np.isfinite(model.scores(7)).any()


@settings(max_examples=80, deadline=None)
@given(
    stream=streams(),
    window=st.integers(1, 4),
    decay=st.sampled_from([1.0, 0.5, 0.0]),
    normalise=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_cooccurrence_is_counting_of_pairs(stream: Stream, window: int, decay: float, normalise: float) -> None:
    model = taught(Cooccurrence(window, decay, slots=64, normalise=normalise), stream)
    histories, pairs, events = defaultdict[int, list[int]](list), Counter[tuple[int, int]](), Counter[int]()
    for user, item, value, _ in stream:
        if value > 0:
            for other in histories[user][-window:]:
                if other != item:
                    pairs[item, other] += 1
                    pairs[other, item] += 1
            histories[user].append(item)
            events[item] += 1
    for user in range(model.users + 1):
        sums = defaultdict[int, float](float)
        for place, item in enumerate(histories[user][-window:][::-1]):
            for (of, other), count in pairs.items():
                if of == item and decay**place > 0:
                    sums[other] += decay**place * count / events[other] ** normalise
        expected = [sums.get(item, -math.inf) for item in range(model.items)]
        np.testing.assert_allclose(model.scores(user), expected, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(items=st.lists(st.integers(0, 11), max_size=120), slots=st.integers(1, 3))
def test_cooccurrence_forgets_the_lesser_half_of_a_full_list(items: list[int], slots: int) -> None:
    stream = by_appearance(items)
    model = taught(Cooccurrence(2, 1.0, slots, normalise=0.0), [(0, item, 1.0, 0.0) for item in stream])
    lists = defaultdict[int, dict[int, int]](dict)  # in the order they came
    for at, item in enumerate(stream):
        for other in stream[max(at - 2, 0) : at]:
            if other == item:
                continue
            for one, near in ((item, other), (other, item)):
                if near not in lists[one] and len(lists[one]) == 2 * slots:
                    places = {known: place for place, known in enumerate(lists[one])}
                    best = sorted(places, key=lambda known: (-lists[one][known], -places[known]))[:slots]
                    lists[one] = {known: count for known, count in lists[one].items() if known in best}
                lists[one][near] = lists[one].get(near, 0) + 1
    sums = Counter[int]()
    for item in stream[-2:]:
        sums.update(lists[item])
    assert model.scores(0).tolist() == [sums.get(item, -math.inf) for item in range(model.items)]


def test_cooccurrence_keeps_the_best_neighbours_in_bounded_lists() -> None:
    model = Cooccurrence(window=1, slots=4, normalise=0.0)
    model.learn(0, 0)
    for other in range(1, 4):
        for _ in range(3):
            model.learn(0, other)
            model.learn(0, 0)
    for other in range(4, 60):
        model.learn(0, other)
        model.learn(0, 0)
        assert len(model._places[0]) <= 8
    scores = model.scores(0)
    assert scores[[1, 2, 3]].tolist() == [6, 6, 6]
    assert scores[59] == 2  # new ones get a place, and start from nothing
    assert np.count_nonzero(np.isfinite(scores)) <= 8


# Behind the engine's interface.


def test_ids_of_any_kind() -> None:
    model = WithIds(Personal())
    model.learn_many(np.array([5, 5, 7]), ["a", "b", "b"], values=np.ones(3), timestamps=[0.0, 1.0, 2.0])
    model.learn_one(7, "c", value=-1.0)
    assert list(model.items) == ["a", "b", "c"]
    assert model.settings == {"baseline": "Personal"}
    ids, scores = model.recommend(5)
    assert ids.tolist() == ["b", "a"]
    assert scores.tolist() == [1 + 2 / 3, 1 + 1 / 3]
    assert model.recommend(5, 1).ids.tolist() == ["b"]
    assert model.recommend(7, exclude_seen=True).ids.tolist() == ["a"]
    assert model.recommend("nobody").ids.tolist() == ["b", "a"]
    assert model.recommend(5, 0).ids.tolist() == []
    assert model.predict(5, "b") == 1 + 2 / 3
    for user, item in ((5, "d"), ("nobody", "a")):
        with pytest.raises(KeyError):
            model.predict(user, item)


def test_with_ids_refuses() -> None:
    used = Personal()
    used.learn(0, 0)
    with pytest.raises(ValueError, match="has learned 1 items of 1 users before"):
        WithIds(used)
    with pytest.raises(TypeError, match="model must be a Baseline, got 'isgd'"):
        WithIds("isgd")  # type: ignore[arg-type]
    model = WithIds(Personal())
    with pytest.raises(ValueError, match="k must not be negative, got -1"):
        model.recommend("ann", -1)
    with pytest.raises(ValueError, match="items has 1 rows, users has 2"):
        model.learn_many(["u", "v"], ["a"])
    for name in ("values", "timestamps"):
        with pytest.raises(ValueError, match=f"{name} has 1 rows, users has 2"):
            model.learn_many(["u", "v"], ["a", "b"], **{name: [1.0]})
    assert len(model.items) == 0

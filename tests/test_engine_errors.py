"""Bad input is refused before anything changes, with the promised type of error and the value named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine

DIM = 4
NAN, INF = float("nan"), float("inf")
LONG, SURROGATE = "x" * 513, "a\ud800"
N = 3000  # events of a large batch: several of the blocks it is learned in
Call = Callable[[Any], object]  # Any: the types that are wrong on purpose


def lived_in(objective: str = "softmax") -> Engine:
    """Users are str, items int; everything an engine can hold is there."""
    settings: dict[str, Any] = {"objective": objective, "negatives": 0 if objective == "squared" else 2}
    engine = Engine(dim=DIM, **settings)
    random = np.random.default_rng(0)
    engine.learn_many(
        [f"u{n}" for n in random.integers(0, 9, 200)], random.integers(0, 30, 200), timestamps=np.arange(200.0)
    )
    engine.remove_items([3, 4])
    engine.recommend("u1", exclude=[99])
    return engine


def state(engine: Engine, folder: Path) -> bytes:
    engine.save(folder / "state")
    return (folder / "state").read_bytes()


def users(last: Any = "new") -> list[Any]:
    return [f"new{n}" for n in range(N - 1)] + [last]


def items(last: Any = 5000) -> list[Any]:
    return [*range(1000, 1000 + N - 1), last]


def ones(last: Any = 1.0) -> list[Any]:
    return [1.0] * (N - 1) + [last]


def rows(last: float = 0.0) -> Any:
    matrix = np.zeros((N, DIM), dtype=np.float32)
    matrix[-1, -1] = last
    return matrix


# What the call is, the call, the error, and what its message must say.
REFUSED: list[tuple[str, Call, type[Exception], str]] = [
    # ids of the wrong type
    *(
        (f"{name} {bad!r}", call, TypeError, "str or int|str, not|int, not|one-dimensional")
        for bad in (1.5, None, True, np.float64(2), np.bool_(True), b"u1", ["u1"], ("a", 1))
        for name, call in [
            ("learn_one user", lambda e, bad=bad: e.learn_one(bad, 1)),
            ("learn_one item", lambda e, bad=bad: e.learn_one("u1", bad)),
            ("learn_many user", lambda e, bad=bad: e.learn_many(users(bad), items())),
            ("learn_many item", lambda e, bad=bad: e.learn_many(users(), items(bad))),
            ("score user", lambda e, bad=bad: e.score(bad, [1])),
            ("score items", lambda e, bad=bad: e.score("u1", [1, bad])),
            ("rank", lambda e, bad=bad: e.rank("u1", [1, bad])),
            ("recommend exclude", lambda e, bad=bad: e.recommend("u1", exclude=[1, bad])),
            ("recommend among", lambda e, bad=bad: e.recommend("u1", among=[1, bad])),
            ("recommend history", lambda e, bad=bad: e.recommend(history=[1, bad])),
            ("recommend batch", lambda e, bad=bad: e.recommend(["u1", bad])),
            ("item_vector", lambda e, bad=bad: e.item_vector([1, bad])),
            ("set_items", lambda e, bad=bad: e.set_items(items(bad), rows())),
            ("remove_items", lambda e, bad=bad: e.remove_items([1, bad])),
            ("similar_items", lambda e, bad=bad: e.similar_items(bad)),
        ]
    ),
    ("a float user", lambda e: e.recommend(1.5), TypeError, "float"),
    ("bytes for a user", lambda e: e.recommend(b"u1"), TypeError, "bytes"),
    ("an array of floats", lambda e: e.learn_many(["a"], np.array([1.0])), TypeError, "float64"),
    ("an array of bools", lambda e: e.learn_many(["a"], np.array([True])), TypeError, "bool"),
    ("an array of dates", lambda e: e.learn_many(["a"], np.array([0], "M8[s]")), TypeError, "datetime64"),
    ("an array of bytes", lambda e: e.recommend(np.array([b"u1"])), TypeError, "S2"),
    # ids of the other kind
    ("int user", lambda e: e.learn_one(5, 1), TypeError, "user ids of this engine are strings, not ints"),
    ("str item", lambda e: e.learn_one("u1", "i"), TypeError, "item ids of this engine are ints, not strings"),
    ("int users", lambda e: e.learn_many([5], [1]), TypeError, "strings, not ints"),
    ("str items", lambda e: e.learn_many(["u1"], ["i"]), TypeError, "ints, not strings"),
    ("mixed users", lambda e: e.learn_many(users(7), items()), TypeError, f"7 at position {N - 1}"),
    ("mixed items", lambda e: e.learn_many(users(), items("7")), TypeError, f"'7' at position {N - 1}"),
    ("recommend int", lambda e: e.recommend(5), TypeError, "strings, not ints"),
    ("recommend ints", lambda e: e.recommend([5]), TypeError, "strings, not ints"),
    ("exclude str", lambda e: e.recommend("u1", exclude=["i"]), TypeError, "ints, not strings"),
    ("among str", lambda e: e.recommend("u1", exclude=[77], among=["i"]), TypeError, "ints, not strings"),
    ("history str", lambda e: e.recommend(history=["i"]), TypeError, "ints, not strings"),
    ("history with strings among", lambda e: e.recommend(history=[77], among=["i"]), TypeError, "ints, not strings"),
    ("search str", lambda e: e.search(np.ones(DIM), exclude=[77], among=["i"]), TypeError, "ints, not strings"),
    ("score int user", lambda e: e.score(5, [1]), TypeError, "strings, not ints"),
    ("score str items", lambda e: e.score("u1", ["1"]), TypeError, "ints, not strings"),
    ("rank int user", lambda e: e.rank(5, [1]), TypeError, "strings, not ints"),
    ("set_items str", lambda e: e.set_items(["a"], np.ones((1, DIM))), TypeError, "ints, not strings"),
    ("set_users int", lambda e: e.set_users([5], np.ones((1, DIM))), TypeError, "strings, not ints"),
    ("remove_items str", lambda e: e.remove_items(["1"]), TypeError, "ints, not strings"),
    ("remove_users int", lambda e: e.remove_users([1]), TypeError, "strings, not ints"),
    ("similar_items str", lambda e: e.similar_items("1"), TypeError, "ints, not strings"),
    ("item_vector str", lambda e: e.item_vector("1"), TypeError, "ints, not strings"),
    ("user_vector int", lambda e: e.user_vector(1), TypeError, "strings, not ints"),
    # one id for a column
    ("one str for a column", lambda e: e.score("u1", "i1"), TypeError, "not one str"),
    ("one str to set", lambda e: e.set_users("u1", np.ones((1, DIM))), TypeError, "not one str"),
    ("one str for a history", lambda e: e.recommend(history="i1"), TypeError, "not one str"),
    ("one int for a column", lambda e: e.score("u1", 1), TypeError, "int"),
    ("a matrix of ids", lambda e: e.remove_items(np.zeros((1, 2), int)), ValueError, "2 dimensions"),
    # ids out of range
    ("a long user", lambda e: e.learn_one(LONG, 1), ValueError, "513"),
    ("a long user in a batch", lambda e: e.learn_many(users(LONG), items()), ValueError, "513"),
    ("a long user set", lambda e: e.set_users(users(LONG), rows()), ValueError, "513"),
    ("long in bytes", lambda e: e.learn_one("é" * 257, 1), ValueError, "514"),
    ("a surrogate", lambda e: e.learn_one(SURROGATE, 1), ValueError, "surrogate"),
    ("a surrogate in a batch", lambda e: e.learn_many(users(SURROGATE), items()), ValueError, "surrogate"),
    ("a surrogate asked for", lambda e: e.recommend(SURROGATE), ValueError, "surrogate"),
    ("an item of 65 bits", lambda e: e.learn_one("u1", 2**63), ValueError, str(2**63)),
    ("an item of 65 bits below", lambda e: e.recommend(history=[-(2**63) - 1]), ValueError, str(-(2**63) - 1)),
    ("an item of 65 bits in a batch", lambda e: e.learn_many(users(), items(2**80)), ValueError, str(2**80)),
    ("a uint64", lambda e: e.remove_items(np.array([1, 2**63], np.uint64)), ValueError, str(2**63)),
    # unknown ids
    ("score unknown", lambda e: e.score("u1", [1, 77]), KeyError, "77"),
    ("score removed", lambda e: e.score("u1", [3]), KeyError, "3"),
    ("rank unknown", lambda e: e.rank("u1", [1, 77]), KeyError, "77"),
    ("item_vector unknown", lambda e: e.item_vector(77), KeyError, "77"),
    ("item_vectors unknown", lambda e: e.item_vector([1, 77]), KeyError, "77"),
    ("user_vector unknown", lambda e: e.user_vector("eve"), KeyError, "'eve'"),
    ("similar_items unknown", lambda e: e.similar_items(77), KeyError, "77"),
    ("remove_items unknown", lambda e: e.remove_items([1, 2, 77]), KeyError, "77"),
    ("remove_users unknown", lambda e: e.remove_users(["u1", "eve"]), KeyError, "'eve'"),
    # events
    ("value nan", lambda e: e.learn_one("u1", 1, NAN), ValueError, "nan"),
    ("value inf", lambda e: e.learn_one("u1", 1, INF), ValueError, "inf"),
    ("value beyond float32", lambda e: e.learn_one("u1", 1, 1e39), ValueError, "value"),
    ("value 0", lambda e: e.learn_one("u1", 1, 0.0), ValueError, "positive.*0"),
    ("value a str", lambda e: e.learn_one("u1", 1, "1"), TypeError, ""),
    ("weight negative", lambda e: e.learn_one("u1", 1, weight=-0.5), ValueError, "-0.5"),
    ("weight nan", lambda e: e.learn_one("u1", 1, weight=NAN), ValueError, "nan"),
    ("weight inf", lambda e: e.learn_one("new", 99, weight=INF), ValueError, "inf"),
    ("timestamp nan", lambda e: e.learn_one("u1", 1, timestamp=NAN), ValueError, "nan"),
    ("timestamp inf", lambda e: e.learn_one("u1", 1, timestamp=-INF), ValueError, "-inf"),
    ("timestamp NaT", lambda e: e.learn_one("u1", 1, timestamp=np.datetime64("NaT")), ValueError, "NaT|nan"),
    ("timestamp beyond reason", lambda e: e.learn_one("u1", 1, timestamp=1e300), ValueError, "1e\\+?300"),
    ("timestamp a str", lambda e: e.learn_one("u1", 1, timestamp="2020-01-01"), TypeError, "timestamp"),
    ("timestamp True", lambda e: e.learn_one("u1", 1, timestamp=True), TypeError, "timestamp"),
    ("values: one nan", lambda e: e.learn_many(users(), items(), ones(NAN)), ValueError, "nan"),
    ("values: one zero", lambda e: e.learn_many(users(), items(), ones(0.0)), ValueError, "0"),
    ("values: strings", lambda e: e.learn_many(users(), items(), ["1"] * N), TypeError, "values must be numbers"),
    (
        "values: dates",
        lambda e: e.learn_many(users(), items(), np.ones(N, "M8[s]")),
        TypeError,
        "values must be numbers",
    ),
    ("values: complex", lambda e: e.learn_many(users(), items(), ones(1j)), TypeError, "values must be numbers"),
    ("values: too few", lambda e: e.learn_many(users(), items(), ones()[1:]), ValueError, f"length {N}"),
    ("values: a matrix", lambda e: e.learn_many(users(), items(), np.ones((N, 1))), ValueError, "shape"),
    ("weights: one negative", lambda e: e.learn_many(users(), items(), weights=ones(-1.0)), ValueError, "-1"),
    ("weights: too many", lambda e: e.learn_many(users(), items(), weights=[*ones(), 1.0]), ValueError, f"length {N}"),
    ("timestamps: one nan", lambda e: e.learn_many(users(), items(), timestamps=ones(NAN)), ValueError, "nan"),
    ("timestamps: too few", lambda e: e.learn_many(users(), items(), timestamps=ones()[1:]), ValueError, f"length {N}"),
    ("timestamps: strings", lambda e: e.learn_many(users(), items(), timestamps=["2020"] * N), TypeError, "timestamps"),
    ("fewer items", lambda e: e.learn_many(users(), items()[1:]), ValueError, f"{N} and {N - 1}"),
    ("threads 0", lambda e: e.learn_many(users(), items(), threads=0), ValueError, "threads.*0"),
    ("threads negative", lambda e: e.learn_many(users(), items(), threads=-1), ValueError, "-1"),
    # vectors
    ("a nan", lambda e: e.set_items(items(), rows(NAN)), ValueError, f"nan at position {N * DIM - 1}"),
    ("an inf", lambda e: e.set_users(users(), rows(-INF)), ValueError, "-inf"),
    ("a giant", lambda e: e.set_items(items(), rows(1e16)), ValueError, "1e\\+16"),
    ("a nan bias", lambda e: e.set_items(items(), rows(), ones(NAN)), ValueError, "biases.*nan"),
    ("too few biases", lambda e: e.set_items(items(), rows(), ones()[1:]), ValueError, f"length {N}"),
    (
        "vectors too short",
        lambda e: e.set_items([1], np.zeros((1, DIM - 1))),
        ValueError,
        rf"\(1, {DIM}\).*\(1, {DIM - 1}\)",
    ),
    ("too few vectors", lambda e: e.set_items([1, 2], np.zeros((1, DIM))), ValueError, rf"\(2, {DIM}\)"),
    ("one vector", lambda e: e.set_items([1], np.zeros(DIM)), ValueError, rf"\({DIM},\)"),
    ("search short", lambda e: e.search(np.zeros(DIM - 1)), ValueError, f"{DIM}.*{DIM - 1}"),
    ("search a matrix", lambda e: e.search(np.zeros((1, DIM))), ValueError, "one-dimensional"),
    ("search nan", lambda e: e.search([0.0, NAN, 0.0, 0.0]), ValueError, "nan at position 1"),
    # options
    ("k negative", lambda e: e.recommend("u1", k=-1), ValueError, "-1"),
    ("k negative in a batch", lambda e: e.recommend(["u1"], k=-3), ValueError, "-3"),
    ("k negative in a search", lambda e: e.search(np.zeros(DIM), k=-1), ValueError, "-1"),
    ("k negative, similar", lambda e: e.similar_items(1, k=-1), ValueError, "-1"),
    ("k a float", lambda e: e.recommend("u1", k=2.5), TypeError, ""),
    ("k a str", lambda e: e.recommend("u1", k="3"), TypeError, ""),
    ("metric", lambda e: e.search(np.zeros(DIM), metric="l2"), ValueError, "'l2'"),
    ("an unknown option", lambda e: e.recommend("u1", limit=3), TypeError, "limit"),
    ("nobody", lambda e: e.recommend(), ValueError, "a user or a history"),
    ("both", lambda e: e.recommend("u1", history=[1]), ValueError, "not both"),
    ("predict", lambda e: e.predict("u1", 1), ValueError, "'softmax'"),
    ("learning_rate", lambda e: setattr(e, "learning_rate", -1.0), ValueError, "-1"),
    ("learning_rate nan", lambda e: setattr(e, "learning_rate", NAN), ValueError, "nan"),
    ("threads 0 set", lambda e: setattr(e, "threads", 0), ValueError, "0"),
    ("threads 5000 set", lambda e: setattr(e, "threads", 5000), ValueError, "5000"),
]


@pytest.mark.parametrize(("call", "error", "text"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_refused_and_nothing_changed(call: Call, error: type[Exception], text: str, tmp_path: Path) -> None:
    engine = lived_in()
    before = state(engine, tmp_path)
    with pytest.raises(error) as caught:
        call(engine)
    assert re.search(text, str(caught.value)), str(caught.value)
    assert state(engine, tmp_path) == before


@pytest.mark.parametrize("objective", ["logistic", "squared"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e38])
def test_values_of_the_other_objectives(objective: str, bad: float, tmp_path: Path) -> None:
    engine = lived_in(objective)
    before = state(engine, tmp_path)
    with pytest.raises(ValueError, match="value"):
        engine.learn_one("u1", 1, bad)
    with pytest.raises(ValueError, match="value"):
        engine.learn_many(users(), items(), ones(bad))
    if objective == "logistic":
        with pytest.raises(ValueError, match=r"0 or 1.*not 0\.5"):
            engine.learn_one("u1", 1, 0.5)
    with pytest.raises(KeyError, match="77"):
        engine.predict("u1", [1, 77])
    assert state(engine, tmp_path) == before


def test_a_refused_first_call_settles_no_kind() -> None:
    calls: list[Call] = [
        lambda e: e.learn_one("ann", "tea", NAN),
        lambda e: e.learn_one("ann", "x" * 513),
        lambda e: e.learn_many(["ann"], ["tea"], [NAN]),
        lambda e: e.set_items(["tea"], [[NAN] * DIM]),
    ]
    for refused in calls:
        engine = Engine(dim=DIM)
        with pytest.raises(ValueError, match=r"value|513|vectors"):
            refused(engine)
        assert (len(engine.users), len(engine.items), engine.stats()["events"]) == (0, 0, 0)
        engine.learn_one(1, 2)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"dim": 0}, ValueError),
        ({"dim": -1}, ValueError),
        ({"dim": 65537}, ValueError),
        ({"dim": 2**70}, (TypeError, ValueError)),
        ({"dim": 8.5}, TypeError),
        ({"dim": "8"}, TypeError),
        ({"objective": "hinge"}, ValueError),
        ({"objective": 5}, (TypeError, ValueError)),
        ({"optimizer": "adam"}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"learning_rate": NAN}, ValueError),
        ({"learning_rate": -0.1}, ValueError),
        ({"learning_rate": "fast"}, TypeError),
        ({"learning_rate_decay": 2.0}, ValueError),
        ({"l2": -1.0}, ValueError),
        ({"max_step": 0.0}, ValueError),
        ({"init_scale": INF}, ValueError),
        ({"negatives": -1}, ValueError),
        ({"negatives": 0}, ValueError),
        ({"negatives": 1, "objective": "squared"}, ValueError),
        ({"negatives": 65537}, ValueError),
        ({"recent_share": 1.0}, ValueError),
        ({"history": -1}, ValueError),
        ({"history": 1025}, ValueError),
        ({"history_decay": 1.5}, ValueError),
        ({"popularity_half_life": 0.0}, ValueError),
        ({"popularity_half_life": NAN}, ValueError),
        ({"popularity_half_life": "day"}, TypeError),
        ({"threads": 0}, ValueError),
        ({"dimension": 8}, TypeError),
    ],
    ids=str,
)
def test_settings_out_of_range(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Engine(**settings)
    assert next(iter(settings)) in str(caught.value)


def test_factors_that_do_not_fit() -> None:
    good: list[Any] = [[1], [[1.0, 2.0]], [5], [[3.0, 4.0]]]
    for position, bad in [
        (0, [1, 2]),
        (1, [[1.0]]),
        (1, [[NAN, 1.0]]),
        (2, []),
        (3, [3.0, 4.0]),
        (3, [[]]),
        (3, [[3.0, INF]]),
    ]:
        arguments = [*good[:position], bad, *good[position + 1 :]]
        with pytest.raises(ValueError, match=r"vectors|item_factors"):
            Engine.from_factors(*arguments)
    with pytest.raises(ValueError, match="global_bias"):
        Engine.from_factors(*good, global_bias=NAN)
    with pytest.raises(TypeError, match="user ids"):
        Engine.from_factors([1.5], *good[1:])


def test_extremes_are_survived(tmp_path: Path) -> None:
    """Whatever is accepted leaves the engine finite and savable."""
    cases: list[tuple[dict[str, Any], list[tuple[float, float, float]]]] = [
        ({"objective": "squared"}, [(1e6, 1.0, 0.0), (-1e15, 1e38, 0.0), (1e15, 1e-30, 0.0)]),
        ({"objective": "squared", "optimizer": "sgd", "learning_rate": 1e6, "max_step": 1e6}, [(5.0, 1e38, 0.0)]),
        (
            {"objective": "logistic", "negatives": 3, "l2": 1e6, "learning_rate": 1e6},
            [(1.0, 1e38, 0.0), (0.0, 1e38, 0.0)],
        ),
        ({"popularity_half_life": 1e-3}, [(1.0, 1.0, -1e12), (1.0, 1.0, -1e12), (1.0, 1.0, 1e12), (1.0, 1.0, 1e12)]),
        ({"init_scale": 1e6, "optimizer": "sgd", "learning_rate": 1e6, "max_step": 1e6}, [(1.0, 1e3, 0.0)]),
        ({"history": 1024, "history_decay": 1.0, "init_scale": 1e6, "dim": 512}, [(1.0, 1.0, 0.0)]),
    ]
    for settings, events in cases:
        engine = Engine(**{"dim": DIM, "max_ahead": np.inf, "max_weight": np.inf, "max_value": np.inf, **settings})
        for step in range(60):
            value, weight, timestamp = events[step % len(events)]
            engine.learn_one(step % 3, step % 7, value, weight, timestamp)
        factors = engine.factors()
        for array in (*factors[1:3], *factors[4:7], engine.user_vector(1)):
            assert np.isfinite(array).all(), settings
        assert not np.isnan(engine.recommend(99, k=9).scores).any()
        engine.save(tmp_path / "engine")
        np.testing.assert_array_equal(Engine.load(tmp_path / "engine").recommend(1).scores, engine.recommend(1).scores)


def test_rows_at_the_limit_stay_finite(tmp_path: Path) -> None:
    """Vectors as large as `set_items` takes them, summed up by a long history: their squared norm overflows float32."""
    dim = 65536
    engine = Engine(dim=dim, history=256, history_decay=1.0, negatives=1)
    engine.set_items(range(3), np.full((3, dim), 1e15) * [[0.5], [0.75], [1.0]])
    engine.learn_many(np.zeros(160, int), np.full(160, 2))
    assert np.isfinite(engine.factors().item_vectors).all()
    engine.save(tmp_path / "engine")
    Engine.load(tmp_path / "engine")

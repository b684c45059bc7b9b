"""Whatever is thrown at an engine, it stays finite, answers, and learns on as well as one that was left alone."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recengine import Engine
from recengine.explore import Softmax

USERS, ITEMS = 20, 30

KINDS: list[dict[str, Any]] = [
    {"dim": 8, "objective": "softmax", "negatives": 8},
    {"dim": 8, "objective": "softmax", "negatives": 8, "ranker": None, "storage": "fp16"},
    {"dim": 8, "objective": "bpr", "history": 0},
    {"dim": 8, "objective": "logistic", "negatives": 3},
    {"dim": 8, "objective": "squared"},
]
every_kind = pytest.mark.parametrize("options", KINDS, ids=lambda o: "-".join([o["objective"], o.get("storage", "")]))

floats = st.floats(width=32) | st.sampled_from([0.0, 1.0, 1.0, -1.0, 1e15, -1e15, 3e38, math.nan, math.inf])
moments = st.floats() | st.sampled_from([0.0, -1e15, 1e15, 1.7e12, time.time(), time.time() + 80_000])
ids = st.integers(0, USERS - 1) | st.integers(-(2**63), 2**63 - 1)
abuse = st.lists(
    st.one_of(
        st.tuples(st.just("event"), ids, ids, floats, floats, moments),
        st.tuples(st.just("batch"), st.lists(st.tuples(ids, ids, floats, floats, moments), max_size=20)),
        st.tuples(st.just("flood"), ids, ids, st.integers(1, 300)),
        st.tuples(st.just("strangers"), st.integers(0, 2**40), st.integers(1, 300)),
        st.tuples(st.just("remove"), ids),
    ),
    min_size=1,
    max_size=12,
)


def value_of(objective: str, value: float) -> float:
    """Any number, made one that the objective takes, where that is easy: so that not all of it is refused."""
    if objective == "logistic":
        return float(value > 0)
    return math.copysign(1.0, value) if objective != "squared" and value == 0 else value


def attack(engine: Engine, actions: list[tuple[Any, ...]], moment: float) -> None:
    objective = engine.settings["objective"]
    for name, *arguments in actions:
        before = engine.stats()["events"]
        try:
            if name == "event":
                user, item, value, weight, when = arguments
                engine.learn_one(user, item, value_of(objective, value), abs(weight), when)
            elif name == "batch" and arguments[0]:
                columns = [list(column) for column in zip(*arguments[0], strict=True)]
                users, items, values, weights, times = columns
                values = [value_of(objective, value) for value in values]
                engine.learn_many(users, items, values, times, weights, on_bad="skip")
            elif name == "flood":
                user, item, count = arguments
                engine.learn_many([user] * count, [item] * count, timestamps=[moment] * count)
            elif name == "strangers":
                first, count = arguments
                engine.learn_many(np.arange(first, first + count), np.arange(first, first + count) * 7)
            elif name == "remove" and arguments[0] in engine.items:
                engine.remove_items([arguments[0]])
        except ValueError:
            assert engine.stats()["events"] == before  # nothing is half applied


def assert_healthy(engine: Engine) -> None:
    factors = engine.factors()
    for table in (factors.user_vectors, factors.item_vectors, factors.user_biases, factors.item_biases):
        assert np.all(np.isfinite(table))
    assert np.isfinite(factors.global_bias)
    for user in [*range(USERS), -5]:
        for ranking in (engine.recommend(user, k=20), engine.recommend(user, k=20, exclude_seen=True)):
            assert np.all(np.isfinite(ranking.scores))
    if 1 in engine.items:
        assert np.all(np.isfinite(engine.similar_items(1, k=20).scores))
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "engine")  # and loading refuses any number that is not finite
        again = Engine.load(Path(folder) / "engine")
        np.testing.assert_array_equal(again.recommend(1, k=20).scores, engine.recommend(1, k=20).scores)


def good_stream(engine: Engine, seed: int, count: int, start: float) -> None:
    """Each user likes the items of the same parity. A minute apart, so that users also come back after sessions: what
    is asked after one is answered by weights that are learned from such events alone."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, USERS, count)
    items = rng.integers(0, ITEMS // 2, count) * 2 + users % 2
    values = None
    if engine.settings["objective"] in ("logistic", "squared"):
        disliked = rng.random(count) < 0.5
        items = np.where(disliked, items ^ 1, items)
        values = np.where(disliked, 0.0, 1.0)
    engine.learn_many(users, items, values, timestamps=start + np.arange(count) * 60.0)


def quality(engine: Engine) -> float:
    """How many of each user's best five, of the items that all know, are of the user's taste."""
    best = [engine.recommend(user, k=5, among=range(ITEMS)).ids for user in range(USERS)]
    return float(np.mean([np.mean(ids % 2 == user % 2) for user, ids in enumerate(best)]))


@every_kind
@settings(max_examples=25, deadline=None)
@example(  # a heavy event held the ranker where it had moved it
    actions=[
        ("flood", 0, 4, 299),
        ("flood", 17, 18, 20),
        ("batch", [(0, 0, 0.0, 0.0, 0.0), (0, 1, 0.0, 197.0, 0.0)]),
    ],
    limited=False,
    seed=0,
)
@given(actions=abuse, limited=st.booleans(), seed=st.integers(0, 100))
def test_quality_recovers_from_any_mixture(
    options: dict[str, Any], actions: list[tuple[Any, ...]], limited: bool, seed: int
) -> None:
    """A good stream, abuse, and again a good stream: at the end as good as without the abuse, but for a tenth."""
    limits: dict[str, Any] = (
        {"max_users": 400, "max_items": 400, "evict": "lru", "user_budget": 500.0} if limited else {}
    )
    start = time.time() - 10 * 86400
    # One thread: what fails can be made to fail again.
    clean, abused = Engine(**options, threads=1), Engine(**options, **limits, threads=1)
    for engine in (clean, abused):
        good_stream(engine, seed, 1500, start)
    attack(abused, actions, start + 100_000)
    assert_healthy(abused)
    for engine in (clean, abused):
        good_stream(engine, seed + 1, 4000, start + 200_000)
    assert_healthy(abused)
    assert quality(abused) >= quality(clean) - 0.1


old = st.none() | st.sampled_from([-1e15, -1e9, -5e-324, 0.0, 1e3, 1.6e9])


@given(times=st.lists(old, min_size=1, max_size=6), shown=old, batch=st.booleans())
@settings(max_examples=40, deadline=None)
def test_old_times_among_none_leave_everything_finite_and_readable(
    times: list[float | None], shown: float | None, batch: bool
) -> None:
    """Of events without a time before the first one, and of that: scores, files and folders as of any others."""
    with tempfile.TemporaryDirectory() as name:
        folder, saved = Path(name) / "folder", Path(name) / "saved"
        with Engine.open(folder, dim=4, negatives=2, maintenance=False) as engine:
            for number, moment in enumerate(times):
                if batch:
                    engine.learn_many(["ann"], [f"i{number % 3}"], timestamps=None if moment is None else [moment])
                else:
                    engine.learn_one("ann", f"i{number % 3}", timestamp=moment)
            for user in ("stranger", "ann"):
                ranking = engine.recommend(user, k=3, explore=Softmax(0.1))
                assert np.isfinite(ranking.scores).all()
                assert (ranking.scores <= len(times)).all() or user == "ann"
                engine.impression(ranking, timestamp=shown)
            assert math.isfinite(engine.explain("stranger", "i0").score)
            known = [moment for moment in times if moment is not None]
            # The first time seen, or 0 where something was counted before it.
            first = next((k for k, moment in enumerate(times) if moment is not None), 0)
            seen = [
                *known,
                *([0.0] if first > 0 else []),
                *([] if shown is None else [shown if known else max(shown, 0)]),
            ]
            assert engine.stats()["latest_timestamp"] == (max(seen) if seen else None)
            engine.save(saved)
            expected = engine.recommend("stranger", k=3)
        for again in (Engine.load(saved), Engine.open(folder, maintenance=False)):
            assert again.recommend("stranger", k=3) == expected or again.recommend(
                "stranger", k=3
            ).scores.tolist() == pytest.approx(expected.scores.tolist())
            assert len(again.impressions()) == 2
        again.close()


def ids_on_one_place(count: int, shift: int) -> list[int]:
    """Ids whose hashes by the function of files, which everybody knows, differ in some bits alone."""
    word = 2**64

    def unshift(value: int, by: int) -> int:
        found = value
        for _ in range(64 // by + 1):
            found = value ^ found >> by
        return found

    def id_of(value: int) -> int:
        value = unshift(value, 31) * pow(0x94D049BB133111EB, -1, word) % word
        value = unshift(value, 27) * pow(0xBF58476D1CE4E5B9, -1, word) % word
        value = (unshift(value, 30) - 0x9E3779B97F4A7C15) % word
        return value - word if value >= word // 2 else value

    return [id_of(0x123456789A << 24 | k if shift == 0 else k << shift | 0x3456789ABC) for k in range(count)]


@pytest.mark.parametrize("shift", [0, 40])
def test_ids_made_to_fall_on_one_place_cost_what_others_do(shift: int, tmp_path: Path) -> None:
    def seconds(ids: list[int]) -> float:
        taken = []
        for _ in range(3):
            start = time.process_time()
            engine = Engine(dim=1, objective="bpr", history=0, negatives=1, maintenance=False)
            engine.learn_many(ids, [1] * len(ids))
            engine.save(tmp_path / "engine")
            mapped = Engine.load(tmp_path / "engine", mmap=True, verify=True)
            assert ids[-1] in mapped.users
            taken.append(time.process_time() - start)
        return min(taken)

    count = 30_000
    crafted, plain = seconds(ids_on_one_place(count, shift)), seconds(list(range(count)))
    assert crafted < 6 * plain  # it was 60 times

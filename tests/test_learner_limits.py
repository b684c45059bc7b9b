"""Steps are clipped and everything stays finite, whatever comes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine
from reference.objectives import OBJECTIVES, Objective

every_objective = pytest.mark.parametrize("objective", OBJECTIVES)
every_optimizer = pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])

LARGEST = float(np.finfo(np.float32).max)


def make(objective: Objective, **options: Any) -> Engine:
    defaults = {"dim": 6, "negatives": 0 if objective == "squared" else 1, "seed": 1, "ranker": None}
    return Engine(objective=objective, max_weight=np.inf, max_value=np.inf, **{**defaults, **options})


def assert_healthy(engine: Engine) -> None:
    """Finite in all it shows, and in all it keeps: loading refuses any value that is not."""
    factors = engine.factors()
    for table in (factors.user_vectors, factors.item_vectors, factors.user_biases, factors.item_biases):
        assert np.all(np.isfinite(table))
    assert np.isfinite(factors.global_bias)
    for user in engine.users:
        ids, scores = engine.recommend(user, k=100)
        assert len(ids) == len(engine.items)
        assert np.all(np.isfinite(scores))
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "engine")
        Engine.load(Path(folder) / "engine")


@every_objective
@every_optimizer
@pytest.mark.parametrize("history", [0, 3])
@pytest.mark.parametrize("weight", [1e10, 1e30, LARGEST])
def test_huge_weights(objective: Objective, optimizer: str, history: int, weight: float) -> None:
    negatives = 0 if objective == "squared" else 3
    engine = make(objective, optimizer=optimizer, history=history, l2=0.1, negatives=negatives)
    for event in range(30):
        engine.learn_one(event % 3, event % 7, weight=weight)
    assert_healthy(engine)
    for event in range(30):
        engine.learn_one(event % 3, event % 7)
    assert_healthy(engine)


@every_optimizer
@pytest.mark.parametrize("rating", [1e10, 1e15])
def test_huge_ratings(optimizer: str, rating: float) -> None:
    engine = make("squared", optimizer=optimizer, history=2)
    for event in range(30):
        engine.learn_one(event % 3, event % 7, rating * (-1) ** event, weight=[1.0, LARGEST, 1e-30][event % 3])
    assert_healthy(engine)


@pytest.mark.parametrize("rating", [1.01e15, -LARGEST, float("inf"), float("nan")])
def test_larger_ratings_are_refused(rating: float) -> None:
    engine = make("squared")
    with pytest.raises(ValueError, match="value"):
        engine.learn_one("u", "i", rating)
    assert len(engine.users) == len(engine.items) == engine.stats()["events"] == 0


@every_objective
@every_optimizer
@pytest.mark.parametrize("history", [0, 3])
@pytest.mark.parametrize("size", [1e15, -1e15])
def test_huge_rows(objective: Objective, optimizer: str, history: int, size: float) -> None:
    engine = make(objective, optimizer=optimizer, history=history, l2=0.1, dim=70)
    engine.set_items(np.arange(5), np.full((5, 70), size), np.full(5, size))
    engine.set_users([0, 1], np.full((2, 70), 1e15))
    for event in range(40):
        engine.learn_one(event % 4, event % 7, weight=[1.0, 1e30][event % 2])
    assert_healthy(engine)


@every_objective
@pytest.mark.parametrize("options", [{"learning_rate": 1e6}, {"l2": 1e6}, {"learning_rate": 1e6, "l2": 1e6}])
@every_optimizer
def test_extreme_settings(objective: Objective, optimizer: str, options: dict[str, float]) -> None:
    engine = make(objective, optimizer=optimizer, max_step=1e6, history=2, **options)
    for event in range(200):
        engine.learn_one(event % 3, event % 7, weight=1e20)
    assert_healthy(engine)


@every_objective
@every_optimizer
def test_no_coordinate_moves_further_than_max_step(objective: Objective, optimizer: str) -> None:
    """Without a history, and with one negative, an event takes one step on each row it touches."""
    engine = make(objective, optimizer=optimizer, history=0, max_step=0.125, learning_rate=100.0, init_scale=0.5)
    rng = np.random.default_rng(0)
    engine.set_users(np.arange(8), rng.normal(0, 0.5, (8, 6)))
    engine.set_items(np.arange(20), rng.normal(0, 0.5, (20, 6)))
    longest = 0.0
    for event in range(100):
        before = engine.factors()
        engine.learn_one(event % 8, event * event % 20, weight=1000.0)
        after = engine.factors()
        tables = ["user_vectors", "item_vectors", "user_biases", "item_biases"]
        moves = [np.max(np.abs(getattr(after, table) - getattr(before, table))) for table in tables]
        if objective == "logistic":
            moves.append(np.float32(abs(after.global_bias - before.global_bias)))
        longest = max(longest, *moves)
    assert longest == pytest.approx(0.125, rel=1e-4)


def test_rates_do_not_die_away() -> None:
    """300,000 steps with slopes of a half: as large as 95,000 of them would leave steps that forget nothing."""
    engine = Engine(objective="logistic", negatives=0, history=0, dim=1, learning_rate=0.1, seed=0)
    labels = np.tile([1.0, 0.0], 150_000)
    engine.learn_many(np.zeros(300_000, np.int64), np.zeros(300_000, np.int64), labels)
    before = engine.factors().item_biases[0]
    engine.learn_one(0, 0, 1.0)
    squares = 0.25 * (1 - (1 - 1e-5) ** 300_000) / 1e-5
    assert engine.factors().item_biases[0] - before == pytest.approx(0.1 * 0.5 / np.sqrt(squares), rel=0.05)


def test_the_mean_of_the_ratings_is_weighted() -> None:
    rng = np.random.default_rng(0)
    ratings, weights = rng.uniform(1, 5, 500), rng.choice([0, 1, 3], 500)
    engine = make("squared")
    engine.learn_many(rng.integers(0, 9, 500), rng.integers(0, 9, 500), ratings, weights=weights)
    assert engine.factors().global_bias == pytest.approx(np.average(ratings, weights=weights), rel=1e-5)

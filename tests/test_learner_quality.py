"""That learning works: each objective finds what was planted, clearly better than what needs no learning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recengine import Engine

Ints = NDArray[np.int64]

USERS, ITEMS, CHOSEN, HELD_OUT, ROUNDS = 150, 120, 30, 5, 4


@lru_cache
def planted_choices() -> tuple[Ints, Ints, list[set[int]]]:
    """Users who choose by a taste of rank 4 and by an item's popularity; some choices of each are held out."""
    rng = np.random.default_rng(0)
    taste = rng.normal(0, 1.3, (USERS, 4)) @ rng.normal(0, 1.3, (4, ITEMS)) + rng.normal(0, 0.7, ITEMS)
    order = np.argsort(-(taste + rng.gumbel(size=taste.shape)), axis=1)  # without replacement, by the softmax of taste
    chosen = rng.permuted(order[:, : CHOSEN + HELD_OUT], axis=1)
    users, items = np.repeat(np.arange(USERS), CHOSEN), chosen[:, HELD_OUT:].ravel()
    rounds = np.concatenate([rng.permutation(USERS * CHOSEN) for _ in range(ROUNDS)])
    return users[rounds], items[rounds], [set(row) for row in chosen[:, :HELD_OUT].tolist()]


def recall(rankings: Sequence[Sequence[int]], held_out: list[set[int]]) -> float:
    pairs = zip(rankings, held_out, strict=True)
    return float(np.mean([len(set(ranked) & wanted) / HELD_OUT for ranked, wanted in pairs]))


def popularity_recall(users: Ints, items: Ints, held_out: list[set[int]]) -> float:
    order = np.argsort(-np.bincount(items, minlength=ITEMS), kind="stable")
    return recall([[i for i in order if i not in set(items[users == user])][:10] for user in range(USERS)], held_out)


OPTIONS: dict[str, dict[str, Any]] = {
    "softmax": {"objective": "softmax", "negatives": 10},
    "softmax sgd": {"objective": "softmax", "negatives": 10, "optimizer": "sgd", "learning_rate": 0.2},
    "softmax with a history": {"objective": "softmax", "negatives": 10, "history": 10, "history_decay": 0.9},
    "bpr": {"objective": "bpr"},
    "bpr sgd": {"objective": "bpr", "optimizer": "sgd", "learning_rate": 0.3},
    "logistic": {"objective": "logistic", "negatives": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_planted_tastes_are_found(name: str) -> None:
    users, items, held_out = planted_choices()
    found = {}
    for threads in (1, 2):
        engine = Engine(**{"dim": 16, "seed": 1, "history": 0, "threads": 2, "ranker": None, **OPTIONS[name]})
        engine.learn_many(users, items, threads=threads)
        found[threads] = recall(engine.recommend(np.arange(USERS), k=10, exclude_seen=True).ids.tolist(), held_out)
    assert found[1] > 2 * popularity_recall(users, items, held_out)
    assert found[2] > 0.85 * found[1]


def test_a_history_follows_a_walk() -> None:
    """Where a visitor goes depends on the last item only: mostly to another of its room. Strangers are served by it."""
    rng = np.random.default_rng(1)
    rooms, size = 15, 4
    walks = []
    for user in range(250):
        item = int(rng.integers(rooms * size))
        for _ in range(12):
            walks.append((user, item))
            room = item // size if rng.random() < 0.9 else int(rng.integers(rooms))
            item = room * size + int(rng.integers(size))
    users, items = np.array(walks).T
    engine = Engine(dim=16, history=2, history_decay=0.5, negatives=20, seed=1, ranker=None)
    engine.learn_many(users, items)
    nearest = [engine.recommend(history=[item], k=size - 1, exclude_seen=True).ids for item in range(rooms * size)]
    hits = float(np.mean([ids // size == item // size for item, ids in enumerate(nearest)]))
    assert hits > 0.9


def test_logistic_separates_labels() -> None:
    rng = np.random.default_rng(2)
    odds = rng.normal(0, 1.5, (100, 3)) @ rng.normal(0, 1.5, (3, 80)) - 0.5
    users, items = rng.integers(0, 100, 15_000), rng.integers(0, 80, 15_000)
    labels = (rng.random(15_000) < 1 / (1 + np.exp(-odds[users, items]))).astype(np.float32)
    engine = Engine(objective="logistic", dim=8, history=0, seed=1)
    engine.learn_many(users[:12_000], items[:12_000], labels[:12_000])
    p = np.array([engine.predict(u, i) for u, i in zip(users[12_000:].tolist(), items[12_000:].tolist(), strict=True)])
    test = labels[12_000:]
    log_loss = -np.mean(np.where(test == 1, np.log(p), np.log(1 - p)))
    base = np.mean(labels[:12_000])
    entropy = -np.mean(np.where(test == 1, np.log(base), np.log(1 - base)))
    assert log_loss < 0.85 * entropy


def test_squared_recovers_ratings() -> None:
    rng = np.random.default_rng(3)
    taste = rng.normal(0, 0.7, (100, 3)) @ rng.normal(0, 0.7, (3, 80))
    ratings = 3 + rng.normal(0, 0.5, (100, 1)) + rng.normal(0, 0.5, 80) + taste
    users, items = rng.integers(0, 100, 15_000), rng.integers(0, 80, 15_000)
    values = ratings[users, items] + rng.normal(0, 0.2, 15_000)
    engine = Engine(objective="squared", dim=8, history=0, seed=1)
    engine.learn_many(users[:12_000], items[:12_000], values[:12_000])
    predicted = [engine.predict(u, i) for u, i in zip(users[12_000:].tolist(), items[12_000:].tolist(), strict=True)]
    error = float(np.sqrt(np.mean((np.array(predicted) - values[12_000:]) ** 2)))
    assert error < 0.6 * np.std(values[12_000:])

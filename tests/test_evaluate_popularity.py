"""The popularity baselines against counting everything anew for each question."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine.baselines import Popularity

ITEMS = 8
STEPS = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 3)), max_size=60)


def numbered(items: int, half_life: float) -> Popularity:
    """With all items met, none of them taken."""
    model = Popularity(half_life)
    for item in range(items):
        model.learn(0, item, value=0.0)
    return model


def place(weights: list[Fraction], item: int, seen: set[int], k: int) -> int:
    """The slow way: all weights, sorted out item by item."""
    if weights[item] == 0 or item in seen:
        return k + 1
    rivals = [other for other in range(len(weights)) if other not in seen and weights[other] >= weights[item]]
    return min(len(rivals), k + 1)


@settings(deadline=None)
@given(steps=STEPS, k=st.integers(1, ITEMS), seen=st.sets(st.integers(0, ITEMS - 1)), decays=st.booleans())
def test_equal_to_counting(steps: list[tuple[int, int]], k: int, seen: set[int], decays: bool) -> None:
    # Times in whole half-lives, so that decayed counts are exact in both and ties are real ties.
    half_life = 5.0
    model = numbered(ITEMS, half_life if decays else math.inf)
    weights = [Fraction(0)] * ITEMS
    now = 0
    for item, pause in steps:
        now += pause
        for excluded in (set(), seen):
            assert [model.rank(0, other, k, excluded) for other in range(ITEMS)] == [
                place(weights, other, excluded, k) for other in range(ITEMS)
            ]
        model.learn(0, item, time=now * half_life)
        weights[item] += Fraction(2) ** now if decays else 1


@pytest.mark.parametrize("half_life", [math.inf, 300.0])
def test_equal_to_counting_on_a_long_stream(half_life: float) -> None:
    """Long enough for the sorted masses to be used and refreshed many times."""
    rng = np.random.default_rng(3)
    items, k = 200, 5
    model = numbered(items, half_life)
    counts = np.zeros(items)
    hits = 0
    for time, item in enumerate((rng.zipf(1.3, 6000) % items).tolist()):
        seen = set(rng.integers(0, items, rng.integers(0, 60)).tolist()) if time % 2 else set()
        rivals = [other for other in np.flatnonzero(counts >= counts[item]).tolist() if other not in seen]
        expected = min(len(rivals), k + 1) if counts[item] and item not in seen else k + 1
        assert model.rank(0, item, k, seen) == expected
        hits += expected <= k
        model.learn(0, item, time=float(time))
        if math.isfinite(half_life):
            counts *= 2 ** (-1 / half_life)
            counts[item] += 2 ** (-1 / half_life)
        else:
            counts[item] += 1
    assert 1000 < hits < 5000


def test_times_far_apart_neither_overflow_nor_vanish() -> None:
    model = Popularity(half_life=1.0)
    model.learn(0, 0, time=0.0)
    model.learn(0, 1, time=1e9)
    model.learn(0, 2, time=2e9)
    assert [model.rank(0, item, 3) for item in range(3)] == [3, 2, 1]
    model.learn(0, 0, time=3e9)
    assert [model.rank(0, item, 3) for item in range(3)] == [1, 3, 2]


def test_many_equal_counts_stay_ties() -> None:
    model = Popularity()
    for _ in range(20_000):
        model.learn(0, 0)
        model.learn(0, 1)
    assert [model.rank(0, 0, 2), model.rank(0, 1, 2)] == [2, 2]
    model.learn(0, 1)
    assert [model.rank(0, 0, 2), model.rank(0, 1, 2)] == [2, 1]

"""Confidence intervals: against the formula written out, and by how often they hold."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine.evaluate import mean_interval


@given(rows=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=40))
def test_equal_to_the_sum_over_users(rows: list[tuple[int, float]]) -> None:
    users, figures = np.array([user for user, _ in rows]), np.array([figure for _, figure in rows])
    low, high = mean_interval(figures, users)
    present = set(users.tolist())
    if len(present) < 2:
        assert math.isnan(low)
        assert math.isnan(high)
        return
    mean = sum(figures) / len(rows)
    squares = [sum(figure - mean for user, figure in rows if user == one) ** 2 for one in present]
    error = math.sqrt(len(present) / (len(present) - 1) * sum(squares)) / len(rows)
    reach = NormalDist().inv_cdf(0.975) * error
    assert (low, high) == pytest.approx((max(mean - reach, 0), min(mean + reach, 1)), abs=1e-9)


def test_one_event_a_user_is_the_usual_interval_of_a_mean() -> None:
    figures = np.random.default_rng(0).random(500)
    reach = 1.959964 * figures.std(ddof=1) / math.sqrt(500)
    assert mean_interval(figures, np.arange(500)) == pytest.approx((figures.mean() - reach, figures.mean() + reach))


def test_repeating_every_event_says_nothing_new() -> None:
    """The binomial interval would shrink by the square root of ten."""
    rng = np.random.default_rng(1)
    hits, users = rng.random(400) < 0.3, np.arange(400)
    assert mean_interval(np.repeat(hits, 10), np.repeat(users, 10)) == pytest.approx(mean_interval(hits, users))


def test_holds_the_truth_as_often_as_it_says() -> None:
    """Users with tastes and numbers of events of their own: 95 % of the intervals hold the mean over all such users,
    of binomial ones far fewer."""
    rng = np.random.default_rng(2)
    held = binomial = 0
    for _ in range(600):
        sizes = rng.geometric(0.05, 200)
        users = np.repeat(np.arange(200), sizes)
        tastes = rng.beta(1, 3, 200)
        hits = rng.random(len(users)) < tastes[users]
        low, high = mean_interval(hits, users)
        held += low <= 0.25 <= high
        reach = 1.96 * math.sqrt(hits.mean() * (1 - hits.mean()) / len(hits))
        binomial += abs(hits.mean() - 0.25) <= reach
    assert 0.92 < held / 600 < 0.975
    assert binomial / 600 < 0.75


def test_bounds_and_edges() -> None:
    users = np.arange(4)
    assert mean_interval(np.array([0, 1, 0, 0]), users)[0] == 0.0
    assert mean_interval(np.array([1, -1, 0, 0]), users, lowest=-1.0)[0] < 0
    assert mean_interval(np.zeros(4), users) == (0.0, 0.0)
    assert np.isnan(mean_interval(np.zeros(0), np.zeros(0, dtype=np.intp))).all()
    assert np.isnan(mean_interval(np.ones(3), np.zeros(3, dtype=np.intp))).all()

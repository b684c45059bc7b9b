"""Coverage, exposure, novelty and diversity, against their definitions written out."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recengine.evaluate import Calibration, Coverage, Diversity, Gini, Novelty
from recengine.evaluate.catalogue import gini

RANKINGS = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), max_size=8)


@given(rankings=RANKINGS, k=st.integers(1, 4), size=st.integers(1, 14))
def test_coverage_and_gini_by_definition(rankings: list[list[int]], k: int, size: int) -> None:
    catalogue = set(range(size))
    coverage, exposure = Coverage(catalogue, k), Gini(catalogue, k)
    for ranking in rankings:
        coverage.update(ranking)
        exposure.update(ranking)
    shown = [item for ranking in rankings for item in ranking[:k]]
    counts = [shown.count(item) for item in range(size)]
    if shown:
        assert coverage.value == sum(count > 0 for count in counts) / size
    else:
        assert math.isnan(coverage.value)
    if sum(counts):
        # Half the relative mean absolute difference over all ordered pairs.
        differences = sum(abs(one - other) for one in counts for other in counts)
        assert exposure.value == pytest.approx(differences / (2 * size * sum(counts)))
    else:
        assert math.isnan(exposure.value)


def test_gini_extremes() -> None:
    assert gini([5, 5, 5, 5], 4) == 0.0
    assert gini([7], 10) == pytest.approx(0.9)
    assert math.isnan(gini([], 3))


def test_catalogue_may_change_meanwhile() -> None:
    catalogue = {"a", "b"}
    coverage, exposure = Coverage(catalogue, k=1), Gini(catalogue, k=1)
    for ranking in (["a"], ["b"]):
        coverage.update(ranking)
        exposure.update(ranking)
    assert (coverage.value, exposure.value) == (1.0, 0.0)
    catalogue |= {"c", "d"}
    assert (coverage.value, exposure.value) == (0.5, 0.5)
    catalogue -= {"a", "c", "d"}
    assert (coverage.value, exposure.value) == (1.0, 0.0)
    catalogue.clear()
    assert math.isnan(coverage.value)
    assert math.isnan(exposure.value)


def test_refuses_repeated_items_before_counting() -> None:
    coverage = Coverage({"a", "b"})
    with pytest.raises(ValueError, match="'a' twice"):
        coverage.update(["b", "a", "a"])
    assert math.isnan(coverage.value)


def test_novelty_follows_the_share_of_the_moment() -> None:
    shares = {"hit": 0.5, "rare": 0.125}
    metric = Novelty(shares.__getitem__, k=2)
    assert math.isnan(metric.value)
    metric.update([])
    assert math.isnan(metric.value)
    metric.update(["hit", "rare", "unknown"])
    assert metric.value == 2.0
    shares["hit"] = 1.0
    metric.update(["hit"])
    assert metric.value == 1.0
    for share in (0.0, -0.5, 1.5, math.nan):
        shares["hit"] = share
        with pytest.raises(ValueError, match="'hit'"):
            metric.update(["rare", "hit"])
    assert metric.count == 2


ENTRIES = st.one_of(st.just(0.0), st.floats(-1e3, 1e3).filter(lambda entry: abs(entry) > 1e-3))


@settings(deadline=None)
@given(vectors=hnp.arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=ENTRIES))
def test_diversity_by_definition(vectors: np.ndarray[Any, Any]) -> None:
    def cosine(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
        norms = float(np.linalg.norm(one) * np.linalg.norm(other))
        return float(one @ other) / norms if norms else 0.0

    metric = Diversity()
    metric.update(vectors)
    expected = np.mean([1 - cosine(one, other) for one, other in combinations(vectors, 2)])
    assert metric.value == pytest.approx(expected, abs=1e-12)


def test_diversity_of_extreme_vectors() -> None:
    for scale in (1e-300, 1e300):
        metric = Diversity()
        metric.update([[scale, scale], [scale, -scale]])
        assert metric.value == pytest.approx(1.0)


def test_diversity_needs_pairs_of_finite_vectors() -> None:
    metric = Diversity()
    metric.update([[1.0, 2.0]])
    metric.update(np.zeros((0, 2)))
    assert math.isnan(metric.value)
    with pytest.raises(ValueError, match="shape"):
        metric.update([1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        metric.update([[1.0, math.nan], [1.0, 0.0]])
    assert metric.count == 0


def test_calibration_by_hand() -> None:
    metric = Calibration(lambda item: item[0], k=4)
    metric.update(["r1", "r2", "r3", "j1"], history=["r5", "r6", "j7", "j8"])
    wanted = {"r": 0.5, "j": 0.5}
    shown = {"r": 0.99 * 0.75 + 0.005, "j": 0.99 * 0.25 + 0.005}
    expected = sum(wanted[g] * math.log(wanted[g] / shown[g]) for g in wanted)
    assert metric.value == pytest.approx(expected)
    metric.update(["p1"], history=["r1"])  # nothing of what the user likes
    assert metric.value == pytest.approx((expected + math.log(100)) / 2)
    metric.update([], history=["r1"])
    metric.update(["r1"], history=[])
    assert metric.count == 2


def test_calibration_refuses() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Calibration(str, alpha=0.0)
    with pytest.raises(ValueError, match="twice"):
        Calibration(str).update(["a", "a"], history=["a"])

"""The streaming ranking metrics: by hand, and against ranx on random queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine.evaluate import F1, MRR, NDCG, HitRate, Precision, Recall, evaluate_rankings
from recengine.evaluate.ranking import RankingMetric

METRICS: dict[str, type[RankingMetric]] = {
    "recall": Recall,
    "precision": Precision,
    "f1": F1,
    "hit_rate": HitRate,
    "ndcg": NDCG,
    "mrr": MRR,
}
IDS = st.integers(0, 9)
QUERY = st.tuples(st.lists(IDS, unique=True, max_size=8), st.dictionaries(IDS, st.integers(0, 4), max_size=6))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Recall(k=3), 2 / 4),
        (Precision(k=3), 2 / 3),
        (F1(k=3), 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),
        (HitRate(k=3), 1.0),
        (MRR(k=3), 1 / 2),
        (NDCG(k=3), (1 / math.log2(3) + 3 / 2) / (4 + 3 / math.log2(3) + 2 / 2)),
    ],
)
def test_by_hand(metric: RankingMetric, expected: float) -> None:
    metric.update(["x", "b", "c", "d"], {"a": 4, "b": 1, "c": 3, "d": 2, "never": 0})
    assert metric.value == pytest.approx(expected)


@settings(max_examples=150, deadline=None)
@given(queries=st.lists(QUERY, max_size=5), k=st.integers(1, 7))
def test_equal_to_ranx(queries: list[tuple[list[int], dict[int, int]]], k: int) -> None:
    pytest.importorskip("ranx")
    rankings, relevant = [ranking for ranking, _ in queries], [gains for _, gains in queries]
    expected = evaluate_rankings(rankings, relevant, [f"{name}@{k}" for name in METRICS])
    for name, make in METRICS.items():
        metric = make(k)
        for ranking, gains in queries:
            metric.update(ranking, gains)
        assert metric.value == pytest.approx(expected[f"{name}@{k}"], nan_ok=True), name


@pytest.mark.parametrize("make", METRICS.values())
def test_kinds_of_input_agree(make: type[RankingMetric]) -> None:
    inputs: list[tuple[Any, Any]] = [
        ([3, 1, 2], {1, 7}),
        (np.array([3, 1, 2]), [1, 7]),
        (np.array([3, 1, 2], dtype=object), {1: 1.0, 7: 1.0, 2: 0.0}),
    ]
    values = []
    for ranking, relevant in inputs:
        metric = make(2)
        metric.update(ranking, relevant)
        values.append(metric.value)
    assert values == [values[0]] * 3
    assert values[0] > 0


@pytest.mark.parametrize("make", METRICS.values())
def test_queries_with_nothing_relevant_are_not_counted(make: type[RankingMetric]) -> None:
    metric = make(2)
    assert math.isnan(metric.value)
    metric.update(["a"], set())
    metric.update(["a"], {"a": 0.0})
    assert math.isnan(metric.value)
    metric.update([], {"a"})
    assert metric.value == 0.0
    assert metric.count == 1


@pytest.mark.parametrize("make", METRICS.values())
def test_refuses_before_counting(make: type[RankingMetric]) -> None:
    metric = make(3)
    with pytest.raises(ValueError, match="'a' twice"):
        metric.update(["a", "b", "a"], {"a"})
    for gain in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="gain"):
            metric.update(["a"], {"a": gain})
    assert metric.count == 0
    metric.update(["a", "b", "c", "a"], {"a"})
    assert metric.count == 1


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_refuses_k(k: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(k)):
        Recall(k)

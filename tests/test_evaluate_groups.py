"""Every metric by user group: each group as if it were alone, and the gap between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine.evaluate import (
    F1,
    MAE,
    MRR,
    MSE,
    NDCG,
    RMSE,
    Accuracy,
    Coverage,
    Diversity,
    Gini,
    Grouped,
    HitRate,
    LogLoss,
    Metric,
    Novelty,
    Precision,
    Recall,
)

RANKING_ARGUMENTS = [(["a", "b"], {"a"}), (["b", "a"], {"a"}), (["c"], {"a"})]
PREDICTION_ARGUMENTS = [(1, 0.25), (0, 0.5), (1, 1.0)]
EXPOSURE_ARGUMENTS = [(["a", "b"],), (["b"],), (["c", "a"],)]
VECTOR_ARGUMENTS = [([[1.0, 0.0], [0.0, 1.0]],), ([[1.0, 0.0], [1.0, 0.0]],), ([[1.0, 0.0], [1.0, 1.0]],)]


CATALOGUE = {"a", "b", "c", "d"}
SHARES = {"a": 0.5, "b": 0.25, "c": 0.25}
CASES: dict[str, tuple[Callable[[], Metric], list[Any]]] = {
    "recall": (lambda: Recall(1), RANKING_ARGUMENTS),
    "precision": (lambda: Precision(1), RANKING_ARGUMENTS),
    "f1": (lambda: F1(1), RANKING_ARGUMENTS),
    "hit_rate": (lambda: HitRate(1), RANKING_ARGUMENTS),
    "ndcg": (lambda: NDCG(2), RANKING_ARGUMENTS),
    "mrr": (lambda: MRR(2), RANKING_ARGUMENTS),
    "mae": (MAE, PREDICTION_ARGUMENTS),
    "mse": (MSE, PREDICTION_ARGUMENTS),
    "rmse": (RMSE, PREDICTION_ARGUMENTS),
    "accuracy": (Accuracy, PREDICTION_ARGUMENTS),
    "log_loss": (LogLoss, PREDICTION_ARGUMENTS),
    "coverage": (lambda: Coverage(CATALOGUE), EXPOSURE_ARGUMENTS),
    "gini": (lambda: Gini(CATALOGUE), EXPOSURE_ARGUMENTS),
    "novelty": (lambda: Novelty(SHARES.__getitem__), EXPOSURE_ARGUMENTS),
    "diversity": (Diversity, VECTOR_ARGUMENTS),
}


@pytest.mark.parametrize("name", CASES)
@given(sequence=st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), st.integers(0, 2)), max_size=8))
def test_groups_equal_metrics_of_their_own(name: str, sequence: list[tuple[str, int]]) -> None:
    make, arguments = CASES[name]
    grouped = Grouped(make)
    alone: dict[str, Metric] = {}
    overall = make()
    for group, choice in sequence:
        grouped.update(group, *arguments[choice])
        alone.setdefault(group, make()).update(*arguments[choice])
        overall.update(*arguments[choice])
    values = [metric.value for metric in alone.values()]
    assert grouped.values == {group: metric.value for group, metric in alone.items()}
    if values:
        assert grouped.value == overall.value
        assert grouped.gap == max(values) - min(values)
    else:
        assert math.isnan(grouped.value)
        assert math.isnan(grouped.gap)


def test_a_group_without_a_value_is_no_part_of_the_gap() -> None:
    metric = Grouped(lambda: Recall(1))
    metric.update("empty", ["a"], set())
    assert math.isnan(metric.gap)
    metric.update("good", ["a"], {"a"})
    assert metric.gap == 0.0
    metric.update("bad", ["a"], {"b"})
    assert metric.gap == 1.0
    assert list(metric.values) == ["empty", "good", "bad"]


def test_a_refused_update_makes_no_group() -> None:
    metric = Grouped(MAE)
    with pytest.raises(ValueError, match="finite"):
        metric.update("new", math.nan, 1.0)
    assert metric.values == {}
    assert math.isnan(metric.value)


def test_repr_is_short() -> None:
    metric = Grouped(lambda: Recall(1))
    metric.update("x", ["a"], {"a"})
    assert repr(metric) == "<Grouped <Recall 1.0000 over 1> in 1 groups, gap 0.0000>"

"""The streaming metrics of ratings and labels against scikit-learn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine.evaluate import MAE, MSE, RMSE, Accuracy, LogLoss, evaluate_labels, evaluate_ratings
from recengine.evaluate.prediction import PredictionMetric

RATINGS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=20)
LABELS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), max_size=20)


def value(metric: PredictionMetric, pairs: list[tuple[float, float]]) -> float:
    for y_true, y_pred in pairs:
        metric.update(y_true, y_pred)
    return metric.value


@settings(max_examples=100, deadline=None)
@given(pairs=RATINGS)
def test_ratings_equal_to_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    pytest.importorskip("sklearn")
    expected = evaluate_ratings([y for y, _ in pairs], [p for _, p in pairs])
    for name, metric in {"mae": MAE(), "mse": MSE(), "rmse": RMSE()}.items():
        assert value(metric, pairs) == pytest.approx(expected[name], nan_ok=True), name


def test_ratings_that_hardly_vary() -> None:
    pytest.importorskip("sklearn")
    assert evaluate_ratings([0.0, 1e-160], [5.0, -5.0])["r2"] == -math.inf


@settings(max_examples=100, deadline=None)
@given(pairs=LABELS, threshold=st.floats(0, 1))
def test_labels_equal_to_scikit_learn(pairs: list[tuple[float, float]], threshold: float) -> None:
    pytest.importorskip("sklearn")
    metrics = ["log_loss", "accuracy"]
    expected = evaluate_labels([y for y, _ in pairs], [p for _, p in pairs], metrics, threshold=threshold)
    assert value(LogLoss(), pairs) == pytest.approx(expected["log_loss"], nan_ok=True)
    assert value(Accuracy(threshold), pairs) == pytest.approx(expected["accuracy"], nan_ok=True)


def test_by_hand() -> None:
    ratings = [(4.0, 3.0), (2.0, 5.0)]
    assert value(MAE(), ratings) == 2.0
    assert value(MSE(), ratings) == 5.0
    assert value(RMSE(), ratings) == math.sqrt(5.0)
    labels = [(1.0, 0.8), (0.0, 0.6)]
    assert value(LogLoss(), labels) == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert value(Accuracy(), labels) == 0.5
    assert value(Accuracy(threshold=0.7), labels) == 1.0


def test_certain_and_wrong_is_finite() -> None:
    assert value(LogLoss(), [(1.0, 0.0)]) == pytest.approx(-math.log(2**-52))
    assert value(LogLoss(), [(0.0, 1.0)]) == pytest.approx(-math.log(2**-52))
    assert value(LogLoss(), [(1.0, 1.0), (0.0, 0.0)]) == pytest.approx(0.0, abs=1e-15)


def test_refuses_before_counting() -> None:
    for rating_metric in (MAE(), MSE(), RMSE()):
        for y_true, y_pred in [(math.nan, 1.0), (1.0, math.inf)]:
            with pytest.raises(ValueError, match="finite"):
                rating_metric.update(y_true, y_pred)
        assert math.isnan(rating_metric.value)
    for label_metric in (Accuracy(), LogLoss()):
        with pytest.raises(ValueError, match="0 or 1, got 2"):
            label_metric.update(2, 0.5)
        for probability in (-0.1, 1.1, math.nan):
            with pytest.raises(ValueError, match="probability"):
                label_metric.update(1, probability)
        assert math.isnan(label_metric.value)
    with pytest.raises(ValueError, match="threshold"):
        Accuracy(threshold=1.5)

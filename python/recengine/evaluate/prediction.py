"""Streaming metrics of single predictions: ratings (MAE, MSE, RMSE) and probabilities of a 0/1 label."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod

from .metric import Mean


class PredictionMetric(Mean, ABC):
    """The mean over predictions of one figure per prediction; O(1) per update."""

    @abstractmethod
    def update(self, y_true: float, y_pred: float) -> None:
        """Count one prediction; ValueError if it is out of range, before anything is counted."""


class RatingMetric(PredictionMetric):
    """A metric of the error y_pred - y_true, both finite."""

    def update(self, y_true: float, y_pred: float) -> None:
        """Count one prediction; ValueError if either number is not finite."""
        if not (math.isfinite(y_true) and math.isfinite(y_pred)):
            raise ValueError(f"y_true and y_pred must be finite, got {y_true!r} and {y_pred!r}")
        self._add(self._figure(float(y_pred) - float(y_true)))

    @abstractmethod
    def _figure(self, error: float) -> float:
        """The figure of one error."""


class MAE(RatingMetric):
    """Mean absolute error.

    >>> metric = MAE()
    >>> metric.update(4.0, 3.5)
    >>> metric.value
    0.5
    """

    def _figure(self, error: float) -> float:
        return abs(error)


class MSE(RatingMetric):
    """Mean squared error.

    >>> metric = MSE()
    >>> metric.update(4.0, 3.5)
    >>> metric.value
    0.25
    """

    def _figure(self, error: float) -> float:
        return error * error


class RMSE(MSE):
    """Square root of the mean squared error.

    >>> metric = RMSE()
    >>> metric.update(4.0, 3.0)
    >>> metric.update(3.0, 3.0)
    >>> round(metric.value, 4)
    0.7071
    """

    @property
    def value(self) -> float:
        """The square root of the mean squared error so far, or nan."""
        return math.sqrt(super().value)


class LabelMetric(PredictionMetric):
    """A metric of the probability ``y_pred`` in [0, 1] given to label 1, where the label ``y_true`` was 0 or 1."""

    def update(self, y_true: float, y_pred: float) -> None:
        """Count one prediction; ValueError if the label is not 0 or 1 or the probability not in [0, 1]."""
        if y_true not in (0, 1):
            raise ValueError(f"y_true must be 0 or 1, got {y_true!r}")
        if not 0 <= y_pred <= 1:
            raise ValueError(f"y_pred must be a probability in [0, 1], got {y_pred!r}")
        self._add(self._figure(bool(y_true), float(y_pred)))

    @abstractmethod
    def _figure(self, label: bool, probability: float) -> float:
        """The figure of one prediction."""


class Accuracy(LabelMetric):
    """Share of labels guessed right, the guess being 1 where the probability is at least ``threshold``.

    >>> metric = Accuracy()
    >>> metric.update(1, 0.9)
    >>> metric.update(0, 0.6)
    >>> metric.value
    0.5
    """

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold!r}")
        self.threshold = threshold

    def _figure(self, label: bool, probability: float) -> float:
        return float((probability >= self.threshold) == label)


class LogLoss(LabelMetric):
    """Mean of -ln(the probability given to what happened), in nats.

    As in scikit-learn, probabilities are first clipped to [eps, 1 - eps] with the eps of float64, 2.2e-16, so that one
    certain and wrong prediction costs 36 and not infinity.

    >>> metric = LogLoss()
    >>> metric.update(1, 0.5)
    >>> round(metric.value, 4)
    0.6931
    """

    def _figure(self, label: bool, probability: float) -> float:
        eps = sys.float_info.epsilon
        clipped = min(max(probability, eps), 1 - eps)
        return -math.log(clipped) if label else -math.log1p(-clipped)

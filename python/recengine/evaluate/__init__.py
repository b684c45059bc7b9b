"""Measuring recommenders: on a stream, metric by metric, or over whole rankings.

- ``prequential`` runs an engine over a stream of events, each one first a query, then a lesson, beside popularity and
  whatever other baselines of ``recengine.baselines``.
- ``holdout`` judges an engine that has learned by events kept back from it; ``split`` keeps them back.
- The streaming metrics take one query, one prediction or one ranking at a time, in bounded memory, and have a ``value``
  at any moment; ``Grouped`` splits any of them by user group and gives the largest gap between groups.
- ``evaluate_rankings``, ``evaluate_labels`` and ``evaluate_ratings`` judge what has been collected, through ranx and
  scikit-learn (extra ``[evaluate]``).

A figure about nothing (no query, no prediction, no group) is nan.
"""

from __future__ import annotations

from .catalogue import Calibration, Coverage, Diversity, Gini, Novelty
from .groups import Grouped
from .holdout import HoldoutResult, holdout
from .intervals import mean_interval
from .metric import Metric
from .offline import evaluate_labels, evaluate_rankings, evaluate_ratings
from .prediction import MAE, MSE, RMSE, Accuracy, LogLoss
from .ranking import F1, MRR, NDCG, HitRate, Precision, Recall
from .result import BaselineFigures, PrequentialResult, Progress, RankingFigures
from .split import split
from .stream import prequential

__all__ = [
    "F1",
    "MAE",
    "MRR",
    "MSE",
    "NDCG",
    "RMSE",
    "Accuracy",
    "BaselineFigures",
    "Calibration",
    "Coverage",
    "Diversity",
    "Gini",
    "Grouped",
    "HitRate",
    "HoldoutResult",
    "LogLoss",
    "Metric",
    "Novelty",
    "Precision",
    "PrequentialResult",
    "Progress",
    "RankingFigures",
    "Recall",
    "evaluate_labels",
    "evaluate_rankings",
    "evaluate_ratings",
    "holdout",
    "mean_interval",
    "prequential",
    "split",
]

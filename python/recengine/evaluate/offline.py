"""Whole rankings, labels and ratings, through ranx and scikit-learn (extra ``[evaluate]``)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._optional import require
from .ranking import Ranking, Relevant, first_distinct, positive_gains

_LABEL_METRICS = ("roc_auc", "average_precision", "log_loss", "brier", "accuracy")


def evaluate_rankings(
    rankings: Sequence[Ranking],
    relevant: Sequence[Relevant],
    metrics: Sequence[str] = ("recall@10", "ndcg@10", "mrr@10"),
) -> dict[str, float]:
    """Ranking metrics over many queries at once, computed by ranx.

    Parameters
    ----------
    rankings
        One sequence of distinct ids per query, best first.
    relevant
        For each query, the ids that should have been found, or a mapping from id to gain. A gain is 0 or at least 1,
        since ranx counts smaller ones as irrelevant.
    metrics
        Names as ranx has them: ``recall``, ``precision``, ``f1``, ``hit_rate``, ``ndcg``, ``ndcg_burges``, ``mrr``,
        ``map`` and others, with or without ``@k``.

    Returns
    -------
    dict
        The mean of each metric over the queries that have something relevant, nan if none has.

    Raises
    ------
    ValueError
        For a repeated id, a gain that ranx would ignore, an unknown metric, or sequences of different lengths.
    ImportError
        Without ranx.

    Examples
    --------
    >>> evaluate_rankings([["a", "b"], ["c", "d"]], [{"b"}, {"c", "e"}], ["recall@2", "mrr@2"])
    {'recall@2': 0.75, 'mrr@2': 0.75}
    """
    if len(rankings) != len(relevant):
        raise ValueError(f"{len(rankings)} rankings, but relevant items for {len(relevant)}")
    ranx, typed = require("ranx"), require("numba.typed")
    runs, wanted = [], []
    for ranking, items in zip(rankings, relevant, strict=True):
        top = first_distinct(ranking, len(ranking))
        gains = positive_gains(items)
        if any(gain < 1 for gain in gains.values()):
            raise ValueError(f"a gain must be 0 or at least 1, got {min(gains.values())!r}")
        if gains:
            # ranx compares numbers much faster than strings: relevant items are numbered, the others are all -1.
            codes = {item: code for code, item in enumerate(gains)}
            places = [(codes.get(item, -1), -place) for place, item in enumerate(top)]
            runs.append(np.array(places, dtype=np.float64).reshape(-1, 2))
            best_first = sorted(gains, key=lambda item: -gains[item])
            wanted.append(np.array([(codes[item], gains[item]) for item in best_first], dtype=np.float64))
    if not runs:
        return dict.fromkeys(metrics, math.nan)
    with warnings.catch_warnings():
        # numba's own remark on ranx's loops when it compiles them; nothing the caller could change.
        warnings.filterwarnings("ignore", message="unsafe cast")
        figures = ranx.evaluate(typed.List(wanted), typed.List(runs), list(metrics))
    if len(metrics) == 1:
        figures = {metrics[0]: figures}
    return {name: float(figures[name]) for name in metrics}


def evaluate_labels(
    y_true: ArrayLike, y_score: ArrayLike, metrics: Sequence[str] = _LABEL_METRICS, *, threshold: float = 0.5
) -> dict[str, float]:
    """Metrics of 0/1 labels against scores, computed by scikit-learn.

    Parameters
    ----------
    y_true
        Labels 0 or 1, (n,).
    y_score
        Finite scores, (n,); for all but the first two metrics probabilities in [0, 1].
    metrics
        Any of "roc_auc", "average_precision", "log_loss" (nats), "brier" (mean squared difference) and "accuracy".
    threshold
        For accuracy: the guess is 1 where the score is at least this.

    Returns
    -------
    dict
        The value of each metric. "roc_auc" is nan if all labels are the same, "average_precision" if none is 1, and
        everything if there are no labels.

    Raises
    ------
    ValueError
        For other labels, shapes or names, and for scores that are no probabilities where they have to be.
    ImportError
        Without scikit-learn.

    Examples
    --------
    >>> evaluate_labels([0, 1, 1, 1], [0.2, 0.8, 0.4, 0.6], ["roc_auc", "accuracy"])
    {'roc_auc': 1.0, 'accuracy': 0.75}
    """
    truth, scores = _columns(y_true, y_score)
    if unknown := [name for name in metrics if name not in _LABEL_METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}, expected one of {', '.join(_LABEL_METRICS)}")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"y_true must be 0 or 1, got {truth[~np.isin(truth, (0, 1))].item(0)!r}")
    beyond = scores[(scores < 0) | (scores > 1)]
    if len(beyond) and set(metrics) - {"roc_auc", "average_precision"}:
        raise ValueError(f"y_score must be probabilities in [0, 1], got {beyond.item(0)!r}")
    sklearn = require("sklearn.metrics")
    labels = truth.astype(bool)

    def figure(name: str) -> float:
        if not len(labels):
            return math.nan
        match name:
            case "roc_auc":
                return float(sklearn.roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else math.nan
            case "average_precision":
                return float(sklearn.average_precision_score(labels, scores)) if labels.any() else math.nan
            case "log_loss":
                return float(sklearn.log_loss(labels, scores, labels=[False, True]))
            case "brier":
                return float(sklearn.brier_score_loss(labels, scores, pos_label=True))
            case _:
                return float(sklearn.accuracy_score(labels, scores >= threshold))

    return {name: figure(name) for name in metrics}


def evaluate_ratings(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """Errors of predicted ratings, computed by scikit-learn: "mae", "mse", "rmse" and "r2".

    Parameters
    ----------
    y_true, y_pred
        Finite numbers, (n,).

    Returns
    -------
    dict
        "r2" is nan for fewer than two ratings, everything for none; -inf where the ratings hardly vary.

    Raises
    ------
    ValueError
        For other shapes, or a number that is not finite.
    ImportError
        Without scikit-learn.

    Examples
    --------
    >>> evaluate_ratings([1.0, 3.0], [2.0, 3.0])
    {'mae': 0.5, 'mse': 0.5, 'rmse': 0.7071067811865476, 'r2': 0.5}
    """
    truth, predicted = _columns(y_true, y_pred)
    sklearn = require("sklearn.metrics")
    if not len(truth):
        return dict.fromkeys(("mae", "mse", "rmse", "r2"), math.nan)
    with np.errstate(over="ignore"):  # of a truth that hardly varies, R^2 is -inf
        squared = float(sklearn.mean_squared_error(truth, predicted))
        return {
            "mae": float(sklearn.mean_absolute_error(truth, predicted)),
            "mse": squared,
            "rmse": math.sqrt(squared),
            "r2": float(sklearn.r2_score(truth, predicted)) if len(truth) > 1 else math.nan,
        }


def _columns(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Both as finite float64 columns of one length."""
    first, second = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"expected two columns of one length, got shapes {first.shape} and {second.shape}")
    for column in (first, second):
        if not np.isfinite(column).all():
            raise ValueError(f"expected finite numbers, got {column[~np.isfinite(column)].item(0)!r}")
    return first, second

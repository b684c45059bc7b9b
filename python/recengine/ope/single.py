"""Estimators for logs of single choices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .estimate import Estimate, Floats, Method, column, estimate, probabilities


def _weights(
    rewards: npt.ArrayLike, propensities: npt.ArrayLike, target: npt.ArrayLike, clip: float | None
) -> tuple[Floats, Floats]:
    earned = column("rewards", rewards)
    if earned.ndim != 1:
        raise ValueError(f"rewards must be of shape (n,), not {earned.shape}")
    shown = probabilities("propensities", propensities, earned.shape, positive=True)
    wanted = probabilities("target", target, earned.shape, positive=False)
    weights = wanted / shown
    if clip is not None:
        if not clip > 0 or math.isnan(clip):
            raise ValueError(f"clip must be positive, not {clip}")
        weights = np.minimum(weights, clip)
    return earned, weights


def ips(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    clip: float | None = None,
    interval: Method = "bootstrap",
    confidence: float = 0.95,
    bound: float | None = None,
    clusters: npt.ArrayLike | None = None,
    seed: int = 0,
    policy: str = "",
) -> Estimate:
    """Inverse propensity scoring: mean of ``w r``, w = target / propensity (Horvitz and Thompson 1952). Unbiased.

    Parameters
    ----------
    rewards
        (n,), what came of each choice.
    propensities
        (n,), how probable the policy that ran made it, above 0.
    target
        (n,), how probable the evaluated policy makes the same choice.
    clip
        Weights above count as this; biased, varies less. None: none is clipped.
    interval
        "bootstrap" (percentiles of 1,000 resamples), "normal", or "bernstein" (empirical Bernstein: holds for any
        number of rows, and is wide).
    confidence
        Of the interval.
    bound
        Of "bernstein": the most that ``w r`` can range over, known beforehand. None: what it was seen to range over,
        with which the interval is no strict one.
    clusters
        (n,) labels of rows that hang together, such as users; clusters are taken as independent. None: rows are.
    seed
        Of the bootstrap.
    policy
        Its name, for the `OverlapWarning`.

    Raises ValueError naming what is not valid: shapes, NaN, propensities outside (0, 1].

    >>> estimate = ips([1, 0, 0, 1] * 100, [0.5, 0.5, 0.25, 0.25] * 100, [0.9, 0.9, 0.1, 0.1] * 100)
    >>> round(estimate.value, 4)
    0.55
    """
    earned, weights = _weights(rewards, propensities, target, clip)
    return estimate(
        "IPS", weights * earned, weights,
        normalised=False, method=interval, confidence=confidence, bound=bound, clusters=clusters, seed=seed,
        policy=policy,
    )  # fmt: skip


def snips(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    clip: float | None = None,
    **options: Any,
) -> Estimate:
    """Self-normalised IPS: ``sum w r / sum w`` (Swaminathan and Joachims 2015). Slightly biased, varies less.

    Options as in `ips`, but for "bernstein", which is for means. Where the log shows nothing of what the policy would
    do, all weights are 0 and their ratio NaN; the `OverlapWarning` says so.

    >>> round(snips([1, 0, 0, 1] * 100, [0.5, 0.5, 0.25, 0.25] * 100, [0.9, 0.9, 0.1, 0.1] * 100).value, 4)
    0.5
    """
    earned, weights = _weights(rewards, propensities, target, clip)
    return estimate("SNIPS", weights * earned, weights, normalised=True, **_options(options))


def dm(expected: npt.ArrayLike, **options: Any) -> Estimate:
    """Direct method: mean of a reward model's expectation under the policy. As biased as the model.

    Parameters
    ----------
    expected
        (n,): ``sum_a target(a | x) q(x, a)`` with the model q.
    options
        `interval`, `confidence`, `bound`, `clusters`, `seed`, `policy` as in `ips`. The interval does not know the
        model's error.

    >>> dm([0.25, 0.75]).value
    0.5
    """
    return estimate("DM", column("expected", expected), None, normalised=False, **_options(options))


def dr(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    clip: float | None = None,
    **options: Any,
) -> Estimate:
    """Doubly robust: mean of ``expected + w (r - predicted)`` (Dudik, Langford and Li 2011). Unbiased if propensities
    or the model are right, and the better the model, the less it varies.

    Parameters
    ----------
    predicted
        (n,): the model's reward of the choice that was logged, ``q(x, a)``. From a model that has not seen the row.
    expected
        As in `dm`.

    The rest as in `ips`.

    >>> round(dr([1, 0] * 100, [0.5] * 200, [0.8, 0.2] * 100, [0.9, 0.1] * 100, [0.74] * 200).value, 4)
    0.8
    """
    terms, weights = _robust(rewards, propensities, target, predicted, expected, clip, math.inf)
    return estimate("DR", terms, weights, normalised=False, **_options(options))


def switch_dr(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    tau: float = 10.0,
    **options: Any,
) -> Estimate:
    """Switch doubly robust: `dr` where the weight is at most `tau`, the model alone elsewhere (Wang, Agarwal and Dudik
    2017).

    >>> columns = [1, 0] * 100, [0.5] * 200, [0.8, 0.2] * 100, [0.9, 0.1] * 100, [0.74] * 200
    >>> round(switch_dr(*columns, tau=1.0).value, 4)
    0.72
    """
    if not tau >= 0:
        raise ValueError(f"tau must be at least 0, not {tau}")
    terms, weights = _robust(rewards, propensities, target, predicted, expected, None, tau)
    return estimate("Switch-DR", terms, weights, normalised=False, **_options(options))


def dr_terms(rewards: Floats, propensities: Floats, target: Floats, predicted: Floats, expected: Floats) -> Floats:
    """What `dr` takes the mean of."""
    return _robust(rewards, propensities, target, predicted, expected, None, math.inf)[0]


def _robust(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
    clip: float | None,
    tau: float,
) -> tuple[Floats, Floats]:
    earned, weights = _weights(rewards, propensities, target, clip)
    told = column("predicted", predicted, earned.shape)
    mean = column("expected", expected, earned.shape)
    return mean + np.where(weights <= tau, weights, 0.0) * (earned - told), weights


def _options(options: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "interval": "bootstrap", "confidence": 0.95, "bound": None, "clusters": None, "seed": 0, "policy": "",
    }  # fmt: skip
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}; there are {', '.join(known)}")
    known |= options
    known["method"] = known.pop("interval")
    return known

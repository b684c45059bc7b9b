"""An estimate with its interval, and how far to trust it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Method = Literal["bootstrap", "normal", "bernstein"]

RESAMPLES = 1_000
MOST_GROUPS = 10_000  # that a bootstrap draws from
DRAWN_AT_ONCE = 1_000_000
LEAST_SHARE = 0.01  # of the rows, as an effective sample
LEAST_SAMPLE = 30.0
TAIL = 12.5  # resamples that lie beyond each end of an interval, at least
SUPPORT = 0.1  # that the mean weight may be away from 1, if it is by 5 standard errors as well


class OverlapWarning(UserWarning):
    """The log shows too little of what the evaluated policy would do."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a policy earns a row, as a log tells it.

    Attributes
    ----------
    estimator
        Its name.
    value
        Mean reward of a row: of a choice, or of a list.
    low, high
        Interval, of 95 % unless asked otherwise.
    effective_sample_size
        ``(sum w)^2 / sum w^2`` of the importance weights (Kish 1965): so many rows of the policy's own would tell about
        as much. Where each slot has weights of its own, that of the slot with the least. The number of rows for a
        direct method.
    max_weight
        The largest weight; 1 for a direct method.
    rows
        How many there are.
    overlap_is_bad
        Whether an `OverlapWarning` was given.

    >>> from recengine import ope
    >>> estimate = ope.ips([1.0, 0.0, 1.0, 0.0] * 50, [0.5] * 200, [0.5] * 200)
    >>> estimate.value, estimate.effective_sample_size
    (0.5, 200.0)
    """

    estimator: str
    value: float
    low: float
    high: float
    effective_sample_size: float
    max_weight: float
    rows: int
    overlap_is_bad: bool

    def __str__(self) -> str:
        return f"{self.estimator}: {self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def column(name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None) -> Floats:
    """A float64 array without NaN or infinity, of the shape of the others; ValueError naming the first that is not."""
    array = np.asarray(values, dtype=np.float64)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty")
    wrong = ~np.isfinite(array)
    if wrong.any():
        at = tuple(int(place) for place in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must be finite, not {array[at]} at row {at[0]}")
    return array


def probabilities(name: str, values: npt.ArrayLike, shape: tuple[int, ...], *, positive: bool) -> Floats:
    """The same of probabilities. NaN, which policies without known propensities log, is refused by name."""
    raw = np.asarray(values, dtype=np.float64)
    if np.isnan(raw).any():
        row = int(np.argwhere(np.isnan(raw))[0][0])
        whose = "evaluated" if name == "target" else "logged"
        raise ValueError(
            f"{name} is nan at row {row}: the policy that is {whose} has no known propensities, so that importance "
            "weights cannot be formed"
        )
    array = column(name, raw, shape)
    wrong = (array < 0) | (array > 1 + 1e-9) | (positive & (array == 0))
    if wrong.any():
        at = tuple(int(place) for place in np.argwhere(wrong)[0])
        least = "above 0" if positive else "at least 0"
        raise ValueError(f"{name} must be {least} and at most 1, not {array[at]} at row {at[0]}")
    return array


def estimate(
    name: str,
    terms: Floats,
    weights: Floats | None,
    *,
    normalised: bool,
    method: Method,
    confidence: float,
    bound: float | None,
    clusters: npt.ArrayLike | None,
    seed: int,
    policy: str = "",
) -> Estimate:
    """Mean of `terms` (n,), or their sum over that of the weights if `normalised`, with an interval. Weights are (n,),
    or (n, k) where each slot has its own; `policy` is named in the warning."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    if method not in ("bootstrap", "normal", "bernstein"):
        raise ValueError(f"interval must be 'bootstrap', 'normal' or 'bernstein', not {method!r}")
    rows = len(terms)
    below = weights if normalised and weights is not None else np.ones(rows)
    ess, largest, is_bad = _overlap(f"{policy}: {name}" if policy else name, weights, rows)
    if not below.sum() > 0:  # a ratio of nothing, which the warning has told
        return Estimate(name, math.nan, math.nan, math.nan, ess, largest, rows, is_bad)
    value = float(terms.sum() / below.sum())
    if method == "bernstein":
        if normalised:
            raise ValueError(f"interval 'bernstein' is for means, and {name} is a ratio")
        if clusters is not None:
            raise ValueError("interval 'bernstein' takes rows as independent: leave out clusters")
        low, high = _bernstein(terms, value, confidence, bound)
    else:
        sums, counts = _grouped(terms, below, clusters, seed if method == "bootstrap" else None)
        interval = _bootstrap if method == "bootstrap" else _normal
        low, high = interval(sums, counts, value, confidence, seed)
    return Estimate(name, value, low, high, ess, largest, rows, is_bad)


def _overlap(name: str, weights: Floats | None, rows: int) -> tuple[float, float, bool]:
    if weights is None:
        return float(rows), 1.0, False
    columns = weights.reshape(rows, -1)
    squares, sums = (columns**2).sum(axis=0), columns.sum(axis=0)
    sizes = np.divide(sums**2, squares, out=np.zeros_like(sums), where=squares > 0)
    slot = int(np.argmin(sizes))
    ess, means = float(sizes[slot]), sums / rows
    errors = columns.std(axis=0) / math.sqrt(rows)
    reasons = []
    if ess < max(LEAST_SHARE * rows, LEAST_SAMPLE):
        reasons.append(f"{rows:,} rows count as {ess:,.1f}{_of_slot(slot, columns)}")
    away = np.abs(means - 1) - np.maximum(SUPPORT, 5 * errors)
    if away.max() > 0:
        slot = int(np.argmax(away))
        why = "the log lacks choices that the policy makes" if means[slot] < 1 else "propensities are wrong"
        reasons.append(f"the mean weight is {means[slot]:.3g} instead of 1{_of_slot(slot, columns)}: {why}")
    if reasons:
        warnings.warn(f"{name}: {' and '.join(reasons)}", OverlapWarning, stacklevel=4)
    return ess, float(columns.max()), bool(reasons)


def _of_slot(slot: int, columns: Floats) -> str:
    return f" in slot {slot + 1}" if columns.shape[1] > 1 else ""


def _grouped(terms: Floats, below: Floats, clusters: npt.ArrayLike | None, seed: int | None) -> tuple[Floats, Floats]:
    """Sums over groups that are independent of one another: clusters, single rows, or, of many rows, random groups of
    equal size, whose means vary as much as the rows say."""
    if clusters is not None:
        ids = np.asarray(clusters)
        if ids.shape != terms.shape:
            raise ValueError(f"clusters must be of shape {terms.shape}, not {ids.shape}")
        _, codes = np.unique(ids, return_inverse=True)
        sums, counts = (np.bincount(codes, weights=values).astype(np.float64) for values in (terms, below))
        return sums, counts
    if seed is None or len(terms) <= MOST_GROUPS:
        return terms, below
    # Whatever the order of the log, groups are alike: rows go to them in a random order.
    order = np.random.default_rng(seed).permutation(len(terms))
    starts = np.linspace(0, len(terms), MOST_GROUPS, endpoint=False).astype(np.intp)
    return np.add.reduceat(terms[order], starts), np.add.reduceat(below[order], starts)


def _bootstrap(sums: Floats, counts: Floats, value: float, confidence: float, seed: int) -> tuple[float, float]:
    """Percentiles of the ratio over resampled groups (Efron 1979)."""
    random = np.random.default_rng(seed)
    groups = len(sums)
    resamples = max(RESAMPLES, math.ceil(2 * TAIL / (1 - confidence)))
    values = np.empty(resamples)
    together = max(1, DRAWN_AT_ONCE // groups)
    for first in range(0, resamples, together):
        drawn = random.integers(groups, size=(min(together, resamples - first), groups))
        above, below = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
        values[first : first + together] = np.divide(above, below, out=np.full(len(above), value), where=below > 0)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _normal(sums: Floats, counts: Floats, value: float, confidence: float, seed: int) -> tuple[float, float]:
    """The delta method for a ratio of sums (Cochran 1977, 6.3), with a normal quantile."""
    groups = len(sums)
    if groups < 2:
        return math.nan, math.nan
    residuals = sums - value * counts
    error = math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / float(counts.sum())
    reach = _quantile((1 + confidence) / 2) * error
    return value - reach, value + reach


def _bernstein(terms: Floats, value: float, confidence: float, bound: float | None) -> tuple[float, float]:
    """Empirical Bernstein (Maurer and Pontil 2009, theorem 4), both sides."""
    rows = len(terms)
    if rows < 2:
        return math.nan, math.nan
    width = float(terms.max() - terms.min()) if bound is None else bound
    if not width >= float(terms.max() - terms.min()):
        raise ValueError(f"bound must be at least the range of the terms, {terms.max() - terms.min():g}, not {bound}")
    logarithm = math.log(4 / (1 - confidence))
    reach = math.sqrt(2 * float(terms.var(ddof=1)) * logarithm / rows) + 7 * width * logarithm / (3 * (rows - 1))
    return value - reach, value + reach


def _quantile(share: float) -> float:
    """Of the standard normal distribution."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)

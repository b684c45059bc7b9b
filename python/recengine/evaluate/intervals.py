"""95 % confidence intervals of means, with the events of one user taken as one observation."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

Interval: TypeAlias = "tuple[float, float]"

_Z = 1.959963984540054  # standard normal, two-sided 95 %


def mean_interval(
    figures: np.ndarray[Any, Any], users: np.ndarray[Any, Any], lowest: float = 0.0, highest: float = 1.0
) -> Interval:
    """95 % interval of the mean of ``figures``, (n,), the events of ``users``, (n,) codes from 0.

    Events of one user hang together (the same taste, the lines of one invoice), so that the binomial interval over
    events would be too narrow. Users are taken as independent, their events in whatever way dependent: the
    cluster-robust variance of a ratio of sums over users (Cochran, 1977, "Sampling Techniques", 6.3; Liang and Zeger,
    1986), with a normal quantile. It is asymptotic in users: trust it from some dozens on, if none of them has most of
    the events.

    The interval says how far other users of the same kind at the same time could have moved the figure, not how far
    another season would, nor another seed. It is cut off at ``lowest`` and ``highest``, and nan for fewer than two
    users.

    >>> hits, users = np.array([1, 1, 0, 0, 1, 0]), np.array([0, 0, 1, 1, 2, 3])
    >>> [round(bound, 3) for bound in mean_interval(hits, users)]
    [0.0, 1.0]
    >>> more = np.repeat(np.arange(50) * 4, 6) + np.tile(users, 50)
    >>> [round(bound, 3) for bound in mean_interval(np.tile(hits, 50), more)]
    [0.427, 0.573]
    """
    events = np.bincount(users)
    count = int(np.count_nonzero(events))
    if count < 2:
        return math.nan, math.nan
    mean = float(np.mean(figures))
    residuals = np.bincount(users, weights=figures) - mean * events
    variance = count / (count - 1) * float(residuals @ residuals) / len(figures) ** 2
    reach = _Z * math.sqrt(variance)
    return max(mean - reach, lowest), min(mean + reach, highest)

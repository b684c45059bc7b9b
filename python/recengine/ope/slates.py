"""Estimators for logs of lists. Columns are (n, k), a row a list, a column a slot.

Propensities are those of a slot's item, given the slots before it, as `Ranking.log_propensities` has them; those of
`independent_ips` are marginal ones, of the item at that slot whatever is above it. Of lists shorter than k the rest
holds the propensity 1, the target 1 and the reward 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .estimate import Estimate, Floats, column, estimate, probabilities
from .single import _options


def _ratios(rewards: npt.ArrayLike, propensities: npt.ArrayLike, target: npt.ArrayLike) -> tuple[Floats, Floats]:
    earned = column("rewards", rewards)
    if earned.ndim != 2:
        raise ValueError(f"rewards must be of shape (n, k), not {earned.shape}")
    shown = probabilities("propensities", propensities, earned.shape, positive=True)
    wanted = probabilities("target", target, earned.shape, positive=False)
    return earned, wanted / shown


def independent_ips(
    rewards: npt.ArrayLike, propensities: npt.ArrayLike, target: npt.ArrayLike, **options: Any
) -> Estimate:
    """Independent IPS: mean over lists of ``sum_j w_j r_j`` with the weight of each slot alone (Li et al. 2018).
    Unbiased if what a slot earns depends on its own item only; varies little.

    Both columns are marginal: how probable the item is at that slot, whatever is above it. Of lists without repetition
    those are not the propensities that were logged, which are given the slots above: with these the estimate is biased
    even then, from the second slot on, since what is above is never chosen again. `compare` forms marginal ones.

    Options: `interval`, `confidence`, `bound`, `clusters`, `seed`, `policy` as in `ips`. Overlap is that of the slot
    that has the least.

    >>> rewards, shown = [[1.0, 0.0], [0.0, 1.0]] * 50, [[0.5, 0.5]] * 100
    >>> round(independent_ips(rewards, shown, [[0.6, 0.4], [0.4, 0.6]] * 50).value, 4)
    1.2
    """
    earned, ratios = _ratios(rewards, propensities, target)
    terms = (ratios * earned).sum(axis=1)
    return estimate("independent IPS", terms, ratios, normalised=False, **_options(options))


def reward_interaction_ips(
    rewards: npt.ArrayLike, propensities: npt.ArrayLike, target: npt.ArrayLike, **options: Any
) -> Estimate:
    """Reward-interaction IPS: mean over lists of ``sum_j r_j prod_{i <= j} w_i`` (McInerney et al. 2020). Right if what
    a slot earns depends on its item and those above it, as for users who read from the top.

    Options as in `independent_ips`; overlap is that of the whole lists.

    >>> round(reward_interaction_ips([[0.0, 1.0]] * 100, [[0.5, 0.5]] * 100, [[0.5, 0.54]] * 100).value, 4)
    1.08
    """
    earned, ratios = _ratios(rewards, propensities, target)
    weights: Floats = np.cumprod(ratios, axis=1, dtype=np.float64)
    terms = (weights * earned).sum(axis=1)
    return estimate("reward-interaction IPS", terms, weights[:, -1], normalised=False, **_options(options))


def cascade_dr(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
    **options: Any,
) -> Estimate:
    """Cascade DR: mean over lists of ``sum_j (W_j (r_j - Q_j) + W_(j-1) E Q_j)``, ``W_j = prod_{i <= j} w_i``,
    ``W_0 = 1`` (Kiyohara et al. 2022). Right where reward-interaction IPS is, whatever the model, and the better the
    model, the less it varies.

    Parameters
    ----------
    predicted
        (n, k): Q_j, what a model expects slot j and those below it to earn together, from the list down to slot j. From
        a model that has not seen the row.
    expected
        (n, k): E Q_j, its mean over what the evaluated policy would choose for slot j below the logged slots before it.

    Both are 0 behind the end of shorter lists. The rest and options as in `reward_interaction_ips`.

    >>> columns = [[0.0, 1.0]] * 100, [[0.5, 0.5]] * 100, [[0.5, 0.54]] * 100
    >>> round(cascade_dr(*columns, [[1.0, 0.9]] * 100, [[1.0, 0.95]] * 100).value, 4)
    1.058
    """
    terms, weights = _cascade(rewards, propensities, target, predicted, expected)
    return estimate("cascade DR", terms, weights, normalised=False, **_options(options))


def cascade_terms(rewards: Floats, propensities: Floats, target: Floats, predicted: Floats, expected: Floats) -> Floats:
    """What `cascade_dr` takes the mean of."""
    return _cascade(rewards, propensities, target, predicted, expected)[0]


def _cascade(
    rewards: npt.ArrayLike,
    propensities: npt.ArrayLike,
    target: npt.ArrayLike,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """Terms, and the weights of whole lists."""
    earned, ratios = _ratios(rewards, propensities, target)
    told, mean = column("predicted", predicted, earned.shape), column("expected", expected, earned.shape)
    weights: Floats = np.cumprod(ratios, axis=1, dtype=np.float64)
    before = np.column_stack([np.ones(len(weights)), weights[:, :-1]])
    return (weights * (earned - told) + before * mean).sum(axis=1), weights[:, -1]

"""Policies: how a slate is chosen from the candidates of a query, for the `explore` argument of `Engine.recommend`.

Each is a small immutable value. The best `candidates` items are retrieved (and ranked, where there is a ranker); the
policy chooses k of them, slot by slot, without replacement. ``Ranking.log_propensities`` says how probable each choice
was, given the slots before it and the candidates. docs/exploration.md has the formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from recengine import _core
from recengine.diversify import DPP, MMR, Diversity, MaxPerGroup

__all__ = ["UCB", "EpsilonGreedy", "Greedy", "Policy", "Random", "Softmax", "SquareCB", "ThompsonSampling"]

Precision = Literal["diagonal", "shared"]


@dataclass(frozen=True, slots=True)
class Greedy:
    """The best candidates in order: what `recommend` returns without a policy, with its log-propensities, which are 0.

    >>> Greedy()
    Greedy(candidates=200)
    """

    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_count("candidates", self.candidates, 1, 4096)


@dataclass(frozen=True, slots=True)
class Random:
    """Any candidate that is left, all alike.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
    >>> [round(float(p), 4) for p in engine.recommend("ann", explore=Random(), seed=1).log_propensities]
    [-0.6931, 0.0]
    """

    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_count("candidates", self.candidates, 1, 4096)


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """For each slot, with probability `epsilon` any candidate that is left, else the best.

    ValueError for an epsilon outside [0, 1].

    >>> EpsilonGreedy(0.1).epsilon
    0.1
    """

    epsilon: float = 0.1
    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_number("epsilon", self.epsilon, 0.0, 1.0)
        _check_count("candidates", self.candidates, 1, 4096)


@dataclass(frozen=True, slots=True)
class Softmax:
    """For each slot a candidate that is left with a probability in proportion to exp(score / temperature): the model of
    Plackett (1975) and Luce (1959).

    ValueError for a temperature that is not between 1e-9 and 1e9.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
    >>> ranking = engine.recommend("ann", k=1, explore=Softmax(0.5), seed=3)
    >>> ranking, round(float(ranking.log_propensities[0]), 4)
    (Ranking(cup: 2), -0.1269)
    """

    temperature: float = 1.0
    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 1e-9, 1e9)
        _check_count("candidates", self.candidates, 1, 4096)


@dataclass(frozen=True, slots=True)
class ThompsonSampling:
    """For each slot the best candidate that is left by scores drawn anew from a Bayesian linear model on the items'
    rows (Thompson 1933; Chapelle and Li 2011).

    The mean is the score; what `impression` has shown makes it more certain.

    Parameters
    ----------
    scale
        Of the noise, at least 0: 1 is the model's own.
    precision
        "diagonal": a number for each user and coordinate. "shared": one matrix for all users, at most 256 dimensions.
    samples
        0: log-propensities are NaN. Else they are estimated from so many draws, at most 100,000, with their standard
        errors in ``Ranking.log_propensity_errors``.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
    >>> ranking = engine.recommend("ann", k=1, explore=ThompsonSampling(samples=1000), seed=0)
    >>> round(float(ranking.log_propensities[0]), 1), round(float(ranking.log_propensity_errors[0]), 2)
    (-0.3, 0.02)
    """

    scale: float = 1.0
    precision: Precision = "diagonal"
    samples: int = 0
    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_number("scale", self.scale, 0.0, 1e9)
        _check_precision(self.precision)
        _check_count("samples", self.samples, 0, 100_000)
        _check_count("candidates", self.candidates, 1, 4096)


@dataclass(frozen=True, slots=True)
class UCB:
    """The best by score plus `alpha` standard deviations of the same model (upper confidence bounds: LinUCB, Li et al.
    2010). A choice without chance: its log-propensities are NaN, which the estimators of `recengine.ope` refuse.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
    >>> engine.recommend("ann", k=1, explore=UCB(0.5)).ids.tolist()
    ['cup']
    """

    alpha: float = 1.0
    precision: Precision = "diagonal"
    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_number("alpha", self.alpha, 0.0, 1e9)
        _check_precision(self.precision)
        _check_count("candidates", self.candidates, 1, 4096)


@dataclass(frozen=True, slots=True)
class SquareCB:
    """For each slot one of the m candidates left: each but the best with probability
    ``1 / (m + gamma * (best score - score))``, the best with the rest (Foster and Rakhlin 2020).

    >>> SquareCB(10.0)
    SquareCB(gamma=10.0, candidates=200)
    """

    gamma: float = 10.0
    candidates: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        _check_number("gamma", self.gamma, 0.0, 1e9)
        _check_count("candidates", self.candidates, 1, 4096)


Policy = Greedy | Random | EpsilonGreedy | Softmax | ThompsonSampling | UCB | SquareCB


def _check_number(name: str, value: float, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not least <= value <= most or math.isnan(value):
        raise ValueError(f"{name} must be between {least:g} and {most:g}, not {value}")


def _check_count(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be between {least} and {most}, not {value}")


def _check_precision(precision: str) -> None:
    if precision not in ("diagonal", "shared"):
        raise ValueError(f"precision must be 'diagonal' or 'shared', not {precision!r}")


def _core_policy(policy: Any) -> tuple[str, float, str, int]:
    """As the core takes it: name, parameter, precision, samples."""
    match policy:
        case Greedy():
            return "greedy", 0.0, "diagonal", 0
        case Random():
            return "random", 0.0, "diagonal", 0
        case EpsilonGreedy():
            return "epsilon_greedy", policy.epsilon, "diagonal", 0
        case Softmax():
            return "softmax", policy.temperature, "diagonal", 0
        case ThompsonSampling():
            return "thompson", policy.scale, policy.precision, policy.samples
        case UCB():
            return "ucb", policy.alpha, policy.precision, 0
        case SquareCB():
            return "squarecb", policy.gamma, "diagonal", 0
    raise TypeError(f"explore must be a policy of recengine.explore, not {policy!r}")


def _core_diversity(diversify: Any) -> tuple[str, float, int]:
    """As the core takes it: name, weight, count."""
    match diversify:
        case None:
            return "none", 0.0, 0
        case MMR():
            return "mmr", diversify.lambda_, diversify.pool or 0
        case DPP():
            return "dpp", diversify.theta, diversify.pool or 0
        case MaxPerGroup():
            return "max_per_group", 0.0, diversify.n
    raise TypeError(f"diversify must be MMR(), DPP() or MaxPerGroup() of recengine.diversify, not {diversify!r}")


@lru_cache(maxsize=256)
def core_explore(explore: Policy | None, diversify: Diversity | None) -> _core.Explore:
    """Both as one value of the core; no policy is `Greedy`."""
    policy = Greedy() if explore is None else explore
    chosen, diversity = _core_policy(policy), _core_diversity(diversify)
    return _core.Explore(*chosen, *diversity, policy.candidates)

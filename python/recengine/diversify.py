"""Diversity, for the `diversify` argument of `Engine.recommend`: lists in which items are not all alike.

`MMR` and `DPP` reorder candidates by relevance (their scores, brought to [0, 1]) and by how alike the items' rows are.
They come before a policy that draws: it then draws from the `pool` they left, and its log-propensities are those given
that pool. Of `UCB`, which leaves nothing to chance, they take the bounds for scores and come after; log-propensities
are NaN as ever. `MaxPerGroup` limits every slot, and propensities are as without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DPP", "MMR", "Diversity", "MaxPerGroup"]


@dataclass(frozen=True, slots=True)
class MMR:
    """Maximal marginal relevance (Carbonell and Goldstein 1998): the next item has the largest
    ``lambda_ * relevance - (1 - lambda_) * largest cosine to an item above it``.

    Parameters
    ----------
    lambda_
        Between 0, diversity alone, and 1, relevance alone.
    pool
        How many items it leaves for a policy that draws; default: half of the candidates, at least twice as many as
        results are asked for. A small one leaves little to explore.

    >>> from recengine import Engine
    >>> rows = [[3.0, 0.0], [2.9, 0.1], [0.2, 2.0]]
    >>> engine = Engine.from_factors(["ann"], [[1.0, 0.5]], ["tea", "green tea", "cup"], rows)
    >>> engine.recommend("ann", k=2).ids.tolist(), engine.recommend("ann", k=2, diversify=MMR(0.3)).ids.tolist()
    (['tea', 'green tea'], ['tea', 'cup'])
    """

    lambda_: float = 0.7
    pool: int | None = None

    def __post_init__(self) -> None:
        _check_number("lambda_", self.lambda_, 1.0)
        _check_count("pool", self.pool, 4096)


@dataclass(frozen=True, slots=True)
class DPP:
    """A determinantal point process, its most probable list by greedy choice (Chen, Zhang and Zhou 2018): relevance
    counts `theta`, the volume that the items' directions span the rest.

    Parameters
    ----------
    theta
        Between 0, diversity alone, and 0.99.
    pool
        As in `MMR`.

    >>> DPP()
    DPP(theta=0.7, pool=None)
    """

    theta: float = 0.7
    pool: int | None = None

    def __post_init__(self) -> None:
        _check_number("theta", self.theta, 0.99)
        _check_count("pool", self.pool, 4096)


@dataclass(frozen=True, slots=True)
class MaxPerGroup:
    """At most `n` items of each of the engine's groups (`Engine.set_groups`); items of no group are not limited. There
    are fewer results than asked for if the candidates are of too few groups.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "coffee", "cup"], [[3.0], [2.0], [1.0]])
    >>> engine.set_groups(["tea", "coffee"], ["drinks", "drinks"])
    >>> engine.recommend("ann", k=2, diversify=MaxPerGroup(1)).ids.tolist()
    ['tea', 'cup']
    """

    n: int = 1

    def __post_init__(self) -> None:
        _check_count("n", self.n, 2**31)


Diversity = MMR | DPP | MaxPerGroup


def _check_number(name: str, value: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not 0 <= value <= most or math.isnan(value):
        raise ValueError(f"{name} must be between 0 and {most:g}, not {value}")


def _check_count(name: str, value: int | None, most: int) -> None:
    if value is None and name == "pool":
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be between 1 and {most}, not {value}")

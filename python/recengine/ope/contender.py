"""A policy that is to be judged by a log: what it may be, and how it scores what was logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine import _core
from recengine.diversify import DPP, MMR, Diversity, MaxPerGroup
from recengine.engine import Engine
from recengine.explore import UCB, Greedy, Policy, ThompsonSampling, core_explore
from recengine.impressions import Impression

Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the policies that are compared, with what comes with it."""

    name: str
    policy: Policy
    diversify: Diversity | None
    engine: Engine | None
    features: tuple[str, ...]  # of the engine's items

    @property
    def learns(self) -> bool:
        """Whether it goes by what an engine knows of its uncertainty."""
        return isinstance(self.policy, (UCB, ThompsonSampling))

    @property
    def core(self) -> _core.Explore:
        """The policy, with the limit that holds for every slot; other diversity has narrowed the scores before."""
        return core_explore(self.policy, self.diversify if isinstance(self.diversify, MaxPerGroup) else None)

    def scores(self, row: Impression) -> Floats32:
        """Of the logged candidates; -inf for what it would not show."""
        if self.engine is None:
            return row.scores
        scores = self._ranked(row, self.engine)
        return self._narrowed(row, scores, self.engine) if isinstance(self.diversify, (MMR, DPP)) else scores

    def groups(self, row: Impression) -> Integers:
        """Of the logged candidates, where it limits them: as they were logged, else as its engine has them now."""
        if not isinstance(self.diversify, MaxPerGroup):
            return np.zeros(0, np.int64)
        if len(row.groups):
            return row.groups
        if self.engine is None:
            raise ValueError(
                f"{self.name!r}: impression {row.number} was logged without groups, since MaxPerGroup did not limit "
                "it: give (policy, MaxPerGroup(...), engine), whose groups count"
            )
        groups = np.zeros(len(row.candidates), np.int64)
        known = np.flatnonzero(np.isfinite(self._ranked(row, self.engine)))
        groups[known] = self.engine._core.groups_of(row.candidates[known].tolist())
        return groups

    def _ranked(self, row: Impression, engine: Engine) -> Floats32:
        """The engine's scores, for the logged user, or the visitor's session, and context."""
        if len(row.context) not in (0, len(self.features)):
            raise ValueError(
                f"{self.name!r}: impression {row.number} has a context of {len(row.context)} item features, the engine "
                f"has {list(self.features)}"
            )
        items = row.candidates.tolist()
        there = np.array([item is not None for item in items], dtype=bool)
        scores = np.full(len(items), -np.inf, np.float32)
        scores[there] = engine._core.ranking_scores(
            row.user, row.history.tolist(), [item for item in items if item is not None], row.context.tolist()
        )
        return scores

    def _narrowed(self, row: Impression, scores: Floats32, engine: Engine) -> Floats32:
        """What MMR or DPP leaves, as in `Engine.recommend`: a list for Greedy, else a pool to draw from."""
        diversify, slots = self.diversify, len(row.slate)
        assert isinstance(diversify, (MMR, DPP))
        known = np.flatnonzero(np.isfinite(scores))
        known = known[np.argsort(-scores[known], kind="stable")]
        pool = diversify.pool or max(2 * slots, len(known) // 2)
        kept = slots if isinstance(self.policy, Greedy) else max(slots, pool)
        explore = core_explore(self.policy, diversify)
        order = known[engine._core.diversified(row.candidates[known].tolist(), scores[known], explore, kept)]
        narrowed = np.full(len(scores), -np.inf, np.float32)
        narrowed[order] = -np.arange(len(order)) if isinstance(self.policy, Greedy) else scores[order]
        return narrowed


def contender(name: str, choice: Any) -> Contender:
    """As `compare` takes them: a policy, or a tuple of one, and a diversity, and an engine. TypeError for anything
    else, ValueError for what a log cannot judge."""
    policy, *rest = choice if isinstance(choice, tuple) and choice else (choice,)
    diversify: Any = None
    engine = None
    for part in rest:
        if isinstance(part, Engine) and engine is None:
            engine = part
        elif isinstance(part, (MMR, DPP, MaxPerGroup)) and diversify is None:
            diversify = part
        else:
            raise TypeError(
                f"{name!r} must be a policy, or a tuple of a policy, a diversity and an Engine, not one with {part!r}"
            )
    try:
        core_explore(policy, diversify)
    except TypeError as error:
        raise TypeError(f"{name!r}: {error}") from None
    kind = type(policy).__name__
    if isinstance(policy, (UCB, ThompsonSampling)) and engine is None:
        raise ValueError(
            f"{name!r}: {kind} goes by what an engine knows of its uncertainty, not by scores alone: give "
            f"({kind}(...), engine)"
        )
    if isinstance(policy, ThompsonSampling) and policy.samples == 0:
        raise ValueError(f"{name!r}: ThompsonSampling has no propensities in closed form: samples=n estimates them")
    if isinstance(diversify, (MMR, DPP)):
        way = type(diversify).__name__
        if isinstance(policy, UCB):
            raise ValueError(f"{name!r}: {way} reorders the bounds of UCB, which leaves no known propensities")
        if engine is None:
            raise ValueError(
                f"{name!r}: {way} goes by the items' rows, which a log does not hold: give ({kind}(...), {way}(...), "
                "engine)"
            )
    features = () if engine is None else tuple(engine.settings["item_features"])
    return Contender(name, policy, diversify, engine, features)

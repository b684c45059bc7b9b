"""Marginal propensities of what was logged: of an item at its slot, whatever is above it, for independent IPS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recengine.diversify import MaxPerGroup
from recengine.explore import Random, _core_policy, core_explore
from recengine.impressions import Impression

from .contender import Contender
from .estimate import Floats
from .lists import DRAWS, TOGETHER, Lists, Log

Settings = tuple[str, float, str, int]  # of what chose a list: policy, parameter, and what limits each slot


def settings_of(row: Impression) -> Settings:
    if row.diversity == "max_per_group":
        return row.policy, row.parameter, row.diversity, row.diversity_count
    # Before a policy that draws, MMR and DPP leave a pool, which is what was logged as candidates.
    return row.policy, row.parameter, row.diversity if row.policy == "greedy" else "none", 0


def settings_of_contender(contender: Contender) -> Settings | None:
    """Those of the rows that it would have drawn from the same distribution; None: there are none."""
    if contender.engine is not None:
        return None
    name, parameter, _, _ = _core_policy(contender.policy)
    limit = contender.diversify
    return (
        (name, parameter, "max_per_group", limit.n) if isinstance(limit, MaxPerGroup) else (name, parameter, "none", 0)
    )


@dataclass(frozen=True, slots=True)
class Marginals:
    """Propensities of the logged items at their slots, whatever was above them, slot after slot.

    Attributes
    ----------
    shares
        NaN where they cannot be known.
    of
        The places of the slots that each distribution chose.
    unknown
        The first impression without, or None.
    """

    shares: Floats
    of: dict[Settings, npt.NDArray[np.intp]]
    unknown: Impression | None


def logged_marginals(log: Log, seed: int) -> Marginals:
    """By lists that the policies that ran draw once more from the logged candidates.

    What is averaged is the propensity of the logged item below the slots of each list drawn, and below those that were
    logged: as if its list were one of all of them, any of which the item may have been chosen below (the balance
    heuristic; Veach and Guibas 1995). So importance weights have the right mean however few are drawn, but for items
    that all of the lists have above that slot.
    """
    conditional = log.shown[log.is_slot]
    shares = conditional.copy()
    starts = np.cumsum(log.lengths) - log.lengths
    found: dict[Settings, list[int]] = {}
    for number, row in enumerate(log.rows):
        found.setdefault(settings_of(row), []).append(number)
    of: dict[Settings, npt.NDArray[np.intp]] = {}
    unknown: list[int] = []
    for settings, numbers in found.items():
        of[settings] = np.concatenate([starts[one] + np.arange(log.lengths[one]) for one in numbers])
        for first in range(0, len(numbers), TOGETHER):
            some = numbers[first : first + TOGETHER]
            slots = np.concatenate([starts[one] + np.arange(log.lengths[one]) for one in some])
            drawn = _drawn_marginals([log.rows[one] for one in some], seed)
            if drawn is None:
                below = slots[~np.isin(slots, starts[some])]  # the first slot is below nothing
                shares[below] = np.nan
                unknown += some if len(below) else []
            else:
                shares[slots] = drawn(conditional[slots])
    return Marginals(shares, of, log.rows[min(unknown)] if unknown else None)


def _drawn_marginals(rows: Sequence[Impression], seed: int) -> Callable[[Floats], Floats] | None:
    """Of lists that one distribution chose: from the propensities given the slots above. None: it is not known."""
    row = rows[0]
    if row.policy == "greedy":  # MMR and DPP by themselves, too: a function of the candidates
        return lambda conditional: conditional
    try:
        policy, diversify = row.explore, row.diversify
    except ValueError:  # a policy from elsewhere, or settings that were not logged yet
        return None
    if row.policy in ("thompson", "ucb"):  # which go by more than was logged
        return None
    is_limited = isinstance(diversify, MaxPerGroup)
    if is_limited and any(len(one.groups) == 0 for one in rows):
        return None
    lists = Lists(rows)
    groups = np.concatenate([one.groups for one in rows]) if is_limited else np.zeros(0, np.int64)
    # The pool that MMR or DPP left is what was logged as candidates.
    core = core_explore(policy, diversify if is_limited else None)
    drawn = core.marginals(
        lists.ends, lists.scores, groups, lists.slot_ends, lists.slate, lists.numbers, DRAWS, ~seed % 2**63
    )
    if isinstance(policy, Random) and not is_limited:
        return lambda conditional: drawn  # exact
    return lambda conditional: (conditional + DRAWS * drawn) / (DRAWS + 1)

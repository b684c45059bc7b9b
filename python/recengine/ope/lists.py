"""A log as columns, and how policies see its lists: many impressions at a time, in the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recengine.diversify import MaxPerGroup
from recengine.explore import Random, _core_policy, core_explore
from recengine.impressions import Impression, ImpressionLog

from .contender import Contender
from .estimate import Floats

TOGETHER = 4_096  # impressions that are in memory as columns
DRAWS = 100  # lists that marginal propensities are estimated from

# Of candidates, by their logged scores and places: (n, features).
Features = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], Floats]


class Lists:
    """Some impressions as the core takes them: their candidates, and their slots, one after another."""

    def __init__(self, rows: Sequence[Impression]) -> None:
        self.rows = rows
        counts = np.array([len(row.candidates) for row in rows])
        self.ends = np.cumsum(counts)
        self.slot_ends = np.cumsum([len(row.slate) for row in rows])
        self.scores = np.concatenate([row.scores for row in rows])
        self.slate = np.concatenate([row.slate for row in rows])
        self.numbers = np.array([row.number for row in rows], dtype=np.int64)
        self.places = np.arange(len(self.scores)) - np.repeat(self.ends - counts, counts)
        self.shown = self.slate + np.repeat(self.ends - counts, [len(row.slate) for row in rows])


class Log:
    """What was logged, checked. ``(n, k)``: a row an impression, a column a slot; behind the end of shorter lists
    propensities are 1 and rewards 0.
    """

    def __init__(self, log: ImpressionLog) -> None:
        log.check()
        self.rows = rows = list(log)
        self.lengths = np.array([len(row.slate) for row in rows])
        self.is_slot = np.arange(int(self.lengths.max(initial=0))) < self.lengths[:, None]
        logs = np.concatenate([row.log_propensities for row in rows])
        wrong = ~np.isfinite(logs)
        if wrong.any():
            row = rows[int(np.repeat(np.arange(len(rows)), self.lengths)[np.argmax(wrong)])]
            raise ValueError(
                f"impression {row.number} was chosen by {row.policy!r} with diversity {row.diversity!r} and has no "
                f"propensities: {row.log_propensities}"
            )
        self.shown = self.by_slot(np.exp(np.minimum(logs, 0.0)), 1.0)
        rewards = np.concatenate([row.rewards for row in rows]).astype(np.float64)
        self.rewards = self.by_slot(np.where(np.isnan(rewards), 0.0, rewards), 0.0)

    def chunks(self) -> Iterator[Lists]:
        """All of it, in order."""
        for first in range(0, len(self.rows), TOGETHER):
            yield Lists(self.rows[first : first + TOGETHER])

    def by_slot(self, values: Floats, rest: float) -> Floats:
        """Values of slots, one after another, as (n, k)."""
        out = np.full(self.is_slot.shape, rest)
        out[self.is_slot] = values
        return out


@dataclass(frozen=True, slots=True)
class Views:
    """How a policy sees the slots of all lists, one after another.

    Attributes
    ----------
    target
        How probable it makes what was shown there, given what was shown above it.
    marginals
        The same, whatever is above it; empty for lists of one.
    expected, ahead
        (slots, features): mean features of what it shows there, given what was shown above it, and below its own best
        candidates. A reward model that is linear in the features tells from them what the slot earns.
    """

    target: Floats
    marginals: Floats
    expected: Floats
    ahead: Floats


def views_of(log: Log, contender: Contender, features: Features, seed: int) -> Views:
    """Of all lists."""
    draws = DRAWS if log.is_slot.shape[1] > 1 else 0
    parts = []
    for lists in log.chunks():
        scores = lists.scores
        if contender.engine is not None:
            scores = np.concatenate([contender.scores(row) for row in lists.rows])
        groups = np.concatenate([contender.groups(row) for row in lists.rows])
        told = features(lists.scores, lists.places)
        if contender.learns:
            parts += _by_engine(lists, contender, scores, groups, told, draws, seed)
        else:
            parts.append(
                contender.core.judge(
                    lists.ends, scores, groups, told, lists.slot_ends, lists.slate, lists.numbers, draws, seed
                )
            )
    return Views(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _by_engine(
    lists: Lists,
    contender: Contender,
    scores: npt.NDArray[np.float32],
    groups: npt.NDArray[np.int64],
    told: Floats,
    draws: int,
    seed: int,
) -> list[tuple[Floats, Floats, Floats, Floats]]:
    """List by list, by what the contender's engine knows of its uncertainty about each user."""
    assert contender.engine is not None
    found, begin = [], 0
    for row, end in zip(lists.rows, lists.ends.tolist(), strict=True):
        own = slice(begin, end)
        items = row.candidates[np.isfinite(scores[own])].tolist()
        drawn = (seed * 1_000_003 + row.number) % 2**63
        limits = groups[own] if len(groups) else groups
        found.append(
            contender.engine._core.judge(
                row.user, items, scores[own], limits, told[own], row.slate, contender.core, draws, drawn
            )
        )
        begin = end
    return found


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

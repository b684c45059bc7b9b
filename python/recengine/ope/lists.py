"""A log as columns, and how policies see its lists: many impressions at a time, in the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recengine.impressions import Impression, ImpressionLog

from .contender import Contender
from .estimate import Floats

TOGETHER = 4_096  # impressions that are in memory as columns
DRAWS = 100  # lists that marginal propensities are estimated from (marginals.py)

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

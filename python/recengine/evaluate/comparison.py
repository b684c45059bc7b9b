"""Baselines over the stream that the engine went through, by the same rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from recengine.baselines import Baseline, make
from recengine.baselines.base import NOTHING
from recengine.baselines.with_ids import check_fresh

from .columns import Columns

Compared: TypeAlias = "Sequence[str] | Mapping[str, Baseline]"

ALWAYS = ("popularity", "popularity_7d")  # run beside the engine, compared or not
_EVENTS_PER_REPORT = 1000


def chosen(compare: Compared) -> dict[str, Baseline]:
    """The baselines to run, each new and by its name; those that always run are left out.

    Raises ValueError for an unknown name, a baseline that has learned before or goes by the name of one that always
    runs, TypeError for something that is no baseline.
    """
    if isinstance(compare, str):
        raise TypeError(f"compare must be a sequence of names or a mapping from names to baselines, got {compare!r}")
    if not isinstance(compare, Mapping):
        made = {name: make(name) for name in compare}
        return {name: baseline for name, baseline in made.items() if name not in ALWAYS}
    for name, baseline in compare.items():
        check_fresh(f"compare[{name!r}]", baseline)
        if name in ALWAYS:
            raise ValueError(f"{name!r} is the name of a baseline that always runs")
    if len({id(baseline) for baseline in compare.values()}) < len(compare):
        raise ValueError("compare has one baseline under two names")
    return dict(compare)


class BaselineRun:
    """One baseline over a stream. ``ranks[:queries]`` are those of the positive events from ``first`` on, as far as it
    came: a rank is complete before the counter moves, so that an interrupt leaves a consistent record."""

    def __init__(self, baseline: Baseline, columns: Columns, *, first: int, k: int, exclude_seen: bool) -> None:
        self._baseline = baseline
        self._columns = columns
        self._first = first
        self._k = k
        self._exclude_seen = exclude_seen
        self.ranks = np.zeros(sum(value > 0 for value in columns.values[first:]), dtype=np.int32)
        self.queries = 0

    def run(self, tell: Callable[[int], object]) -> None:
        """Query and learn event by event; ``tell`` is told now and then how many are done."""
        baseline, columns, k = self._baseline, self._columns, self._k
        seen: defaultdict[int, set[int]] = defaultdict(set)
        rows = zip(columns.user_codes, columns.codes, columns.values, columns.ages, strict=True)
        for number, (user, item, value, age) in enumerate(rows):
            if number >= self._first and value > 0:
                self.ranks[self.queries] = baseline.rank(user, item, k, seen[user] if self._exclude_seen else NOTHING)
                self.queries += 1
            baseline.learn(user, item, value, age)
            if self._exclude_seen:
                seen[user].add(item)
            if (number + 1) % _EVENTS_PER_REPORT == 0:
                tell(number + 1)

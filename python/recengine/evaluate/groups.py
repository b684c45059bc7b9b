"""Fairness: one metric per user group, and how far the groups lie apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

from .metric import Metric


class Grouped:
    """Any metric, also by group.

    ``factory`` makes one empty metric; it is called once for the metric over everybody and once per group.

    >>> from recengine.evaluate import HitRate
    >>> metric = Grouped(lambda: HitRate(k=1))
    >>> metric.update("new", ["a"], {"a"})
    >>> metric.update("old", ["a"], {"a"})
    >>> metric.update("old", ["a"], {"b"})
    >>> metric.values, metric.gap
    ({'new': 1.0, 'old': 0.5}, 0.5)
    """

    def __init__(self, factory: Callable[[], Metric]) -> None:
        self._factory = factory
        self._overall = factory()
        self._groups: dict[Hashable, Metric] = {}

    def update(self, group: Hashable, *args: Any, **kwargs: Any) -> None:
        """Count one observation of a member of ``group``; the other arguments are those of the metric."""
        # First the overall metric: if it refuses, no group has been made or changed.
        self._overall.update(*args, **kwargs)
        if group not in self._groups:
            self._groups[group] = self._factory()
        self._groups[group].update(*args, **kwargs)

    @property
    def value(self) -> float:
        """The metric over all observations, whatever their group."""
        return self._overall.value

    @property
    def values(self) -> dict[Hashable, float]:
        """The metric of each group, in order of first appearance."""
        return {group: metric.value for group, metric in self._groups.items()}

    @property
    def gap(self) -> float:
        """The largest difference between two groups: highest value minus lowest. Groups without a value (nan) are
        left out; 0 for a single group, nan for none."""
        return largest_gap(list(self.values.values()))

    def __repr__(self) -> str:
        return f"<Grouped {self._overall!r} in {len(self._groups)} groups, gap {self.gap:.4f}>"


def largest_gap(values: list[float]) -> float:
    """Highest minus lowest of the values that are not nan; nan if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return max(known) - min(known) if known else math.nan

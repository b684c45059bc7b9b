"""Events as the columns of plain Python objects that a prequential run goes through, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from recengine.events import Events

Row: TypeAlias = tuple[Any, Any, int, float, float, float | None]


@dataclass(frozen=True)
class Columns:
    """One entry per event. ``codes`` number the distinct items by first appearance, ``ages`` are seconds since the
    first event (0 without timestamps), and values are 1 where the events have none."""

    users: list[Any]
    items: list[Any]
    codes: list[int]
    distinct_items: int
    values: list[float]
    ages: list[float]
    timestamps: list[float] | None

    @classmethod
    def of(cls, events: Events) -> Columns:
        """The columns of ``events``; ValueError if a number is not finite or the events are out of time order."""
        values, timestamps = events.values, events.timestamps
        if values is not None:
            _check_finite("value", values)
        if timestamps is not None:
            _check_finite("timestamp", timestamps)
            _check_order(timestamps)
        items = _listed(events.items)
        codes: dict[Any, int] = {}
        return cls(
            users=_listed(events.users),
            items=items,
            codes=[codes.setdefault(item, len(codes)) for item in items],
            distinct_items=len(codes),
            values=[1.0] * len(items) if values is None else values.tolist(),
            ages=[0.0] * len(items) if timestamps is None else (timestamps - timestamps[:1]).tolist(),
            timestamps=None if timestamps is None else timestamps.tolist(),
        )

    def rows(self, part: slice) -> Iterator[Row]:
        """Part of the events as (user, item, code, value, age, timestamp)."""
        times = [None] * len(self.users[part]) if self.timestamps is None else self.timestamps[part]
        columns = (self.users[part], self.items[part], self.codes[part], self.values[part], self.ages[part])
        return zip(*columns, times, strict=True)


def _listed(ids: Any) -> list[Any]:
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)


def _check_finite(name: str, column: np.ndarray[Any, Any]) -> None:
    finite = np.isfinite(column)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"row {row}: {name} must be finite, got {column.item(row)}")


def _check_order(timestamps: np.ndarray[Any, Any]) -> None:
    earlier = timestamps[1:] < timestamps[:-1]
    if earlier.any():
        row = int(np.argmax(earlier)) + 1
        before, after = timestamps.item(row - 1), timestamps.item(row)
        raise ValueError(f"events must be in time order: row {row} ({after}) is earlier than row {row - 1} ({before})")

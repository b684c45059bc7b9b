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
    """One entry per event. ``codes`` number the distinct items by first appearance, ``user_codes`` the users; ``ages``
    are seconds since the first event (0 without timestamps), and values are 1 where the events have none."""

    users: list[Any]
    user_codes: list[int]
    items: list[Any]
    codes: list[int]
    distinct_items: int
    values: list[float]
    ages: list[float]
    timestamps: list[float] | None

    @classmethod
    def of(cls, events: Events) -> Columns:
        """The columns of ``events``, which are checked."""
        values, timestamps = events.values, events.timestamps
        items, codes = listed(events.items), numbered(events.items)
        return cls(
            users=listed(events.users),
            user_codes=numbered(events.users),
            items=items,
            codes=codes,
            distinct_items=max(codes, default=-1) + 1,
            values=[1.0] * len(items) if values is None else values.tolist(),
            ages=[0.0] * len(items) if timestamps is None else (timestamps - timestamps[:1]).tolist(),
            timestamps=None if timestamps is None else timestamps.tolist(),
        )

    def rows(self, part: slice) -> Iterator[Row]:
        """Part of the events as (user, item, code, value, age, timestamp)."""
        times = [None] * len(self.users[part]) if self.timestamps is None else self.timestamps[part]
        columns = (self.users[part], self.items[part], self.codes[part], self.values[part], self.ages[part])
        return zip(*columns, times, strict=True)


def check(events: Events) -> None:
    """ValueError if a number is not finite or the events are out of time order, naming the first such row."""
    if events.values is not None:
        _check_finite("value", events.values)
    if events.timestamps is not None:
        _check_finite("timestamp", events.timestamps)
        _check_order(events.timestamps)


def numbered(ids: Any) -> list[int]:
    """The number of each id, by first appearance."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in listed(ids)]


def listed(ids: Any) -> list[Any]:
    """A column of ids as plain Python."""
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

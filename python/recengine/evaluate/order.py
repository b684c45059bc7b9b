"""The order of events that share their user and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from .columns import numbered

if TYPE_CHECKING:
    from recengine.events import Events

Order: TypeAlias = Literal["file", "shuffled"]


def in_order(events: Events, order: Order, seed: int) -> Events:
    """The events as they are ("file"), or with those of equal user and time shuffled among their places ("shuffled").

    Lines of one invoice share a time, and the order in which a file lists them may tell what comes next: by product
    number, by shelf. A recommender that is asked live never sees that order. Which events are at which time, and which
    places are whose, stays as it is.

    Raises
    ------
    ValueError
        For another order, a negative seed, or "shuffled" for events without times.

    Examples
    --------
    >>> from recengine.events import Events
    >>> events = Events(["ann"] * 3 + ["bob"], list("abcd"), np.array([1.0, 1.0, 1.0, 1.0]))
    >>> in_order(events, "shuffled", seed=0).items
    ['c', 'b', 'a', 'd']
    """
    if order == "file":
        return events
    if order != "shuffled":
        raise ValueError(f"order must be 'file' or 'shuffled', got {order!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"order_seed must be an int, got {seed!r}")
    if seed < 0:
        raise ValueError(f"order_seed must not be negative, got {seed}")
    if events.timestamps is None:
        raise ValueError("events without times cannot be shuffled within equal user and time")
    users = np.array(numbered(events.users), dtype=np.int64)
    draws = np.random.default_rng(seed).random(len(events))
    places = np.lexsort((events.timestamps, users))  # of each user's times, in order, as lexsort is stable
    drawn = np.lexsort((draws, events.timestamps, users))
    rows = np.empty(len(events), dtype=np.intp)
    rows[places] = drawn
    return events.take(rows)

"""Splits of events into a part to learn from and a part to be judged by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from .columns import check, numbered

if TYPE_CHECKING:
    from recengine.events import Events

By: TypeAlias = Literal["time", "user", "random"]


def split(events: Events, share: float = 0.2, *, by: By = "time", seed: int = 0) -> tuple[Events, Events]:
    """Split events into (train, test), each in the order the events had.

    Parameters
    ----------
    events
        In time order.
    share
        Of the test part, in [0, 1]. Of n events, round(share * n) are for the test, a half rounded down.
    by
        "time" takes the last share of all events: the only split that never learns from the future. "user" takes the
        last share of each user's events, "random" a random share of each user's, as is usual in papers; in both, what
        other users did later is known in training.
    seed
        Of "random".

    Raises
    ------
    ValueError
        For a share outside [0, 1], another ``by``, or events out of time order.

    Examples
    --------
    >>> from recengine.events import Events
    >>> train, test = split(Events(["ann", "ann", "bob", "ann"], [1, 2, 3, 4]), 0.34, by="user")
    >>> train.items, test.items
    ([1, 2, 3], [4])
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share!r}")
    if by not in ("time", "user", "random"):
        raise ValueError(f"by must be 'time', 'user' or 'random', got {by!r}")
    check(events)
    tested = np.zeros(len(events), dtype=np.bool_)
    if by == "time":
        tested[len(events) - _rounded(share * len(events)) :] = True
    else:
        users = np.array(numbered(events.users), dtype=np.intp)
        draws = np.random.default_rng(seed).random(len(events)) if by == "random" else np.arange(len(events))
        rows = np.lexsort((draws, users))
        counts = np.bincount(users)
        for end, count in zip(np.cumsum(counts).tolist(), counts.tolist(), strict=True):
            tested[rows[end - _rounded(share * count) : end]] = True
    return events.take(np.flatnonzero(~tested)), events.take(np.flatnonzero(tested))


def _rounded(number: float) -> int:
    return math.ceil(number - 0.5)

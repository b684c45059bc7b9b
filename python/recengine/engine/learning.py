"""Learning from events."""

from __future__ import annotations

import math
import operator
from typing import Any, Literal

from recengine.columns import id_column, number_column, seconds_column
from recengine.engine.arguments import Id, finite_seconds, offsets_of, source_of
from recengine.engine.base import Base


class Learning(Base):
    """Learning from events, one or many."""

    __slots__ = ()

    def learn_one(
        self,
        user: Id,
        item: Id,
        value: float = 1.0,
        weight: float = 1.0,
        timestamp: Any = None,
        *,
        source: str | None = None,
        offset: int | None = None,
    ) -> None:
        """Learns from one event; later calls, from any thread, see it.

        Parameters
        ----------
        user, item
            Ids, `int` (64-bit) or `str` (at most 512 bytes of UTF-8); new ones are added.
        value
            The rating (squared; within `max_value`), the label 0 or 1 (logistic), or for softmax and bpr a positive
            number: the item was chosen, or a negative one: it was disliked, and the next ranking has it and what is
            like it further down.
        weight
            At least 0 and at most `max_weight`; scales the step. 0 only records what the user did.
        timestamp
            Seconds, `datetime64` or `datetime`; omitted, it is the latest one seen, or 0 if there was none yet. Within
            1e15, and not further ahead of this machine's clock than `max_ahead`.
        source, offset
            Where the event comes from, and its place there, an `int` (64-bit): one at or below the last that was taken
            from this source is skipped, so that a source may deliver again what it does not know to have arrived.
            Offsets are part of the state (`save`, `open`) and in ``stats()["sources"]``. Of one source, one thread at
            a time delivers. There may be 65,536 sources; none is ever forgotten.

        Raises
        ------
        ValueError, TypeError
            Before anything changes: for a value, weight, timestamp, id or offset that is not valid, or a new id that
            `max_users` or `max_items` leave no room for.
        OSError
            If the engine has a folder (`open`) and the event cannot be logged: it is not learned.

        Examples
        --------
        >>> engine = Engine(objective="squared", dim=8)
        >>> engine.learn_one("ann", "tea", 4.0, timestamp=1.7e9)
        >>> engine.stats()["events"]
        1
        """
        if source is not None or offset is not None:
            moment = math.nan if timestamp is None else finite_seconds(timestamp)
            name, place = source_of(source, offset)
            self._core.learn_one(user, item, value, weight, moment, name, operator.index(place))
        elif timestamp is None:
            self._core.learn_one(user, item, value, weight)
        else:
            self._core.learn_one(user, item, value, weight, finite_seconds(timestamp))

    def learn_many(
        self,
        users: Any,
        items: Any,
        values: Any = None,
        timestamps: Any = None,
        weights: Any = None,
        threads: int = 1,
        *,
        source: str | None = None,
        offset: Any = None,
        on_bad: Literal["raise", "skip"] = "raise",
    ) -> None:
        """Learns from a batch of events, in order: the same, bit for bit, as `learn_one` on each with ``threads=1``.

        Parameters
        ----------
        users, items
            Columns of n ids: lists, numpy arrays, pandas or polars columns, or anything with ``__arrow_c_stream__``.
        values, timestamps, weights
            Columns of n, each as in `learn_one`; omitted: 1, the latest timestamp seen, 1.
        threads
            Threads that learn at once, without locks, at most `Engine.threads`. The events of one user stay in order.
        source, offset
            As in `learn_one`: the offset of the first event, the others following one by one, or a column of n that
            ascend.
        on_bad
            "raise": one event that is not valid, and none is learned. "skip": the others are learned, as if the bad
            ones were not there (their offsets are taken all the same). ``stats()["bad_events"]`` counts them by what is
            bad: "value", "weight", "timestamp" (also one too far ahead), "user" or "item" (too long, no UTF-8, missing,
            beyond 64 bits, or of another kind than the engine's; of a list or an array of objects, the first id's),
            "max_users" or "max_items" (a new one that there is no room for).

        Raises
        ------
        ValueError, TypeError
            Before the first event, if any is not valid. With ``on_bad="skip"`` for columns of unequal length, columns
            that are of another type as a whole, and offsets.
        OSError
            If the engine has a folder (`open`) and an event cannot be logged; the message says how many were learned:
            the first ones.
        KeyboardInterrupt
            On Ctrl-C, between events; the message says how many were applied (with one thread, or a `source`: the first
            ones, and no others' offsets are taken).

        Examples
        --------
        >>> engine = Engine(objective="bpr", history=0, dim=8)
        >>> engine.learn_many([1, 2, 1], [10, 10, 11], timestamps=np.array([0.0, 1.0, 2.0]))
        >>> len(engine.users), len(engine.items)
        (2, 2)
        >>> engine.learn_many([1, None], [10, 12], weights=[-1.0, 1.0], on_bad="skip")
        >>> {reason: count for reason, count in engine.stats()["bad_events"].items() if count}
        {'weight': 1, 'user': 1}
        """
        if on_bad not in ("raise", "skip"):
            raise ValueError(f"on_bad must be 'raise' or 'skip', not {on_bad!r}")
        skip = on_bad == "skip"
        user_column = id_column(users, gaps=skip)
        name, offsets = None, None
        if source is not None or offset is not None:
            name, offset = source_of(source, offset)
            offsets = offsets_of(offset, len(user_column))
        self._core.learn_many(
            user_column,
            id_column(items, gaps=skip),
            number_column(values, gaps=skip),
            None if timestamps is None else seconds_column(timestamps, gaps=skip),
            number_column(weights, gaps=skip),
            threads,
            name,
            offsets,
            skip,
        )

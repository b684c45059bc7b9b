"""The order of simultaneous events, where sessions begin, and splits."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recengine.evaluate import split
from recengine.evaluate.order import in_order
from recengine.evaluate.sessions import check_gap, first_of_session
from recengine.events import Events

ROWS = st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 3)), max_size=30)


def made(rows: list[tuple[str, int]]) -> Events:
    """In time order, each with an item, a value and a row number of its own."""
    rows = sorted(rows, key=lambda row: row[1])
    return Events(
        [user for user, _ in rows],
        np.arange(len(rows), dtype=np.int64),
        np.array([float(time) for _, time in rows]),
        np.arange(len(rows), dtype=np.float32),
    )


@given(rows=ROWS, seed=st.integers(0, 3))
def test_shuffling_moves_events_only_within_their_user_and_time(rows: list[tuple[str, int]], seed: int) -> None:
    events = made(rows)
    shuffled = in_order(events, "shuffled", seed)
    assert in_order(events, "file", seed) is events
    assert list(shuffled.users) == list(events.users)
    assert shuffled.timestamps is not None
    assert events.timestamps is not None
    assert shuffled.values is not None
    assert shuffled.timestamps.tolist() == events.timestamps.tolist()
    assert sorted(shuffled.items) == list(range(len(events)))
    assert shuffled.values.tolist() == list(shuffled.items)
    for place, row in enumerate(shuffled.items):
        assert events.users[int(row)] == events.users[place]
        assert events.timestamps[int(row)] == events.timestamps[place]
    again = in_order(events, "shuffled", seed)
    assert list(again.items) == list(shuffled.items)


def test_every_order_of_an_invoice_is_as_likely() -> None:
    events = Events(["u", "v", "u", "u"], list("axbc"), np.zeros(4))
    counts = Counter(tuple(in_order(events, "shuffled", seed).items) for seed in range(3000))
    assert len(counts) == 6
    assert all(order[1] == "x" for order in counts)
    assert all(400 < count < 600 for count in counts.values())


@pytest.mark.parametrize(
    ("order", "seed", "error", "message"),
    [
        ("reversed", 0, ValueError, "order must be 'file' or 'shuffled', got 'reversed'"),
        ("shuffled", -1, ValueError, "order_seed must not be negative, got -1"),
        ("shuffled", 1.5, TypeError, "order_seed must be an int, got 1.5"),
        ("shuffled", True, TypeError, "order_seed must be an int, got True"),
    ],
)
def test_refuses_orders(order: Any, seed: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        in_order(Events(["u"], ["a"], np.zeros(1)), order, seed)


def test_no_shuffling_without_times() -> None:
    with pytest.raises(ValueError, match="without times cannot be shuffled"):
        in_order(Events(["u"], ["a"]), "shuffled", 0)


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40),
    gap=st.sampled_from([0.0, 1.0, 3.5, math.inf]),
)
def test_sessions_one_event_after_the_other(rows: list[tuple[int, int]], gap: float) -> None:
    users, times = np.array([user for user, _ in rows], dtype=np.intp), np.cumsum([float(pause) for _, pause in rows])
    last: dict[int, float] = {}
    expected = []
    for user, time in zip(users.tolist(), times.tolist(), strict=True):
        expected.append(user not in last or time - last[user] > gap)
        last[user] = time
    assert first_of_session(users, times, gap).tolist() == expected
    assert not first_of_session(users, None, gap).any()


@pytest.mark.parametrize("gap", [-1.0, math.nan])
def test_refuses_gaps(gap: float) -> None:
    with pytest.raises(ValueError, match="session_gap must not be negative"):
        check_gap(gap)


@given(rows=ROWS, share=st.sampled_from([0.0, 0.2, 0.5, 1.0]), by=st.sampled_from(["time", "user", "random"]))
def test_a_split_keeps_every_event_once_and_in_order(rows: list[tuple[str, int]], share: float, by: Any) -> None:
    events = made(rows)
    train, test = split(events, share, by=by)
    assert sorted([*train.items, *test.items]) == list(range(len(events)))
    for part in (train, test):
        assert list(part.items) == sorted(part.items)
        assert list(part.users) == [events.users[int(row)] for row in part.items]
    if by == "time":
        assert len(test) == math.ceil(share * len(events) - 0.5)
        assert not len(test) or list(test.items) == list(range(len(train), len(events)))
    else:
        for user in set(events.users):
            own = [int(row) for row in range(len(events)) if events.users[row] == user]
            tested = [int(row) for row in test.items if events.users[int(row)] == user]
            assert len(tested) == math.ceil(share * len(own) - 0.5)
            assert by == "random" or tested == own[len(own) - len(tested) :]


def test_a_random_split_depends_on_its_seed_only() -> None:
    events = Events(["u"] * 50, list(range(50)))
    parts = [list(split(events, 0.5, by="random", seed=seed)[1].items) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize(
    ("events", "options", "message"),
    [
        (Events(["u"], ["a"]), {"share": 1.5}, r"share must be in \[0, 1\], got 1.5"),
        (Events(["u"], ["a"]), {"share": math.nan}, "nan"),
        (Events(["u"], ["a"]), {"by": "item"}, "by must be 'time', 'user' or 'random', got 'item'"),
        (Events(["u", "u"], ["a", "b"], np.array([2.0, 1.0])), {}, r"row 1 \(1.0\) is earlier than row 0 \(2.0\)"),
    ],
)
def test_refuses_splits(events: Events, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(events, **options)

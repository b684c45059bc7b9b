"""That an engine with default settings follows what changes: a popular wave passes and leaves, old users come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recengine import Engine

Ints = NDArray[np.int64]
Stream = tuple[Ints, Ints, NDArray[np.float64]]  # users, items, timestamps

GROUPS, GROUP_ITEMS, USERS, DAY = 8, 15, 160, 86_400.0
WAVE = GROUPS * GROUP_ITEMS  # an item of its own


def group_of(user: Ints) -> Ints:
    return user % GROUPS


def stream(rng: np.random.Generator, first_day: float, days: float, users: Ints, wave: float = 0) -> Stream:
    """Each user's sittings of four events in the user's group (one event in ten anywhere), three a week; the share
    `wave` of all events goes to one item."""
    sittings = int(len(users) * days * 3 / 7)
    who = np.repeat(rng.choice(users, sittings), 4)
    when = np.repeat(np.sort(rng.uniform(0, days * DAY, sittings)), 4) + np.tile(np.arange(4) * 60.0, sittings)
    group = np.where(rng.random(len(who)) < 0.9, group_of(who), rng.integers(0, GROUPS, len(who)))
    what = group * GROUP_ITEMS + rng.integers(0, GROUP_ITEMS, len(who))
    what[rng.random(len(who)) < wave] = WAVE
    order = np.argsort(when, kind="stable")
    return who[order], what[order], first_day * DAY + when[order]


def learn(engine: Engine, events: Stream) -> None:
    users, items, timestamps = events
    engine.learn_many(users, items, timestamps=timestamps, threads=1)


def share(engine: Engine, users: Ints, wanted: Callable[[Ints, Any], Any]) -> float:
    """Of the first ten for each user, those that are wanted."""
    ids = engine.recommend(users, k=10).ids
    return float(np.mean(wanted(users[:, None], ids)))


def own(users: Ints, ids: Any) -> Any:
    return (ids // GROUP_ITEMS == group_of(users)) & (ids != WAVE)


def has_wave(_: Ints, ids: Any) -> Any:
    return (ids == WAVE).any(axis=1)


def test_a_popular_wave_passes_and_leaves() -> None:
    rng = np.random.default_rng(5)
    everybody = np.arange(USERS)
    engine = Engine(seed=3)
    learn(engine, stream(rng, 0, 30, everybody))
    before = share(engine, everybody, own)
    learn(engine, stream(rng, 30, 4, everybody, wave=0.5))
    assert share(engine, everybody, has_wave) > 0.5  # it is what most do
    learn(engine, stream(rng, 34, 20, everybody))
    assert share(engine, everybody, has_wave) < 0.1
    assert share(engine, everybody, own) > 0.97 * before


def test_old_users_come_back_to_their_tastes() -> None:
    rng = np.random.default_rng(6)
    gone, staying = np.arange(USERS // 4), np.arange(USERS // 4, USERS)
    engine = Engine(seed=3)
    learn(engine, stream(rng, 0, 30, np.arange(USERS)))
    before = share(engine, gone, own)
    learn(engine, stream(rng, 30, 180, staying))
    after = share(engine, gone, own)
    assert before > 0.9
    assert after > 0.97 * before
    learn(engine, stream(rng, 210, 2, gone))
    assert share(engine, gone, own) > 0.97 * before

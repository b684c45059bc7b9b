"""Streams with clocks of their own: the default engine is above popularity in every tenth of each, from early on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine
from recengine.evaluate import prequential
from recengine.events import Events

DAY = 86400.0
EVENTS = 12_000

Stream = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def drifting(life: float, days: float, users: int, items: int = 3000, topics: int = 1) -> Stream:
    """Items are born all the time and fade with a half-life; `users` come back, each with tastes for some topics."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, days * DAY, EVENTS))
    born, charm = rng.uniform(-2 * life, days * DAY, items), rng.pareto(1.2, items) + 0.1
    topic, tastes = rng.integers(0, topics, items), rng.dirichlet(np.full(topics, 0.3), users)
    who = rng.permutation(EVENTS) if users >= EVENTS else rng.integers(0, users, EVENTS)
    what = np.empty(EVENTS, dtype=np.int64)
    for first in range(0, EVENTS, 100):
        age = times[first] - born
        fresh = np.flatnonzero(age > 0)
        fresh = fresh[np.argsort(-charm[fresh] * 2.0 ** (-age[fresh] / life))[:400]]
        weights = charm[fresh] * 2.0 ** (-age[fresh] / life)
        for event in range(first, min(first + 100, EVENTS)):
            shares = weights * (0.1 + tastes[who[event] % users][topic[fresh]])
            what[event] = fresh[np.searchsorted(shares.cumsum() / shares.sum(), rng.random())]
    return who, what, times


def sessions() -> Stream:
    """Carts of a dozen items in any order, from one of thirty themes: hardly anything is bought twice by one user."""
    rng = np.random.default_rng(1)
    users: list[int] = []
    items: list[int] = []
    times: list[float] = []
    now = 0.0
    charm = 1 / np.arange(1, 101) ** 0.9
    while len(users) < EVENTS:
        now += rng.exponential(900.0)
        cart = int(rng.integers(30)) * 100 + rng.choice(100, 12, replace=False, p=charm / charm.sum())
        users += [int(rng.integers(400))] * 12
        items += cart.tolist()
        times += [now] * 12
    return np.array(users[:EVENTS]), np.array(items[:EVENTS]), np.array(times[:EVENTS])


STREAMS: dict[str, Any] = {
    "strangers, items of two days": lambda: drifting(2 * DAY, 30, EVENTS),
    "strangers, items of an hour": lambda: drifting(DAY / 24, 5, EVENTS),
    "readers, news of half a day": lambda: drifting(DAY / 2, 20, 1000, topics=10),
    "carts": sessions,
}


@pytest.mark.parametrize("name", STREAMS)
def test_above_popularity_in_every_tenth(name: str) -> None:
    users, items, times = STREAMS[name]()
    report = prequential(Engine(), Events(users, items, times), warmup=0.15)
    mine = np.array(report.recall_by_decile)
    for baseline in ("popularity", "popularity_7d"):
        others = np.array(report.baselines[baseline].recall_by_decile)
        assert (mine >= others).all(), (baseline, mine.round(3), others.round(3))
        assert report.baselines[baseline].recall_lead_ci[0] > 0


def test_level_with_popularity_where_there_is_little_else() -> None:
    """Items that stay, and tastes that a dozen events hardly show: a tenth is 1,020 events, of .52 +- .016."""
    users, items, times = drifting(1000 * DAY, 20, 1000, topics=10)
    report = prequential(Engine(), Events(users, items, times), warmup=0.15)
    for baseline in ("popularity", "popularity_7d"):
        others = report.baselines[baseline]
        below = np.array(others.recall_by_decile) - np.array(report.recall_by_decile)
        assert below.max() < 0.016
        assert others.recall_lead > -0.004

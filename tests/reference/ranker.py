"""The linear ranker: signals, scores, and one step of learning, slow and obvious, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from reference.cooccurrence import Cooccurrence
from reference.draws import Draws

DAY = 86400.0
HALF_LIVES = (DAY, 7 * DAY, 30 * DAY, math.inf)
SOURCES, SOURCE_DECAY, REMEMBERED = 20, 0.9, 64
NAMES = [
    *("score", "after_last", "before_last", "after_recent", "before_recent"),
    *("popularity_1d", "popularity_7d", "popularity_30d", "popularity_all"),
    *("in_session", "session_place", "owned", "owned_times", "owned_days", "owned_places"),
    "demand",
]

Floats = npt.NDArray[np.float64]


class Demand:
    """Shares of the latest choices by eight half-lives, and their weights, learned choice by choice."""

    HALF_LIVES = (600.0, 3600.0, 6 * 3600.0, DAY, 3 * DAY, 7 * DAY, 30 * DAY, math.inf)

    def __init__(self) -> None:
        self.events: list[tuple[int, float]] = []
        self.weights = np.array([0.02, 0.03, 0.05, 0.15, 0.2, 0.25, 0.2, 0.1])
        self.rate = 0.1

    def shares(self, item: int) -> Floats:
        if not self.events:
            return np.zeros(8)
        items, times = (np.array(column) for column in zip(*self.events, strict=True))
        decayed = [2.0 ** ((times - times.max()) / half_life) for half_life in self.HALF_LIVES]
        return np.array([each[items == item].sum() / each.sum() for each in decayed])

    def learn(self, item: int, time: float) -> None:
        parts = self.weights * self.shares(item)
        if parts.sum() > 0:
            self.weights += self.rate * (parts / parts.sum() - self.weights)
            self.weights = np.maximum(self.weights, 1e-3)
            self.rate = max(self.rate / (1 + self.rate), 1 / 1024)
        self.events.append((item, time))

    def of(self, item: int, items: int) -> float:
        """Times as likely as the average item."""
        return float(self.weights @ self.shares(item)) * items + 0.01


class Signals:
    """What a ranker knows beside the embedding, from every event so far."""

    def __init__(self, window: int, half_life: float, session_gap: float) -> None:
        self.lists = Cooccurrence(window, half_life)
        self.session_gap = session_gap
        self.demand = Demand()
        self.items: set[int] = set()
        self.events: list[tuple[int, float]] = []  # item, time
        self.own: dict[int, list[tuple[int, float, int, bool]]] = {}  # item, time, session, disliked; newest first
        self.visits: dict[int, tuple[float, int]] = {}  # latest time, session

    def learn(self, user: int, item: int, time: float, disliked: bool = False) -> None:
        last, session = self.visits.get(user, (time, 0))
        if time - last > self.session_gap:
            session += 1
        self.items.add(item)
        if disliked:
            self.lists.last[user].insert(0, -1)
        else:
            self.lists.learn(user, item, time)
            self.events.append((item, time))
            self.demand.learn(item, time)
        self.visits[user] = max(last, time), session
        self.own.setdefault(user, []).insert(0, (item, time, session, disliked))

    def goes_on(self, user: int, now: float) -> bool:
        return user in self.visits and now - self.visits[user][0] <= self.session_gap

    def of(self, user: int, item: int, score: float, now: float) -> Floats:
        """The signals in the order of NAMES."""
        entries = self.own.get(user, [])[:REMEMBERED]
        session = self.visits[user][1] if self.goes_on(user, now) else -1
        if next((disliked for own, _, _, disliked in entries if own == item), False):
            return np.array([score, *[0.0] * 4, *self.popularity(item, now), *[0.0] * 6, math.log(0.01)])
        return np.array([score, *self.neighbor(entries, item, session, now), *self.popularity(item, now),
                         *self.personal(entries, item, session, now),
                         math.log(self.demand.of(item, len(self.items)))])  # fmt: skip

    def popularity(self, item: int, now: float) -> list[float]:
        times = [time for chosen, time in self.events if chosen == item]
        return [math.log1p(sum(2 ** (-(now - time) / half_life) for time in times)) for half_life in HALF_LIVES]

    def neighbor(self, entries: list[Any], item: int, session: int, now: float) -> list[float]:
        chosen = [source for source, _, of, disliked in entries if not disliked and session in (-1, of)]
        weights: dict[int, float] = {}
        for place, source in enumerate(chosen):
            if source not in weights and len(weights) == SOURCES:
                break
            weights[source] = weights.get(source, 0.0) + SOURCE_DECAY**place
        sums = np.zeros(4)
        for source, weight in weights.items():
            after = before = 0.0
            for new, old, share, time in self.lists.pairs:
                decayed = share * 2 ** (-(now - time) / self.lists.half_life)
                after += decayed if (old, new) == (source, item) else 0.0
                before += decayed if (new, old) == (source, item) else 0.0
            events = sum(2 ** (-(now - time) / self.lists.half_life) for other, time in self.events if other == source)
            last = 1.0 if source == chosen[0] else 0.0
            sums += np.array([last * after, last * before, weight * after, weight * before]) / (events + 5)
        return [math.log1p(total / 0.003) for total in sums.tolist()]

    def personal(self, entries: list[Any], item: int, session: int, now: float) -> list[float]:
        places = [place for place, (own, *_) in enumerate(entries) if own == item]
        if not places or entries[places[0]][3]:  # never, or disliked since
            return [0.0] * 6
        place, (_, time, of, _) = places[0], entries[places[0]]
        times = sum(entries[each][2] != session for each in places if not entries[each][3])
        current = of == session
        owned = times > 0
        return [
            float(current),
            math.log(place + 1) if current else 0.0,
            float(owned),
            math.log(times) if owned else 0.0,
            math.log1p(max(now - float(np.float32(time)), 0.0) / DAY) if owned else 0.0,
            math.log(place + 1) if owned else 0.0,
        ]


def loss(weights: Floats, signals: Floats, chosen: int, weight: float = 1.0) -> float:
    """Softmax over the candidates, signals (n, m)."""
    scores = signals @ weights
    return float(weight * (np.log(np.sum(np.exp(scores - scores.max()))) + scores.max() - scores[chosen]))


def slopes(weights: Floats, signals: Floats, chosen: int, weight: float = 1.0) -> Floats:
    scores = signals @ weights
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    shares[chosen] -= 1
    return np.asarray(weight * (shares @ signals))


class Weights:
    """Two sets of weights and their Adagrad sums."""

    def __init__(self, signals: int) -> None:
        self.values, self.sums = np.zeros((2, signals)), np.full((2, signals), 10.0)
        self.values[:, [0, 15]] = 1

    def step(self, over: bool, gradient: Floats) -> None:
        moved = gradient != 0
        lowest = np.full(len(gradient), -64.0)
        lowest[[0, 15]] = 0  # score and demand
        sums = self.sums[int(over)]
        sums[moved] = sums[moved] * (1 - 1e-4) + gradient[moved] ** 2
        step = 0.1 * gradient / np.sqrt(sums)
        self.values[int(over)] = np.clip(self.values[int(over)] - step, lowest, 64)


def is_due(seed: int, number: int, goes_on: bool) -> bool:
    """Whether event `number` of the stream is learned from."""
    draw = Draws(seed ^ 0x72616E6B, number).next()
    if number < 1024:
        return False
    every = 2 ** min(6, (number // 512 + 1).bit_length() - 1)
    return draw % every == 0 or (draw % 4 == 0 and not goes_on)

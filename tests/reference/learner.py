"""The learner: tables, user vectors, negatives and steps, one event at a time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from reference.draws import Draws
from reference.objectives import POINTWISE, Floats, slopes

ATTEMPTS = 32  # at most this many draws for one negative
WINDOW = 8192  # recent events that negatives are drawn from
ITEM_STREAM = 0x6974656D73
EPSILON = 1e-8


class Table:
    """Rows, biases and Adagrad's sums of users or items, in order of arrival."""

    def __init__(self, dim: int, seed: int, scale: float) -> None:
        self.dim, self.seed, self.scale = dim, seed, scale
        self.places: dict[Hashable, int] = {}
        self.rows: list[Floats] = []
        self.biases: list[float] = []
        self.row_sums: list[float] = []
        self.bias_sums: list[float] = []

    def place(self, key: Hashable) -> int:
        """The place of an id; a new id gets a row drawn from the seed and its place."""
        if key not in self.places:
            draws = Draws(self.seed, len(self.rows))
            self.places[key] = len(self.rows)
            self.rows.append(np.array([self.scale * (2 * draws.uniform() - 1) for _ in range(self.dim)]))
            self.biases.append(0.0)
            self.row_sums.append(0.0)
            self.bias_sums.append(0.0)
        return self.places[key]


class Learner:
    """Takes an engine's `settings`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        rounded = {name: float(np.float32(value)) for name, value in settings.items() if isinstance(value, float)}
        self.settings = settings = {**settings, **rounded}  # as the engine keeps them
        dim, seed, scale = settings["dim"], settings["seed"], settings["init_scale"]
        self.users = Table(dim, seed, 0.0 if settings["history"] else scale)
        self.items = Table(dim, seed ^ ITEM_STREAM, scale)
        self.global_bias = 0.0
        self.global_sum = 0.0
        self.events = 0
        self.chosen: dict[int, list[int]] = {}  # what each user chose, oldest first
        self.window: list[int] = []  # the items of the last events, for the softmax
        self.pushed = 0
        self.removed: set[int] = set()

    def learn(self, user: Hashable, item: Hashable, value: float = 1.0, weight: float = 1.0) -> None:
        u, i = self.users.place(user), self.items.place(item)
        if weight > 0:
            self._step(u, i, value, weight)
        self.events += 1
        if self.settings["objective"] == "logistic" and value == 0:
            return  # shown and not chosen
        self.chosen.setdefault(u, []).append(i)
        if self.settings["objective"] == "softmax":
            self.window[self.pushed % WINDOW : self.pushed % WINDOW + 1] = [i]
            self.pushed += 1

    def remove_item(self, item: Hashable) -> None:
        self.removed.add(self.items.places.pop(item))

    # ---- the user's vector: the learned row plus the decayed sum of the last items' rows

    def history(self, u: int) -> list[tuple[int, float]]:
        """The user's last items, newest first, and their weights."""
        length, decay = self.settings["history"], self.settings["history_decay"]
        last = self.chosen.get(u, [])[::-1][:length]
        return [(h, decay**t) for t, h in enumerate(h for h in last if h not in self.removed)]

    def user_vector(self, u: int) -> Floats:
        return self.users.rows[u] + sum((w * self.items.rows[h] for h, w in self.history(u)), np.zeros(self.items.dim))

    # ---- negatives

    def candidates(self, u: int, i: int, value: float) -> tuple[list[int], Floats]:
        """The item and the negatives of the next event, and the correction 1 / (n Q_j) of each."""
        draws = Draws(self.settings["seed"], self.events)
        objective, wanted = self.settings["objective"], self.settings["negatives"]
        if objective == "softmax":
            negatives = [self._recent_or_uniform(draws, i) for _ in range(wanted)]
        elif objective == "bpr" or (objective == "logistic" and value == 1):
            seen = set(self.chosen.get(u, []))
            negatives = [self._uniform(draws, i, seen) for _ in range(wanted)]
        else:
            negatives = []
        drawn = [j for j in negatives if j is not None]
        odds = [self.probability(j, i) if objective == "softmax" else 1.0 for j in drawn]
        return [i, *drawn], np.array([1.0] + [1 / (len(drawn) * q) for q in odds])

    def _uniform(self, draws: Draws, positive: int, seen: set[int]) -> int | None:
        for _ in range(ATTEMPTS):
            j = draws.below(len(self.items.rows))
            if j != positive and j not in seen and j not in self.removed:
                return j
        return None

    def _recent_or_uniform(self, draws: Draws, positive: int) -> int | None:
        if self.window and self.settings["recent_share"] > 0 and draws.uniform() < self.settings["recent_share"]:
            j = self.window[draws.below(len(self.window))]
            if j != positive and j not in self.removed:
                return j
        return self._uniform(draws, positive, set())

    def probability(self, j: int, positive: int) -> float:
        """Q_j: how likely one softmax negative is j. A uniform draw replaces a recent event of the positive itself."""
        share = self.settings["recent_share"] if self.window else 0.0
        recent = {k: self.window.count(k) / max(len(self.window), 1) for k in (j, positive)}
        uniform = 1 / max(len(self.items.places) - 1, 1)
        return float(share * recent[j] + (1 - share + share * recent[positive]) * uniform)

    # ---- the step

    def _step(self, u: int, i: int, value: float, weight: float) -> None:
        objective, l2 = self.settings["objective"], self.settings["l2"]
        users, items = self.users, self.items
        rate = self.settings["learning_rate"] / (1 + self.settings["learning_rate_decay"] * self.events)
        history = self.history(u)
        x = self.user_vector(u)
        candidates, correction = self.candidates(u, i, value)
        scores = np.array([items.rows[j] @ x + items.biases[j] for j in candidates])
        if objective in POINTWISE:
            scores = scores + users.biases[u] + self.global_bias
        steps = weight * slopes(objective, scores, value, correction)

        gradient = np.zeros(items.dim)  # of x
        for j, slope in zip(candidates, steps, strict=True):
            gradient += slope * items.rows[j]  # a negative drawn twice is met the second time as the first left it
            self._move_row(items, j, slope * x, rate, l2)
            self._move_bias(items, j, slope, rate, l2)
        self._move_row(users, u, gradient, rate, l2)
        for h, w in history:
            self._move_row(items, h, w * gradient, rate, 0.0)

        if objective in POINTWISE:
            self._move_bias(users, u, float(np.sum(steps)), rate, l2)
        if objective == "logistic":
            own_rate, self.global_sum = self._adapted(rate, float(np.sum(steps)), self.global_sum)
            self.global_bias -= float(self._clipped(own_rate * float(np.sum(steps))))
        if objective == "squared":  # the weighted mean of the ratings
            self.global_sum += weight
            self.global_bias += (value - self.global_bias) * weight / self.global_sum

    def _move_row(self, table: Table, row: int, gradient: Floats, rate: float, l2: float) -> None:
        own_rate, table.row_sums[row] = self._adapted(rate, gradient, table.row_sums[row])
        table.rows[row] = table.rows[row] - self._clipped(own_rate * gradient + rate * l2 * table.rows[row])

    def _move_bias(self, table: Table, row: int, slope: float, rate: float, l2: float) -> None:
        own_rate, table.bias_sums[row] = self._adapted(rate, slope, table.bias_sums[row])
        table.biases[row] -= float(self._clipped(own_rate * slope + rate * l2 * table.biases[row]))

    def _adapted(self, rate: float, gradient: Floats | float, total: float) -> tuple[float, float]:
        """The rate of a row with this gradient, and the sum of the mean squares of its gradients (Adagrad)."""
        if self.settings["optimizer"] == "sgd":
            return rate, total
        total += float(np.mean(np.square(gradient)))
        return rate / float(np.sqrt(total + EPSILON)), total

    def _clipped(self, step: Floats | float) -> Floats:
        return np.clip(step, -self.settings["max_step"], self.settings["max_step"])

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
FORGET = 1e-5  # of Adagrad's sums at each step
LEAST_SLOPE = 1e-3  # a candidate with a smaller one is left as it is, where there is a history
CONTEXT_RATE = 0.5  # of the learning rate
MOST = 16.0  # no context weight is larger
DISLIKED, KINDS = 8, 9


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
    """Takes an engine's `settings`; `rounding`: how far off sums of slopes are, as a share of their parts."""

    def __init__(self, settings: Mapping[str, Any], rounding: float = 0.0) -> None:
        self.rounding = rounding
        rounded = {name: float(np.float32(value)) for name, value in settings.items() if isinstance(value, float)}
        self.settings = settings = {**settings, **rounded}  # as the engine keeps them
        dim, seed, scale = settings["dim"], settings["seed"], settings["init_scale"]
        self.users = Table(dim, seed, 0.0 if settings["history"] else scale)
        self.items = Table(dim, seed ^ ITEM_STREAM, scale)
        self.global_bias = 0.0
        self.global_sum = 0.0
        self.events = 0
        self.now = 0.0
        self.seen: dict[int, set[int]] = {}
        # what each user chose or disliked, oldest first: item, session, disliked
        self.acts: dict[int, list[tuple[int, int, bool]]] = {}
        self.last: dict[int, float] = {}  # the time of each user's last event
        # The weights of the places of the history in three groups (this session, before it, before now), and the
        # offsets of its items by kind, in a session and when it is over.
        start = [settings["history_decay"] ** place for place in range(settings["history"])]
        self.positions = np.array([start] * 3)
        self.offsets = np.zeros((2, KINDS))
        self.offsets[:, DISLIKED] = -4.0
        self.position_sums, self.offset_sums = np.zeros_like(self.positions), np.zeros_like(self.offsets)
        self.window: list[int] = []  # the items of the last events, for the softmax
        self.pushed = 0
        self.removed: set[int] = set()

    def learn(
        self, user: Hashable, item: Hashable, value: float = 1.0, weight: float = 1.0, timestamp: float = 0.0
    ) -> None:
        u, i = self.users.place(user), self.items.place(item)
        self.now = timestamp
        if weight > 0:
            self._step(u, i, value, weight)
        self.events += 1
        objective = self.settings["objective"]
        if objective == "logistic" and value == 0:
            return  # shown and not chosen
        disliked = objective not in POINTWISE and value < 0
        acts = self.acts.setdefault(u, [])
        session = acts[-1][1] if acts else 0
        if acts and timestamp - self.last[u] > self.settings["session_gap"]:
            session += 1
        acts.append((i, session, disliked))
        self.last[u] = max(self.last.get(u, timestamp), timestamp)
        self.seen.setdefault(u, set()).add(i)
        if objective == "softmax" and not disliked:
            self.window[self.pushed % WINDOW : self.pushed % WINDOW + 1] = [i]
            self.pushed += 1

    def remove_item(self, item: Hashable) -> None:
        self.removed.add(self.items.places.pop(item))

    # ---- the user's vector: the learned row plus the weighted sum of the last items' rows

    def entries(self, u: int) -> list[tuple[int, bool, bool]]:
        """The user's last items, newest first, each with whether it is of the session that goes on, and disliked."""
        acts = self.acts.get(u, [])
        goes_on = bool(acts) and self.now - self.last[u] <= self.settings["session_gap"]
        last = acts[::-1][: self.settings["history"]]
        return [(i, goes_on and s == acts[-1][1], d) for i, s, d in last if i not in self.removed]

    def history(self, u: int) -> list[tuple[int, float, tuple[int, int] | None]]:
        """The same with the weight of each, and where that is in `positions`, or None if it is not learned."""
        entries = self.entries(u)
        session = bool(entries) and entries[0][1]
        places = [0, 0]
        history: list[tuple[int, float, tuple[int, int] | None]] = []
        for t, (item, in_session, disliked) in enumerate(entries):
            place = places[in_session]
            places[in_session] += 1
            if any(other == item and bad != disliked for other, _, bad in entries[:t]):
                continue  # the opposite has been said since
            where = (0 if in_session else 1 if session else 2, place)
            if disliked:
                history.append((item, -(self.settings["history_decay"] ** place), None))
            else:
                history.append((item, float(self.positions[where]), where))
        return history

    def repeats(self, u: int) -> dict[int, tuple[int, int]]:
        """Where in `offsets` that of each item of the history is, by its last occurrence, newest first."""
        if self.settings["objective"] != "softmax":
            return {}
        entries = self.entries(u)
        over = 0 if entries and entries[0][1] else 1
        found: dict[int, tuple[int, int]] = {}
        place = 0
        for item, in_session, disliked in entries:
            if item not in found:
                earlier = sum(other == item and not bad for other, _, bad in entries)
                kind = (0 if place == 0 else 1 if place < 3 else 2 if place < 10 else 3) if in_session else None
                found[item] = (over, DISLIKED if disliked else 3 + min(earlier, 4) if kind is None else kind)
            place += in_session
        return found

    def user_vector(self, u: int) -> Floats:
        rows = (w * self.items.rows[h] for h, w, _ in self.history(u))
        return self.users.rows[u] + sum(rows, np.zeros(self.items.dim))

    # ---- negatives

    def candidates(self, u: int, i: int, value: float) -> tuple[list[int], Floats]:
        """The item and the negatives of the next event, and the correction 1 / (n Q_j) of each."""
        draws = Draws(self.settings["seed"], self.events)
        objective, wanted = self.settings["objective"], self.settings["negatives"]
        if objective == "softmax":
            share = np.float32(self.settings["recent_share"] if self.window else 0.0)
            recent = min(int(share * np.float32(wanted) + np.float32(draws.uniform())), wanted)
            negatives = [self._recent(draws, i) for _ in range(recent)]
            negatives += [self._uniform(draws, i, set()) for _ in range(wanted - recent)]
        elif objective == "bpr" or (objective == "logistic" and value == 1):
            seen = self.seen.get(u, set())
            negatives = [self._uniform(draws, i, seen) for _ in range(wanted)]
        else:
            negatives = []
        drawn = [j for j in negatives if j is not None]
        odds = [self.probability(j, i) if objective == "softmax" else 1.0 for j in drawn]
        certain = [j for j in self.repeats(u) if j != i] if value > 0 else []
        correction = [1.0] + [1 / (len(drawn) * q) for q in odds] + [1.0] * len(certain)
        return [i, *drawn, *certain], np.array(correction)

    def _uniform(self, draws: Draws, positive: int, seen: set[int]) -> int | None:
        for _ in range(ATTEMPTS):
            j = draws.below(len(self.items.rows))
            if j != positive and j not in seen and j not in self.removed:
                return j
        return None

    def _recent(self, draws: Draws, positive: int) -> int | None:
        j = self.window[draws.below(len(self.window))]
        return j if j != positive and j not in self.removed else self._uniform(draws, positive, set())

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
        repeats = self.repeats(u)
        candidates, correction = self.candidates(u, i, value)
        scores = np.array([items.rows[j] @ x + items.biases[j] for j in candidates])
        scores += [self.offsets[repeats[j]] if j in repeats else 0.0 for j in candidates]
        if objective in POINTWISE:
            scores = scores + users.biases[u] + self.global_bias
        steps = weight * slopes(objective, scores, value, correction)

        gradient = np.zeros(items.dim)  # of x
        for j, slope in zip(candidates, steps, strict=True):
            if self.settings["history"] and objective not in POINTWISE and abs(slope) < LEAST_SLOPE * weight:
                continue
            gradient += slope * items.rows[j]  # a negative drawn twice is met the second time as the first left it
            self._move_row(items, j, slope * x, rate, l2)
            self._move_bias(items, j, slope, rate, l2)
        self._move_row(users, u, gradient, rate, l2)
        for where in sorted(set(repeats.values())):
            parts = [float(s) for j, s in zip(candidates, steps, strict=True) if repeats.get(j) == where]
            slope = sum(parts) + self.rounding * sum(abs(s) for s in parts)
            self._move_scalar(self.offsets, self.offset_sums, where, slope, rate)
        slopes_of_weights = [float(gradient @ items.rows[h]) for h, _, _ in history]
        for (_, _, place), slope in zip(history, slopes_of_weights, strict=True):
            if place is not None:
                self._move_scalar(self.positions, self.position_sums, place, slope, rate)
        for h, w, _ in history:
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

    def _move_scalar(self, values: Floats, sums: Floats, place: tuple[int, int], slope: float, rate: float) -> None:
        own_rate, sums[place] = self._adapted(CONTEXT_RATE * rate, slope, float(sums[place]))
        values[place] = np.clip(values[place] - self._clipped(own_rate * slope), -MOST, MOST)

    def _adapted(self, rate: float, gradient: Floats | float, total: float) -> tuple[float, float]:
        """The rate of a row with this gradient, and the sum of the mean squares of its gradients (Adagrad)."""
        if self.settings["optimizer"] == "sgd":
            return rate, total
        total = total * (1 - FORGET) + float(np.mean(np.square(gradient)))
        return rate / float(np.sqrt(total + EPSILON)), total

    def _clipped(self, step: Floats | float) -> Floats:
        return np.clip(step, -self.settings["max_step"], self.settings["max_step"])

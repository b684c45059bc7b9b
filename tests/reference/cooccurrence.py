"""Co-occurrence: every pair of choices counted, decayed when it is asked for."""

from __future__ import annotations

from collections import defaultdict

DISTANCE_DECAY = 0.8  # from each of a user's last items to the one before it


class Cooccurrence:
    """Lists that never run out of slots."""

    def __init__(self, window: int, half_life: float) -> None:
        self.window, self.half_life = window, half_life
        self.last: dict[int, list[int]] = defaultdict(list)  # of each user, newest first; removed items as -1
        self.pairs: list[tuple[int, int, float, float]] = []  # item, the one before it, weight, time
        self.choices: list[tuple[int, float]] = []

    def learn(self, user: int, item: int, time: float) -> None:
        there = [other for other in self.last[user][: self.window] if other != -1]
        for distance, other in enumerate(there):
            if other != item:
                self.pairs.append((item, other, DISTANCE_DECAY**distance, time))
        self.choices.append((item, time))
        self.last[user].insert(0, item)

    def remove(self, gone: int) -> None:
        self.pairs = [pair for pair in self.pairs if gone not in pair[:2]]
        self.choices = [choice for choice in self.choices if choice[0] != gone]
        for items in self.last.values():
            items[:] = [-1 if item == gone else item for item in items]

    def similar(self, item: int, now: float) -> dict[int, float]:
        """The scores of all neighbours: n is the decayed number of choices."""
        scores: dict[int, float] = defaultdict(float)
        for new, old, weight, time in self.pairs:
            if item in (new, old):
                scores[old if item == new else new] += weight * self._share(now - time)
        frequency: dict[int, float] = defaultdict(float)
        for chosen, time in self.choices:
            frequency[chosen] += self._share(now - time)
        return {
            other: score / (frequency[item] + 1) ** 0.5 / (frequency[other] + 1) ** 0.25
            for other, score in scores.items()
        }

    def _share(self, age: float) -> float:
        return float(2 ** (-age / self.half_life))

"""A small reward model of logged candidates, for the estimators that want one."""

from __future__ import annotations

import numpy as np

from recengine.feedback import Impression

from .estimate import Floats

RIDGE = 1.0
FEATURES = 4


class RewardModel:
    """Of each slot a ridge regression of its reward on the standardised score, its square and one over the place among
    the candidates, fitted on each half of the log for the other one (cross-fitting, Chernozhukov et al. 2018)."""

    def __init__(self, rows: list[Impression], rewards: Floats) -> None:
        self._rows = rows
        scores = np.concatenate([row.scores.astype(np.float64) for row in rows])
        self._mean, self._deviation = float(scores.mean()), float(scores.std()) or 1.0
        slots = rewards.shape[1]
        shown = np.zeros((len(rows), slots, FEATURES))  # 0, which tells nothing, behind the end of shorter lists
        for place, row in enumerate(rows):
            shown[place, : len(row.slate)] = self._features(row)[row.slate]
        halves = np.arange(len(rows)) % 2
        self._weights = [
            np.column_stack(
                [self._fit(shown[halves != half, slot], rewards[halves != half, slot]) for slot in range(slots)]
            )
            for half in (0, 1)
        ]

    def means(self, place: int) -> Floats:
        """Of the candidates of an impression in each slot, by the half that does not hold it: (n, k)."""
        means: Floats = self._features(self._rows[place]) @ self._weights[place % 2]
        return means

    def _features(self, row: Impression) -> Floats:
        scores = (row.scores.astype(np.float64) - self._mean) / self._deviation
        places = 1 / np.arange(1, len(scores) + 1)
        return np.column_stack([np.ones(len(scores)), scores, scores**2, places])

    @staticmethod
    def _fit(features: Floats, rewards: Floats) -> Floats:
        penalty = np.diag([1e-9, RIDGE, RIDGE, RIDGE])
        solved = np.linalg.solve(features.T @ features + penalty, features.T @ rewards)
        return np.asarray(solved, dtype=np.float64)

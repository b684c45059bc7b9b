"""A small reward model of logged candidates, for the estimators that want one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .estimate import Floats
from .lists import Log

RIDGE = 1.0
FEATURES = 4


class RewardModel:
    """Of each slot a ridge regression of its reward on the standardised score, its square and one over the place among
    the candidates, fitted on each half of the log for the other one (cross-fitting, Chernozhukov et al. 2018)."""

    def __init__(self, log: Log, halves: npt.NDArray[np.intp]) -> None:
        """`halves`: 0 or 1 for each impression."""
        scores, places, parts = [], [], []
        for lists in log.chunks():
            if len(lists.scores) == 0:
                continue
            scores.append(lists.scores[lists.shown])
            places.append(lists.places[lists.shown])
            parts.append(
                (
                    len(lists.scores),
                    float(lists.scores.mean(dtype=np.float64)),
                    float(lists.scores.var(dtype=np.float64)),
                )
            )
        self._mean, self._deviation = _moments(np.array(parts))
        self._shown = self.features(np.concatenate(scores), np.concatenate(places))
        self._slots = np.tile(np.arange(log.is_slot.shape[1]), (len(log.rows), 1))[log.is_slot]
        self._halves = np.repeat(halves, log.lengths)
        rewards = log.rewards[log.is_slot]
        self._weights = np.zeros((2, log.is_slot.shape[1], FEATURES))
        for half in (0, 1):
            for slot in range(log.is_slot.shape[1]):
                others = (self._halves != half) & (self._slots == slot)
                self._weights[half, slot] = _fit(self._shown[others], rewards[others])

    def features(self, scores: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> Floats:
        """Of candidates: (n, features)."""
        standard = (scores.astype(np.float64) - self._mean) / self._deviation
        features = np.ones((len(scores), FEATURES))
        features[:, 1], features[:, 2], features[:, 3] = standard, standard * standard, 1 / (places + 1.0)
        return features

    def rewards(self, features: Floats) -> Floats:
        """What slots with such features earn, by the half that does not hold them: slot after slot."""
        return np.asarray((features * self._weights[self._halves, self._slots]).sum(axis=1))

    @property
    def shown(self) -> Floats:
        """The same of what was shown."""
        return self.rewards(self._shown)


def _moments(parts: Floats) -> tuple[float, float]:
    """Mean and standard deviation of all, from the counts, means and variances of parts: (parts, 3)."""
    counts, means, variances = parts.T
    shares = counts / counts.sum()
    mean = float(shares @ means)
    return mean, float(np.sqrt(shares @ (variances + (means - mean) ** 2))) or 1.0


def _fit(features: Floats, rewards: Floats) -> Floats:
    penalty = np.diag([1e-9, RIDGE, RIDGE, RIDGE])
    solved = np.linalg.solve(features.T @ features + penalty, features.T @ rewards)
    return np.asarray(solved, dtype=np.float64)

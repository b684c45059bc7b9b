"""The four objectives: the loss of one event as a function of its candidates' scores, and its slopes by formula.

Candidate 0 is the event's own item, the others are sampled negatives. `scores` of the pointwise objectives include the
user's bias and the global one. That the slopes belong to the losses is a test of its own.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Objective = Literal["softmax", "bpr", "logistic", "squared"]
OBJECTIVES: Final[tuple[Objective, ...]] = ("softmax", "bpr", "logistic", "squared")
POINTWISE: Final[tuple[Objective, ...]] = ("logistic", "squared")


def sigmoid(z: Floats) -> Floats:
    p: Floats = 1 / (1 + np.exp(-z))
    return p


def loss(objective: Objective, scores: Floats, value: float, correction: Floats) -> float:
    """`value`: the label (logistic) or rating (squared). `correction`: 1 at the item, 1 / (n Q_j) at the negatives."""
    first, others = scores[0], scores[1:]
    if value < 0 and objective in ("softmax", "bpr"):  # a dislike
        return float(np.sum(-np.log(sigmoid(others - first)))) / max(len(others), 1)
    if objective == "softmax":
        return float(-np.log(np.exp(first) / np.sum(correction * np.exp(scores))))
    if objective == "bpr":
        return float(np.sum(-np.log(sigmoid(first - others))))
    if objective == "logistic":
        p = sigmoid(scores)
        return float(-value * np.log(p[0]) - (1 - value) * np.log(1 - p[0]) - np.sum(np.log(1 - p[1:])))
    return float((first - value) ** 2 / 2)


def slopes(objective: Objective, scores: Floats, value: float, correction: Floats) -> Floats:
    """d loss / d scores."""
    own: Floats = np.eye(1, len(scores))[0]  # 1 at the item, 0 at the negatives
    if value < 0 and objective in ("softmax", "bpr"):  # a dislike
        pushes = sigmoid(scores[0] - scores[1:]) / max(len(scores) - 1, 1)
        return np.concatenate([[np.sum(pushes)], -pushes])
    if objective == "softmax":
        weights = correction * np.exp(scores)
        return weights / float(np.sum(weights)) - own
    if objective == "bpr":
        pushes = sigmoid(scores[1:] - scores[0])
        return np.concatenate([[-np.sum(pushes)], pushes])
    if objective == "logistic":
        return sigmoid(scores) - value * own
    return scores[:1] - value

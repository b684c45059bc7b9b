"""Policies, diversity and their probabilities, slot by slot, with no thought of speed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def slot_probabilities(policy: str, parameter: float, scores: Scores, left: Sequence[int]) -> dict[int, float]:
    """The probability of each of the candidates that are left; scores descend, so the best has the lowest place."""
    best, count = min(left), len(left)
    if policy == "greedy":
        return {i: float(i == best) for i in left}
    if policy == "random":
        return dict.fromkeys(left, 1 / count)
    if policy == "epsilon_greedy":
        return {i: parameter / count + (1 - parameter) * (i == best) for i in left}
    if policy == "softmax":
        weights = {i: math.exp((scores[i] - scores[best]) / parameter) for i in left}
        return {i: weight / math.fsum(weights.values()) for i, weight in weights.items()}
    assert policy == "squarecb"
    shares = {i: 1 / (count + parameter * (scores[best] - scores[i])) for i in left if i != best}
    return {**shares, best: 1 - math.fsum(shares.values())}


def allowed(left: Sequence[int], slate: Sequence[int], groups: Sequence[int], per_group: int) -> list[int]:
    """Those of a group that has places left."""
    if not groups:
        return list(left)
    return [i for i in left if groups[i] == 0 or sum(groups[other] == groups[i] for other in slate) < per_group]


def log_propensities(
    policy: str, parameter: float, scores: Scores, slate: Sequence[int], groups: Sequence[int] = (), per_group: int = 0
) -> list[float]:
    """Of each slot, given the slots before it."""
    logs = []
    for slot, place in enumerate(slate):
        left = [i for i in range(len(scores)) if i not in slate[:slot]]
        free = allowed(left, slate[:slot], groups, per_group)
        share = slot_probabilities(policy, parameter, scores, free).get(place) if free else 0.0
        logs.append(math.log(share) if share else -math.inf)
    return logs


def all_slates(count: int, k: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(count), k))


def units(rows: Scores) -> Scores:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def relevance(scores: Scores) -> Scores:
    span = scores.max() - scores.min()
    return (scores - scores.min()) / span if span > 0 else np.ones(len(scores))


def mmr(scores: Scores, rows: Scores, weight: float, k: int) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998)."""
    cosines, worth = units(rows) @ units(rows).T, relevance(scores)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        values = [
            (
                -math.inf
                if i in chosen
                else weight * worth[i] - (1 - weight) * max((cosines[i, j] for j in chosen), default=0)
            )
            for i in range(len(scores))
        ]
        chosen.append(int(np.argmax(values)))
    return chosen


def dpp_objective(scores: Scores, rows: Scores, theta: float, chosen: Sequence[int]) -> float:
    """log det of the kernel over a set."""
    unit = units(rows)
    similarity = (1 + unit @ unit.T) / 2
    quality = np.exp(theta / (2 * (1 - theta)) * relevance(scores))
    kernel = quality[:, None] * similarity * quality
    sign, value = np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])
    return float(value) if sign > 0 else -math.inf


def dpp(scores: Scores, rows: Scores, theta: float, k: int) -> list[int]:
    """Greedy: the candidate that raises the determinant most, each computed anew."""
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        others = [i for i in range(len(scores)) if i not in chosen]
        chosen.append(max(others, key=lambda i: dpp_objective(scores, rows, theta, [*chosen, i])))
    return chosen

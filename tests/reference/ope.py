"""Estimators of lists from their definitions, a loop at a time."""

from __future__ import annotations

from collections.abc import Sequence

Columns = Sequence[Sequence[float]]


def cascade_dr(
    rewards: Columns, propensities: Columns, target: Columns, predicted: Columns, expected: Columns
) -> float:
    """Kiyohara et al. 2022, equation 8: the mean of the lists."""
    total = 0.0
    for row in range(len(rewards)):
        weight_above = 1.0
        for slot in range(len(rewards[row])):
            weight = weight_above * target[row][slot] / propensities[row][slot]
            total += weight * (rewards[row][slot] - predicted[row][slot]) + weight_above * expected[row][slot]
            weight_above = weight
    return total / len(rewards)

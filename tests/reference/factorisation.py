"""Offline training, slowly and in float64: alternating least squares by dense algebra, and the softmax's loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def solve_side(weights: Floats, others: Floats, w0: float, l2: float, exponent: float) -> Floats:
    """The rows that minimise the loss given those of the other side; `weights` (rows, others), 0 where no pair is."""
    n_others, dim = others.shape
    solved = np.zeros((len(weights), dim))
    for row, mine in enumerate(weights):
        ridge = l2 * (np.count_nonzero(mine) + w0 * n_others) ** exponent
        matrix = w0 * others.T @ others + (others.T * mine) @ others + ridge * np.eye(dim)
        solved[row] = np.linalg.solve(matrix, others.T @ mine)
    return solved


def als_epoch(
    weights: Floats, items: Floats, *, w0: float, l2: float, exponent: float, epochs: int = 1
) -> tuple[Floats, Floats]:
    """Users and items after some epochs from these items."""
    users = np.zeros((len(weights), items.shape[1]))
    for _ in range(epochs):
        users = solve_side(weights, items, w0, l2, exponent)
        items = solve_side(weights.T, users, w0, l2, exponent)
    return users, items


def unit(rows: Floats) -> Floats:
    """The rows at length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def softmax_loss(
    pairs: Floats,
    own: Floats,
    items: Floats,
    *,
    temperature: float,
    history_weight: float,
    exponent: float,
    popularity: float,
) -> float:
    """The loss of docs/offline-training.md over all items; `pairs` (users, items) of 0 and 1, `own` the users' rows."""
    counts = pairs.sum(axis=1)
    directions = unit(items)
    users = unit(own + history_weight * (pairs @ directions) / counts[:, np.newaxis])
    scores = users @ directions.T / temperature + popularity * np.log(pairs.sum(axis=0))
    log_sums = np.log(np.exp(scores).sum(axis=1))
    each = counts ** (exponent - 1) * (counts * log_sums - (pairs * scores).sum(axis=1))
    return float(each.sum() / (counts**exponent).sum() * counts.sum())


def slope(function: object, at: Floats, step: float = 1e-6) -> Floats:
    """Central differences of a function of an array."""
    assert callable(function)
    out = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = at.copy()
        moved[place] += step
        above = function(moved)
        moved[place] -= 2 * step
        out[place] = (above - function(moved)) / (2 * step)
    return out

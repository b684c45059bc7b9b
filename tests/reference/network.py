"""The network of ranker="mlp": 64 hidden units over signals, products, the session and 1, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HIDDEN, PRODUCTS = 64, 16

Floats = npt.NDArray[np.float64]


def inputs(signals: Floats, user: Floats, rows: Floats, in_session: bool) -> Floats:
    """(n, signals + 18) from signals (n, m), the user's vector (dim,) and the items' rows (n, dim)."""
    products = np.zeros((len(rows), PRODUCTS))
    for d in range(rows.shape[1]):
        products[:, d % PRODUCTS] += user[d] * rows[:, d]
    session, one = np.full((len(rows), 1), float(in_session)), np.ones((len(rows), 1))
    return np.hstack([np.clip(signals, -100, 100), np.clip(products, -100, 100), session, one])


class Network:
    """Parameters as a file holds them: W row by row, then w."""

    def __init__(self, parameters: Floats) -> None:
        values = np.asarray(parameters, dtype=float)
        self.first, self.last = values[:-HIDDEN].reshape(HIDDEN, -1), values[-HIDDEN:]

    def output(self, z: Floats) -> Floats:
        return np.asarray(np.maximum(z @ self.first.T, 0) @ self.last)

    def gradient(self, z: Floats, slopes: Floats) -> Floats:
        """Of sum_j slopes_j output_j, in the order of the parameters."""
        hidden = z @ self.first.T
        back = slopes[:, None] * self.last * (hidden > 0)
        return np.concatenate([(back.T @ z).ravel(), np.maximum(hidden, 0).T @ slopes])


def stepped(parameters: Floats, sums: Floats, gradient: Floats) -> Floats:
    """One step of Adagrad at rate .02."""
    moved = gradient != 0
    after = np.where(moved, sums * (1 - 1e-5) + gradient**2, sums)
    return np.asarray(np.clip(parameters - np.where(moved, 0.02 * gradient / np.sqrt(after + 1e-8), 0), -16, 16))

"""A matrix that gains rows."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rows:
    """``values[:count]`` are the rows in use; more are drawn from N(0, scale) when they are needed, by doubling."""

    def __init__(self, dim: int, scale: float, rng: np.random.Generator) -> None:
        self._scale = scale
        self._rng = rng
        self.values: np.ndarray[Any, np.dtype[np.float32]] = np.empty((0, dim), dtype=np.float32)

    def require(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The matrix, with at least ``count`` rows. Views of it from before may be of an older copy."""
        have, dim = self.values.shape
        if count > have:
            fresh = self._rng.standard_normal((max(count - have, have, 64), dim), dtype=np.float32)
            self.values = np.concatenate([self.values, self._scale * fresh], dtype=np.float32)
        return self.values


def grown(column: np.ndarray[Any, Any], count: int, fill: float) -> np.ndarray[Any, Any]:
    """The column, with at least ``count`` entries; new ones are ``fill``."""
    missing = count - len(column)
    if missing <= 0:
        return column
    return np.append(column, np.full(max(missing, len(column), 64), fill, dtype=column.dtype))

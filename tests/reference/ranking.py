"""Rankings by sorting everything."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt


def best(scores: npt.NDArray[np.number], k: int, rows: Collection[int] | None = None) -> list[int]:
    """The k best of the rows (default: all): higher score first, then lower row."""
    allowed = range(len(scores)) if rows is None else rows
    return sorted(allowed, key=lambda row: (-scores[row], row))[:k]


def cosines(vector: npt.NDArray[np.number], rows: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """The cosine of the vector and each row; 0 where either has no length."""
    x, q = vector.astype(np.float64), rows.astype(np.float64)
    lengths = np.linalg.norm(x) * np.linalg.norm(q, axis=1)
    out = np.zeros(len(q))
    np.divide(q @ x, lengths, out=out, where=lengths > 0)
    return out


def decayed_counts(
    rows: Sequence[int], timestamps: Sequence[float], half_life: float, count: int
) -> npt.NDArray[np.float64]:
    """How often each of `count` items was chosen; an event one half-life older than the latest counts half."""
    counts = np.zeros(count)
    for row, timestamp in zip(rows, timestamps, strict=True):
        counts[row] += 2.0 ** (-(max(timestamps) - timestamp) / half_life)
    return counts

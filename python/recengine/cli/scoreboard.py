"""Figures of a run so far: recall of the engine and of popularity, event rate, latencies."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

BARS = "▁▂▃▄▅▆▇█"
STEPS = 36  # points of the recall curves
LATEST = 20_000  # events that "lately" and the live percentiles look back on


class Scoreboard:
    """One row an event: was it a hit for the engine, for popularity, and how many nanoseconds did the calls take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = time.perf_counter()
        self._hits = np.zeros((2, total), dtype=np.bool_)
        self._nanoseconds = np.zeros((2, total), dtype=np.int64)

    def add(self, hit: bool, popularity_hit: bool, query_ns: int, learn_ns: int) -> None:
        row = self.done
        self._hits[0, row], self._hits[1, row] = hit, popularity_hit
        self._nanoseconds[0, row], self._nanoseconds[1, row] = query_ns, learn_ns
        self.done = row + 1

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def recall(self, *, lately: bool = False) -> tuple[float, float]:
        """Recall of the engine and of popularity, over everything or over the latest events."""
        first = max(self.done - LATEST, 0) if lately else 0
        engine, popularity = self._hits[:, first : self.done].mean(axis=1) if self.done else (0.0, 0.0)
        return float(engine), float(popularity)

    def latency(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Microseconds of queries and of lessons, lately: the median and the 99th percentile."""
        latest = self._nanoseconds[:, max(self.done - LATEST, 0) : max(self.done, 1)]
        query, learn = np.percentile(latest, (50, 99), axis=1).T / 1_000
        return query, learn

    def curves(self) -> tuple[str, str]:
        """The recall of the engine and of popularity over the run, as bars on a common scale."""
        size = -(-self.total // STEPS)
        starts = np.arange(0, self.done, size)
        if not len(starts):
            return "", ""
        shares = np.add.reduceat(self._hits[:, : self.done], starts, axis=1, dtype=np.int64) / np.diff(
            np.append(starts, self.done)
        )
        heights = np.rint(shares / max(shares.max(), 1e-9) * (len(BARS) - 1)).astype(int)
        engine, popularity = ("".join(BARS[height] for height in row) for row in heights)
        return engine, popularity

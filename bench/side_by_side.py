"""Timing in turns: one round of recengine, one of its peer, and so on, so that both meet the same noise.

A *round* is a function that runs once and returns the seconds of each call it made, shape (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter_ns, sleep
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Round = Callable[[], Seconds]


class Times(NamedTuple):
    """The seconds of every call of every round, recengine's and the peer's."""

    ours: Seconds
    peer: Seconds

    def speedup(self, percentile: float = 50) -> float:
        """How many times longer the peer takes, at this percentile of the calls."""
        return float(np.percentile(self.peer, percentile) / np.percentile(self.ours, percentile))


def whole(call: Callable[[], object]) -> Round:
    """A round of one call."""

    def run() -> Seconds:
        start = perf_counter_ns()
        call()
        return np.array([perf_counter_ns() - start]) * 1e-9

    return run


def each(call: Callable[..., object], arguments: Iterable[tuple[Any, ...]]) -> Round:
    """A round of one call for each tuple of arguments; the clock's own 30 to 80 ns are in every figure."""
    arguments = list(arguments)

    def run() -> Seconds:
        clock = perf_counter_ns
        nanoseconds = np.empty(len(arguments))
        for n, argument in enumerate(arguments):
            start = clock()
            call(*argument)
            nanoseconds[n] = clock() - start
        return nanoseconds * 1e-9

    return run


def alone(benchmark: Any, ours: Round, *, rounds: int) -> Seconds:
    """Run ``ours`` after one round to warm up, and return the seconds of every call; pytest-benchmark records it."""
    laps: list[Seconds] = []
    benchmark.pedantic(lambda: laps.append(ours()), rounds=rounds, warmup_rounds=1)
    return np.concatenate(laps[min(1, len(laps) - 1) :])


# Seconds between two rounds: the idle threads of OpenMP spin for some milliseconds before they sleep, and ours may
# still have upkeep to do. Neither shall take a processor from the other.
REST = 0.03


def in_turns(benchmark: Any, ours: Round, peer: Round, *, rounds: int) -> Times:
    """Run both in turns, after one round of each to warm up; pytest-benchmark records the rounds of ``ours``."""
    our_rounds: list[Seconds] = []
    peer_rounds: list[Seconds] = []

    def peer_turn() -> None:
        sleep(REST)
        peer_rounds.append(peer())
        sleep(REST)

    benchmark.pedantic(
        lambda: our_rounds.append(ours()),
        setup=peer_turn,
        rounds=rounds,
        warmup_rounds=1,
    )
    # Without warm-up (--benchmark-disable) there is one round, and it counts.
    first = min(1, len(our_rounds) - 1)
    return Times(np.concatenate(our_rounds[first:]), np.concatenate(peer_rounds[first:]))

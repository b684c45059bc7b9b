"""Timing of any number of sides in turns, where `side_by_side` has two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bench.side_by_side import Round, Seconds


def take_turns(sides: Mapping[str, Round], rounds: int, benchmark: Any = None) -> dict[str, Seconds]:
    """Runs every side once to warm up, then all of them, one after the other, so many times.

    The seconds of every call of each. pytest-benchmark, if given, records the rounds of the first side.
    """
    first, *others = sides
    laps: dict[str, list[Seconds]] = {name: [] for name in sides}

    def run(name: str) -> None:
        laps[name].append(sides[name]())

    def run_others() -> None:
        for name in others:
            run(name)

    if benchmark is None:
        for _ in range(rounds + 1):
            run_others()
            run(first)
    else:
        benchmark.pedantic(lambda: run(first), setup=run_others, rounds=rounds, warmup_rounds=1)
    # Without warm-up (--benchmark-disable) there is one round, and it counts.
    return {name: np.concatenate(each[min(1, len(each) - 1) :]) for name, each in laps.items()}

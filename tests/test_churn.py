"""Memory does not grow while users and items come and go."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine
from recengine.explore import ThompsonSampling

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")

ALIVE = 400  # users and items, of each


def resident() -> float:
    """MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def generation(engine: Engine, number: int, rng: np.random.Generator) -> None:
    """A quarter of the users and items go, as many come under new names; they learn, are asked, filtered, shown."""
    first = number * ALIVE // 4
    alive = np.arange(first, first + ALIVE)
    users = [f"user {number}" for number in alive]
    items = [f"item {number}" for number in alive]
    picked = rng.integers(0, ALIVE, (2, 2000))
    engine.learn_many(
        [users[k] for k in picked[0]], [items[k] for k in picked[1]], timestamps=number * 3600.0 + picked[0]
    )
    known = [item for item in items if item in engine.items]
    engine.set_filter("new", known[-50:])
    engine.set_groups(known, [f"group {number % 7}"] * len(known))
    ranking = engine.recommend(users[-1], k=5, filter=engine.filter("new"), explore=ThompsonSampling(), seed=number)
    engine.impression(ranking)
    for user in users[::40]:
        engine.recommend(user, k=10)
    gone = slice(0, ALIVE // 4)
    engine.remove_users([user for user in users[gone] if user in engine.users])
    engine.remove_items([item for item in items[gone] if item in engine.items])


def churn(engine: Engine, generations: int, seconds: float, warm: int) -> tuple[float, float, int]:
    """Resident memory after the warm-up and at the end, each the least of some, and the number of generations."""
    rng = np.random.default_rng(0)
    end = time.monotonic() + seconds
    after_warmup: list[float] = []
    last: list[float] = []
    number = 0
    while number < generations or time.monotonic() < end:
        generation(engine, number, rng)
        number += 1
        if warm <= number < warm + 10:
            after_warmup.append(resident())
        last = [*last[-9:], resident()]
    assert len(engine.users) <= ALIVE
    assert len(engine.items) <= ALIVE
    return min(after_warmup), min(last), number


@needs_proc
@pytest.mark.parametrize("options", [{}, {"objective": "bpr", "history": 0}], ids=["softmax", "bpr"])
def test_memory_is_flat(options: dict[str, Any]) -> None:
    before, after, _ = churn(Engine(dim=16, **options), 90, 0.0, 40)
    assert after - before < 6, (before, after)


@needs_proc
@pytest.mark.long
def test_memory_is_flat_for_ten_minutes(tmp_path: Path) -> None:
    """Also of an engine with a folder, whose checkpoints come and go."""
    with Engine.open(tmp_path / "folder", dim=16, sync="os", checkpoint_bytes=1 << 20) as engine:
        before, after, number = churn(engine, 300, 600.0, 100)
    print(f"\n{number} generations, resident {before:.1f} MiB after the warm-up, {after:.1f} MiB at the end")
    assert after - before < 12

"""Users who like and dislike the same item in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recengine import Engine


@pytest.mark.parametrize("options", [{}, {"ranker": None}, {"objective": "bpr"}])
@pytest.mark.parametrize("pairs", [1, 8, 16, 60])
def test_the_latest_word_counts(options: dict[str, Any], pairs: int) -> None:
    """However often a user has changed its mind: what it disliked last is far down."""
    rng = np.random.default_rng(0)
    engine, now = Engine(seed=1, **options), 30_000 * 60.0
    engine.learn_many(rng.integers(0, 400, 30_000), rng.integers(0, 500, 30_000), timestamps=np.arange(30_000) * 60.0)
    items = list(engine.items)

    def place(item: int) -> int:
        return int(np.flatnonzero(engine.rank(5, items).ids == item)[0])

    for _ in range(pairs):
        engine.learn_one(5, 50, timestamp=now)
        liked = engine.score(5, [50])[0]
        engine.learn_one(5, 50, -1.0, timestamp=now + 10)
        now += 20
    assert engine.score(5, [50])[0] < liked
    # bpr draws one item of 500 against it at a time, and is torn; never back on top
    assert place(50) > (100 if "objective" in options else 450)

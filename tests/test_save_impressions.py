"""Files with impressions: what no engine wrote is refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from recengine import Engine, FormatError
from recengine.explore import UCB, Random
from test_save_load import Part, changed, file_of, parts_of, refused, saved


def shown(tmp_path: Path) -> bytes:
    """A file with impressions, and with what exploration knows of users, items and all together."""
    engine = Engine.from_factors([1, 2], [[1.0, 0.5], [0.5, 1.0]], ["a", "b", "c"], np.eye(3, 2))
    for user in (1, 2):
        engine.impression(engine.recommend(user, k=2, explore=UCB(1.0, "shared")), timestamp=5.0)
    engine.impression(engine.recommend(history=["a"], k=2, explore=Random()))
    engine.feedback(1, engine.impressions()[0].items[0], 1.0, learn=False)
    engine.remove_users([2])
    engine.remove_items(["c"])
    return saved(engine, tmp_path)


def test_wrong_contents_are_refused(tmp_path: Path) -> None:
    good, path = shown(tmp_path), tmp_path / "wrong"
    nan, inf = float("nan"), float("inf")
    changes: list[tuple[str, int, Any]] = [
        *(("feedback.ints", 0, capacity) for capacity in (0, 2, 2**63)),
        ("feedback.ints", 1, 3),
        *(("feedback.ints", 2, number) for number in (0, 3)),
        *(("feedback.reals", position, value) for position in range(3) for value in (nan, -1.0)),
        *(("shown.times", 0, value) for value in (inf, 1e16)),
        *(("shown.ends", position, value) for position, value in ((0, 4), (0, 2**63), (1, 9), (2, 8))),
        ("shown.rewards", 0, inf),
        *(("precision.items", 0, value) for value in (nan, inf, -1.0)),
        *(("precision.users", 0, user) for user in (1, 2**32 - 1)),
        *(("precision.sums", 0, value) for value in (nan, inf, -1.0)),
        *((f"precision.{name}", 0, value) for name in ("matrix", "factor") for value in (nan, inf)),
        ("precision.factor", 3, 1e7),
    ]
    for name, position, value in changes:
        path.write_bytes(changed(good, name, position, value))
        refused(path)
    for name in parts_of(good):
        if not name.startswith(("feedback", "shown", "precision")):
            continue
        for less in (None, slice(0, -1)):
            parts = parts_of(good)
            part = parts.pop(name)
            if less is not None:
                parts[name] = Part(part.kind, part.values[less])
            path.write_bytes(file_of(parts))
            refused(path)


def test_lists_with_any_byte_changed_are_refused_or_harmless(tmp_path: Path) -> None:
    good, path = shown(tmp_path), tmp_path / "wrong"
    lists = parts_of(good)["shown.lists"].values
    taken = 0
    for at in range(len(lists)):
        for value in {0, 0xFF, int(lists[at]) ^ 0x80} - {int(lists[at])}:
            path.write_bytes(changed(good, "shown.lists", at, value))
            try:
                engine = Engine.load(path)
            except FormatError:
                continue
            taken += 1
            for row in engine.impressions():
                assert np.isfinite(row.scores).all()
                assert (row.slate < len(row.candidates)).all()
                with suppress(KeyError):
                    if row.items[0] is not None:
                        engine.feedback(row.number, row.items[0], 1.0, timestamp=5.0)
            assert np.isfinite(engine.recommend(1, k=2, explore=UCB(1.0, "shared")).scores).all()
    assert taken > 20

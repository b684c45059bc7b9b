"""Files and logs with impressions from before their groups were kept, and their times left out: written by the code of
that time, with what it said of them."""

from __future__ import annotations

import gzip
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

from recengine import Engine, Feedback, ope
from recengine.explore import Random

DATA = Path(__file__).parent / "data" / "impressions"


def opened(kind: str, name: str, folder: Path) -> Engine:
    """`kind`: a saved file, or a folder with a log that was never checkpointed."""
    if kind == "file":
        (folder / name).write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
        return Engine.load(folder / name)
    with tarfile.open(DATA / f"folder-{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return Engine.open(folder / f"folder-{name}")


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", ["timed", "untimed"])
def test_older_impressions_are_read(kind: str, name: str, tmp_path: Path) -> None:
    expected = json.loads((DATA / "expected.json").read_text())[name]
    engine = opened(kind, name, tmp_path)
    for again in (engine, saved(engine, tmp_path)):
        log = again.impressions()
        assert len(log) == len(expected) == 5
        for row, old in zip(log, expected, strict=True):
            for field in ("number", "user", "policy", "parameter", "diversity", "seed"):
                assert getattr(row, field) == old[field], field
            # Without any timestamp there was no time, which was written as 0.
            assert row.time == old["time"] if name == "timed" else math.isnan(row.time)
            assert row.candidates.tolist() == old["candidates"]
            assert row.slate.tolist() == old["slate"]
            assert row.log_propensities.tolist() == old["logs"]
            assert [None if np.isnan(reward) else reward for reward in row.rewards] == old["rewards"]
            assert len(row.groups) == 0
        assert (log[0].diversity_count, log[1].samples, log[1].precision) == (1, 20, "shared")
        assert (log[2].diversity_weight, log[2].diversity_count, log[3].diversity_weight) == (0.3, 3, 0.6)
        assert len(log[1].log_propensity_errors) == 2
    engine.feedback_settings = Feedback(window=60.0)
    if name == "untimed":
        engine.learn_one("ann", "a", timestamp=1e9)
        assert engine.feedback(1, log[0].items[1], 1.0) > 0
    # Its groups were not kept: what the limit made of lists cannot be drawn again.
    with pytest.warns(UserWarning, match="independent IPS is NaN: impression 1 .*'max_per_group'"):
        found = ope.compare(log, {"random": Random()}).rows[0].estimates
    assert math.isfinite(found["cascade DR"].value)
    if kind == "folder":
        engine.close()


def saved(engine: Engine, folder: Path) -> Engine:
    engine.save(folder / "again")
    return Engine.load(folder / "again")

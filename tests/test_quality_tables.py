"""The tables of docs/quality.md, from runs of the tests' own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recengine.baselines import Popularity, WithIds
from recengine.evaluate import prequential
from recengine.events import Events

SCRIPT = Path(__file__).parent.parent / "bench" / "quality_tables.py"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="tests run without the repository's bench folder")
def test_every_figure_comes_from_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = Events(rng.integers(0, 9, 400).tolist(), (rng.zipf(1.4, 400) % 50).tolist(), np.arange(400.0) // 4)
    paths = []
    for order in ("file", "shuffled"):
        for compare in ("personal", "isgd"):
            result = prequential(WithIds(Popularity()), events, order=order, compare=[compare])
            paths.append(tmp_path / f"{order}-{compare}.json")
            paths[-1].write_text(json.dumps(result.to_dict()), encoding="utf-8")
    done = subprocess.run([sys.executable, SCRIPT, *paths], capture_output=True, text=True, check=True)
    for path in paths:
        run = json.loads(path.read_text(encoding="utf-8"))
        name = path.stem.split("-")[1]
        figures = run["baselines"][name]
        half = (figures["recall_ci"][1] - figures["recall_ci"][0]) / 2
        assert f"| {name} | {figures['recall']:.4f} ± {half:.4f} | " in done.stdout
        assert f"| {name} | {' | '.join(f'{recall:.3f}' for recall in figures['recall_by_decile'])} |" in done.stdout
        assert f"order: {run['order']}" in done.stdout
    assert done.stdout.count("| recengine |") == 4

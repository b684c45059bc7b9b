"""The tables of docs/quality.md from the figures that `recengine replay --json` wrote.

python bench/quality_tables.py FILE.json [FILE.json ...]

Several files of one order are put together: baselines from all of them, the engine from the first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def cell(figures: dict[str, Any], name: str) -> str:
    """A figure with half the width of its interval."""
    if figures[name] is None:
        return "-"
    low, high = figures[f"{name}_ci"]
    return f"{figures[name]:.4f} ± {(high - low) / 2:.4f}"


def rows_of(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The engine and then the baselines, by name."""
    rows = {"recengine": runs[0]}
    for run in runs:
        rows |= {name: figures for name, figures in run["baselines"].items() if name not in rows}
    return rows


def quality(runs: list[dict[str, Any]]) -> str:
    """Recall and NDCG over all evaluated events, recall over those that open a session, the engine's lead."""
    run = runs[0]
    lines = [
        f"{run['events']:,} events, {run['evaluated']:,} evaluated, "
        f"{run['first_of_session']['evaluated']:,} of them first of a session; order: {run['order']}",
        "",
        f"| model | recall@{run['k']} | NDCG@{run['k']} | recall@{run['k']}, first of session | recengine's lead |",
        "|---|---|---|---|---|",
    ]
    for name, figures in rows_of(runs).items():
        lead = cell(figures, "recall_lead") if "recall_lead" in figures else ""
        columns = (name, cell(figures, "recall"), cell(figures, "ndcg"), cell(figures["first_of_session"], "recall"))
        lines.append(f"| {' | '.join((*columns, lead))} |")
    return "\n".join(lines)


def deciles(runs: list[dict[str, Any]]) -> str:
    """Recall in each tenth of the evaluated events."""
    lines = [f"| recall@{runs[0]['k']} in tenth | {' | '.join(map(str, range(1, 11)))} |", "|---" * 11 + "|"]
    for name, figures in rows_of(runs).items():
        lines.append(f"| {name} | {' | '.join(f'{recall:.3f}' for recall in figures['recall_by_decile'])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="what --json wrote")
    by_order: dict[str, list[dict[str, Any]]] = {}
    for path in parser.parse_args().files:
        run = json.loads(path.read_text(encoding="utf-8"))
        by_order.setdefault(run["order"], []).append(run)
    for runs in by_order.values():
        print(quality(runs), deciles(runs), sep="\n\n", end="\n\n")


if __name__ == "__main__":
    main()

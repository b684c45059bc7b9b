"""``recengine explore``: policies on trial before a simulated audience."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from recengine.cli.plot import figure_of
from recengine.diversify import DPP, MMR, Diversity, MaxPerGroup
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Random, Softmax, SquareCB, ThompsonSampling
from recengine.simulate import DayFigures, TrialResult, run_trials

POLICIES: dict[str, tuple[Policy | None, Diversity | None]] = {
    "greedy": (Greedy(), None),
    "random": (Random(), None),
    "epsilon_greedy": (EpsilonGreedy(0.1), None),
    "softmax": (Softmax(1.0), None),
    "thompson": (ThompsonSampling(1.0), None),
    "ucb": (UCB(10.0), None),
    "squarecb": (SquareCB(50.0), None),
    "mmr": (None, MMR()),
    "dpp": (None, DPP()),
    "max_per_group": (None, MaxPerGroup(1)),
}
PANELS = (
    ("regret", "clicks missed a day"),
    ("coverage", "share of the catalogue shown"),
    ("diversity", "groups in a list"),
)


def check_policies(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is none, or comes twice."""
    if not names:
        raise ValueError(f"no policies; there are {', '.join(POLICIES)}")
    for name in names:
        if name not in POLICIES:
            raise ValueError(f"unknown policy {name!r}; there are {', '.join(POLICIES)}")
        if names.count(name) > 1:
            raise ValueError(f"policy {name!r} is named twice")


def run_explore(
    names: Sequence[str],
    *,
    days: int,
    seeds: int,
    json_path: Path | None,
    plot_path: Path | None,
    output: Console,
    messages: Console,
) -> TrialResult:
    """Run the trials, print the figures to ``output`` and write the files; progress goes to ``messages``."""
    with _progress(messages, len(names) * days * seeds) as report:
        result = run_trials({name: POLICIES[name] for name in names}, days=days, seeds=seeds, progress=report)
    output.print(_table(result, names[0]))
    if json_path is not None:
        runs = {name: [[asdict(day) for day in run] for run in found] for name, found in result.figures.items()}
        json_path.write_text(json.dumps(runs, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if plot_path is not None:
        plot_trials(result, plot_path)
    return result


def plot_trials(result: TrialResult, path: Path) -> None:
    """Regret, coverage and diversity of every day, as means over the seeds."""
    figure = figure_of(12, 4)
    for axes, (name, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for policy, runs in result.figures.items():
            values = np.array([[getattr(day, name) for day in run] for run in runs]).mean(axis=0)
            axes.plot(range(1, len(values) + 1), values, label=policy)
        axes.set_xlabel("day")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path)


@contextmanager
def _progress(messages: Console, total: int) -> Iterator[Callable[[str, int, DayFigures], None]]:
    """A bar in a terminal, a line for each finished tenth elsewhere."""
    done = 0
    if not messages.is_terminal:

        def line(name: str, seed: int, day: DayFigures) -> None:
            nonlocal done
            done += 1
            if done * 10 // total > (done - 1) * 10 // total:
                messages.print(f"{done:,} of {total:,} days  {_now(name, seed, day)}")

        yield line
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=messages, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda name, seed, day: bar.update(task, advance=1, description=_now(name, seed, day))


def _now(name: str, seed: int, day: DayFigures) -> str:
    return f"{name}, seed {seed}, day {day.day}: reward {day.reward:,.0f}, coverage {day.coverage:.3f}"


def _table(result: TrialResult, base: str) -> Table:
    """Means over the seeds; rewards beside those of the first policy."""
    table = Table("", "reward", f"over {base}", "regret", "coverage", "exposure Gini", "diversity", header_style="bold")
    for name, runs in result.figures.items():
        mean, low, high = result.difference(name, base)
        beside = "" if name == base else f"{mean:+.1%}"
        if beside and len(runs) > 1:
            beside += f" [{low:+.1%}, {high:+.1%}]"
        figures = {
            figure: result.total(name, figure).mean() for figure in ("reward", "regret", "coverage", "diversity")
        }
        gini = result.total(name, "exposure_gini").mean()
        table.add_row(
            name,
            f"{figures['reward']:,.0f}",
            beside,
            f"{figures['regret']:,.0f}",
            f"{figures['coverage']:.3f}",
            f"{gini:.3f}",
            f"{figures['diversity']:.3f}",
        )
    first = next(iter(result.figures.values()))
    table.caption = f"{len(first[0])} days, {len(first)} seeds; 95 % intervals over seeds"
    return table

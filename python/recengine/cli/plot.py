"""Recall over time, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recengine.evaluate import PrequentialResult


def check_plot(path: Path) -> None:
    """Raise ImportError without matplotlib, ValueError for an extension that it cannot write."""
    formats = sorted(figure_of(7, 4).canvas.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in formats:
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; a plot is one of {', '.join(formats)}")


def plot_recall(result: PrequentialResult, path: Path) -> None:
    """Plot recall in each tenth of the evaluated events against popularity and the other baselines."""
    from recengine.evaluate.comparison import ALWAYS

    figure = figure_of(7, 4)
    axes = figure.subplots()
    for name, recalls, style in (
        ("recengine", result.recall_by_decile, "o-"),
        ("popularity, 7 days", result.popularity_7d_recall_by_decile, "s--"),
        ("popularity, all time", result.popularity_recall_by_decile, "^:"),
        *((name, one.recall_by_decile, ".--") for name, one in result.baselines.items() if name not in ALWAYS),
    ):
        axes.plot(range(1, len(recalls) + 1), recalls, style, label=name)
    axes.set_xlabel(f"tenths of the {result.evaluated:,} evaluated events, in time order")
    axes.set_ylabel(f"recall@{result.k}")
    axes.set_xticks(range(1, len(result.recall_by_decile) + 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def figure_of(width: float, height: float) -> Figure:
    """A figure of its own, without pyplot: no display, no state shared with the caller's plots."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError('plots need matplotlib: pip install "recengine[cli]"') from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure

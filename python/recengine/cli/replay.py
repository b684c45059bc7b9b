"""``recengine replay``: recorded events through an engine, judged prequentially."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from recengine import Engine
from recengine.cli.outputs import check_writable
from recengine.cli.plot import check_plot, plot_recall
from recengine.evaluate import PrequentialResult, RankingFigures, prequential
from recengine.evaluate import Progress as Snapshot
from recengine.evaluate.order import Order
from recengine.events import Events

TITLES = {"popularity": "popularity, all time", "popularity_7d": "popularity, 7 days"}
LINE_EVERY = 5.0  # seconds between two lines of progress without a terminal


def check_outputs(json_path: Path | None, plot_path: Path | None) -> None:
    """Raise now if an output could not be written at the end."""
    for path in (json_path, plot_path):
        if path is not None:
            check_writable(path)
    if plot_path is not None:
        check_plot(plot_path)


def in_time_order(events: Events, messages: Console) -> Events:
    """The events, sorted by time if they weren't, which the user is told."""
    if not events.is_sorted():
        messages.print("recengine: the events are not in time order: sorted them, equal times stay in file order")
    return events.sorted()


def run_replay(
    engine: Engine,
    events: Events,
    *,
    k: int,
    exclude_seen: bool,
    order: Order,
    order_seed: int,
    session_gap: float,
    compare: Sequence[str],
    json_path: Path | None,
    plot_path: Path | None,
    output: Console,
    messages: Console,
) -> PrequentialResult:
    """Replay, print the figures to ``output`` and write the files; progress goes to ``messages``."""
    with _progress(messages) as report:
        result = prequential(
            engine,
            events,
            k=k,
            exclude_seen=exclude_seen,
            order=order,
            order_seed=order_seed,
            session_gap=session_gap,
            compare=compare,
            progress=report,
        )
    if result.interrupted:
        messages.print("recengine: interrupted, the result so far:")
    output.print(_quality(result), _speed(result), sep="\n\n")
    if json_path is not None:
        json_path.write_text(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if plot_path is not None:
        plot_recall(result, plot_path)
    return result


@contextmanager
def _progress(messages: Console) -> Iterator[Callable[[Snapshot], None]]:
    """A bar in a terminal, a line now and then elsewhere."""
    if not messages.is_terminal:
        yield _Lines(messages)
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=messages, transient=True) as bar:
        task = bar.add_task("")
        yield lambda now: bar.update(task, completed=now.done, total=now.total, description=_figures(now))


class _Lines:
    def __init__(self, messages: Console) -> None:
        self._messages = messages
        self._last = time.monotonic()

    def __call__(self, now: Snapshot) -> None:
        if time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            self._messages.print(f"{now.done:,} of {now.total:,} events  {_figures(now)}")


def _figures(now: Snapshot) -> str:
    speed = f"{now.events_per_s:,.0f} events/s"
    if now.comparing:
        return f"comparing {now.comparing}"
    if not now.evaluated:
        return f"{speed}  (learning only)"
    return f"{speed}  recall {now.recall:.4f}, popularity {now.popularity_recall:.4f}"


def _quality(result: PrequentialResult) -> Table:
    """Recall with half the width of its 95 % interval, also over the events that open a session."""
    headers = (f"recall@{result.k}", f"NDCG@{result.k}", f"MRR@{result.k}", "first of session")
    table = Table("", *headers, header_style="bold")
    table.add_row("recengine", *_cells(result, result.first_of_session))
    for name, figures in result.baselines.items():
        table.add_row(TITLES.get(name, name), *_cells(figures, figures.first_of_session))
    order = "" if result.order == "file" else f", order shuffled with seed {result.order_seed}"
    table.caption = (
        f"{result.events:,} events, {result.evaluated:,} evaluated, {result.first_of_session.evaluated:,} of them "
        f"first of a session{order}, {result.events_per_s:,.0f} events/s"
    )
    return table


def _cells(figures: PrequentialResult | RankingFigures, first: RankingFigures) -> list[str]:
    low, high = figures.recall_ci
    recall = f"{figures.recall:.4f} ± {(high - low) / 2:.4f}"
    return [recall, f"{figures.ndcg:.4f}", f"{figures.mrr:.4f}", f"{first.recall:.4f}"]


def _speed(result: PrequentialResult) -> Table:
    table = Table("microseconds", "p50", "p99", header_style="bold")
    table.add_row("query", f"{result.query_us_p50:.1f}", f"{result.query_us_p99:.1f}")
    table.add_row("learn", f"{result.learn_us_p50:.1f}", f"{result.learn_us_p99:.1f}")
    return table

"""``recengine demo``: a simulated shop streams through an engine, measured as it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from recengine import Engine
from recengine.cli.customer import show_customer
from recengine.cli.scoreboard import LATEST, Scoreboard
from recengine.simulate import Day, Shop

K = 10
HALF_LIFE = 1.0  # days: of 1, 3, 7 and 14 the best for popularity in this shop
LOOK_EVERY = 200  # events between two looks at the clock
REFRESH = 0.25  # seconds between two pictures in a terminal
LINES = 10  # progress lines without one
PANEL_WIDTH = 78


class DailyPopularity:
    """What sold most lately, of what is on sale: the baseline. Counts are halved by the day, over HALF_LIFE."""

    def __init__(self) -> None:
        self._counts = np.zeros(0)

    def turn_page(self, day: Day, items: int) -> None:
        """Overnight: older sales fade, and items that went are forgotten."""
        self._counts *= 0.5 ** (1 / HALF_LIFE)
        self._counts = np.append(self._counts, np.zeros(items - len(self._counts)))
        self._counts[day.removed] = 0

    def hit(self, item: int) -> bool:
        """Whether the item is among the top K; ties count against it."""
        count = self._counts[item]
        return bool(count) and int(np.count_nonzero(self._counts >= count)) <= K

    def learn(self, item: int) -> None:
        self._counts[item] += 1


def run_demo(console: Console, *, events: int, seed: int, seconds: float) -> None:
    """Stream the shop, show the figures while they come, and end with one customer whose taste changes."""
    shop = Shop(seed=seed)
    engine = Engine(seed=seed)
    board = Scoreboard(events)
    console.print(
        "A simulated shop: tastes drift, items arrive and go, popularity comes in waves.\n"
        f"Before each event the engine recommends {K} items to its customer (is the one\n"
        "picked next among them?), then it learns from the event. Ctrl-C skips ahead.\n"
    )
    days: list[Day] = []
    stream = _stream(shop, engine, board, days, seconds)
    with suppress(KeyboardInterrupt):
        if console.is_terminal:
            _show_live(console, stream, board, days)
        else:
            _show_lines(console, stream, board)
    console.print(_panel(board, days))
    show_customer(console, shop, engine, days)


def _stream(shop: Shop, engine: Engine, board: Scoreboard, days: list[Day], seconds: float) -> Iterator[None]:
    """Query, then learn, event by event; hands over now and then so that the figures can be shown."""
    popularity = DailyPopularity()
    clock = time.perf_counter_ns
    for day in shop.stream(board.total):
        days.append(day)
        engine.remove_items([item for item in day.removed.tolist() if item in engine.items])
        popularity.turn_page(day, int(shop.items.max()) + 1)
        for user, item, timestamp in zip(day.users.tolist(), day.items.tolist(), day.timestamps.tolist(), strict=True):
            asked = clock()
            ids, _ = engine.recommend(user, k=K)
            answered = clock()
            engine.learn_one(user, item, timestamp=timestamp)
            learned = clock()
            board.add(item in ids.tolist(), popularity.hit(item), answered - asked, learned - answered)
            popularity.learn(item)
            if board.done % LOOK_EVERY == 0:
                yield
                if board.seconds > seconds:
                    return


def _show_live(console: Console, stream: Iterator[None], board: Scoreboard, days: list[Day]) -> None:
    with Live(_panel(board, days), console=console, auto_refresh=False, transient=True) as live:
        shown = 0.0
        for _ in stream:
            if board.seconds - shown > REFRESH:
                shown = board.seconds
                live.update(_panel(board, days), refresh=True)


def _show_lines(console: Console, stream: Iterator[None], board: Scoreboard) -> None:
    shown = 0
    for _ in stream:
        if board.done * LINES // board.total > shown:
            shown = board.done * LINES // board.total
            engine, popularity = board.recall()
            query, learn = board.latency()
            console.print(
                f"{board.done:>9,} events, {board.done / board.seconds:,.0f}/s; recall@{K} {engine:.3f}, "
                f"popularity {popularity:.3f}; query {query[0]:.1f} us, learn {learn[0]:.1f} us",
                soft_wrap=True,
            )


def _panel(board: Scoreboard, days: list[Day]) -> Panel:
    """All figures so far, for a terminal and, once more, for the end."""
    recall, lately = board.recall(), board.recall(lately=True)
    quality = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for header in (f"recall@{K}", "so far", f"last {LATEST:,}", ""):
        quality.add_column(header)
    for name, style, total, latest, curve in zip(
        ("recengine", "popularity"), ("bold green", "dim"), recall, lately, board.curves(), strict=True
    ):
        quality.add_row(name, f"{total:.3f}", f"{latest:.3f}", curve, style=style)
    speed = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for header in (f"microseconds, last {LATEST:,}", "p50", "p99"):
        speed.add_column(header)
    for name, figures in zip(("query", "learn"), board.latency(), strict=True):
        speed.add_row(name, *(f"{figure:.1f}" for figure in figures))
    changed = sum(len(day.arrived) for day in days)
    day = f"day {days[-1].number}, " if days else ""
    return Panel(
        Group(
            f"{day}{board.done:,} of {board.total:,} events, {board.done / board.seconds:,.0f} events/s, "
            f"{changed:,} items replaced",
            ProgressBar(total=board.total, completed=board.done),
            "\n",
            quality,
            "",
            speed,
        ),
        title="recengine demo",
        width=PANEL_WIDTH,
    )

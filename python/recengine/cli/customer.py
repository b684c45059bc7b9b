"""The end of the demo: one customer takes up something new, and the recommendations follow."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recengine import Engine
from recengine.simulate import Day, Shop

TOP = 5
PICKS = 6  # events in the new category
PAUSE = 60.0  # seconds between them


def show_customer(console: Console, shop: Shop, engine: Engine, days: list[Day]) -> None:
    """Let an average customer's taste change, and show the top 5 after each of the first events."""
    users = np.concatenate([day.users for day in days])
    items = np.concatenate([day.items for day in days])
    seen, visits = np.unique(users, return_counts=True)
    user = int(seen[np.argsort(visits, kind="stable")[len(seen) // 2]])
    bought = [shop.category(item) for item in items[users == user].tolist()]
    new = min(shop.categories, key=bought.count)
    now = float(days[-1].timestamps[-1])

    console.print(
        f"\n[bold]One customer.[/bold] Number {user} picked {len(bought):,} items so far, "
        f"{bought.count(new)} of them in [bold green]{new}[/bold green].\n"
        "Now that becomes the favourite; watch the recommendations follow, event by event:\n",
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("picks")
    table.add_column(f"is recommended next (top {TOP})")
    table.add_column(new, justify="right")
    table.add_row("", *_recommended(shop, engine, user, new))
    shop.change_taste(user, new)
    for number, item in enumerate(shop.visit(user, PICKS).tolist(), start=1):
        engine.learn_one(user, item, timestamp=now + number * PAUSE)
        table.add_row(f"{number}. {shop.name(item)}", *_recommended(shop, engine, user, new))
    console.print(table)


def _recommended(shop: Shop, engine: Engine, user: int, new: str) -> tuple[str, str]:
    """The names of the top items, those of the new category in colour, and how many these are."""
    ids, _ = engine.recommend(user, k=TOP)
    fits = [shop.category(item) == new for item in ids.tolist()]
    names = [escape(shop.name(item)) for item in ids.tolist()]
    coloured = [f"[green]{name}[/green]" if fit else name for name, fit in zip(names, fits, strict=True)]
    return ", ".join(coloured), f"{sum(fits)} of {len(fits)}"

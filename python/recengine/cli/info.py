"""``recengine info``: what this installation is and runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def info_table(info: Mapping[str, Any]) -> Table:
    """The answers of ``recengine.info()``, one a row."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in info.items():
        table.add_row(key.replace("_", " "), _text(value))
    return table


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)

"""Files that a command writes at its end."""

from __future__ import annotations

from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise OSError if the file could not be written; an existing one keeps its content, none is left behind."""
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()

"""Where the running snapshots go: nowhere, to a function of the caller's, or into a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from ._optional import require
from .result import Progress

Reporter: TypeAlias = Callable[[Progress], object]


@contextmanager
def reporter(progress: bool | Reporter, total: int) -> Iterator[Reporter | None]:
    """What to call with each snapshot, or None; a bar (of tqdm, on stderr) is closed in the end."""
    if not isinstance(progress, bool):
        if not callable(progress):
            raise TypeError(f"progress must be a bool or a function, got {progress!r}")
        yield progress
    elif not progress:
        yield None
    else:
        bar = require("tqdm.auto").tqdm(total=total, unit=" events")

        def show(so_far: Progress) -> None:
            if so_far.comparing != bar.desc:
                bar.set_description_str(so_far.comparing, refresh=False)
                bar.reset()
            if so_far.evaluated:
                figures = f"recall {so_far.recall:.4f}, popularity {so_far.popularity_recall:.4f}"
                bar.set_postfix_str(figures, refresh=False)
            bar.update(so_far.done - bar.n)

        try:
            yield show
        finally:
            bar.close()

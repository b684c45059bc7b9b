"""Expected failures of a command, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_line_errors(*expected: type[Exception]) -> Iterator[None]:
    """Turn these exceptions into one line on stderr and exit code 2; others are bugs and keep their traceback."""
    try:
        yield
    except expected as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        typer.echo(f"recengine: {' '.join(message.split())}", err=True)
        raise typer.Exit(2) from error

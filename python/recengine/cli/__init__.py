"""The command line: ``recengine demo``, ``recengine replay``, ``recengine explore``, ``recengine info``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of the process.

    Raises
    ------
    SystemExit
        Always: 0 after success, 2 after an error, of which one line on stderr tells.
    """
    for module in ("typer", "rich"):
        if find_spec(module) is None:
            print(f'recengine: the command line needs {module}: pip install "recengine[cli]"', file=sys.stderr)
            raise SystemExit(2)
    from recengine.cli.app import app

    app()

"""``python -m recengine``: the command line."""

from __future__ import annotations

from recengine.cli import main

if __name__ == "__main__":
    main()

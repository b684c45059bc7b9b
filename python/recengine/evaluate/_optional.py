"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str = "evaluate") -> Any:
    """Import ``module``, or raise an ImportError that says which extra installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{package} is not installed: pip install "recengine[{extra}]"') from error

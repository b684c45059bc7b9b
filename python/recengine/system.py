"""What the engine runs on."""

from __future__ import annotations

import os
from typing import Any

from recengine import _core

__all__ = ["info"]


def info() -> dict[str, Any]:
    """Version, kernels and machine, as ``recengine info`` prints them.

    Returns
    -------
    dict
        ``version``; ``kernels_available``, names of the instruction sets this machine can run, best first;
        ``kernels``, the one in use (``RECENGINE_KERNELS`` forces another); ``threads``, processors this process may
        use; ``huge_pages``, how the system grants them: "always", "madvise", "never" or "unavailable".

    Examples
    --------
    >>> figures = info()
    >>> figures["kernels"] in figures["kernels_available"]
    True
    """
    import recengine

    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "version": recengine.__version__,
        "kernels_available": _core.available_kernels(),
        "kernels": _core.active_kernels(),
        "threads": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "huge_pages": _core.huge_pages_mode(),
    }

"""`Engine`, in parts: one file for each thing that a caller does with it."""

from recengine.engine.engine import Engine

__all__ = ["Engine"]

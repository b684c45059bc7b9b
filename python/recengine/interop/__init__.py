"""Reading what other libraries have saved.

- ``read_hnswlib`` takes labels and vectors from an index file of hnswlib, ``engine_from_hnswlib`` puts them into an
  engine. Nothing but numpy is needed, and a damaged file is refused.
"""

from __future__ import annotations

from .hnswlib import engine_from_hnswlib, read_hnswlib

__all__ = ["engine_from_hnswlib", "read_hnswlib"]

"""Ways of finding the best items, for the `retrieval` argument of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Cells", "Flat", "Graph", "Retrieval"]


@dataclass(frozen=True, slots=True)
class Flat:
    """Every row. Exact.

    Parameters
    ----------
    codes
        Screen the rows by their 4-bit codes and score in fp32 what may enter the ranking, unless rows are written
        faster than they can be coded. False: score all, from the rows alone; slower, and the same time whatever is
        learned meanwhile.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
    >>> engine.recommend(1, k=1, retrieval=Flat()).ids.tolist()
    [11]
    """

    codes: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.codes, bool):
            raise TypeError(f"codes must be True or False, not {self.codes!r}")


@dataclass(frozen=True, slots=True)
class Cells:
    """Bounded cells: clusters of rows that are skipped where their bound cannot reach the ranking. Exact.

    Parameters
    ----------
    max_cells
        Visit at most so many, and items that have no cell yet. The ranking then says in `certified` whether it is exact
        all the same; with a filter it may have fewer results than there are matching items. None: no limit.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
    >>> engine.recommend(1, k=1, retrieval=Cells(max_cells=4)).certified
    True
    """

    max_cells: int | None = None

    def __post_init__(self) -> None:
        if self.max_cells is not None:
            _check_count("max_cells", self.max_cells, 2**62)


@dataclass(frozen=True, slots=True)
class Graph:
    """A navigable graph (HNSW, Malkov and Yashunin 2018) over the live rows. Not exact: `certified` is False, unless it
    finds fewer than `k`, and cells are searched instead.

    The graph is built when it is first asked for, by `Engine.threads` threads (reproducibly if that is 1), and follows
    the rows in the background from then on.

    Parameters
    ----------
    ef
        Candidates kept while searching, at least `k` are: more find more and take longer.

    >>> from recengine import Engine
    >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
    >>> engine.recommend(1, k=1, retrieval=Graph(ef=50)).ids.tolist()
    [11]
    """

    ef: int = 100

    def __post_init__(self) -> None:
        _check_count("ef", self.ef, 2**20)


Retrieval = Flat | Cells | Graph | Literal["auto"]


def _check_count(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be between 1 and {most}, not {value}")


def core_retrieval(retrieval: Retrieval) -> tuple[str, int]:
    """As the core takes it: the name of the way and its limit, 0 where there is none."""
    if isinstance(retrieval, Flat):
        return "flat" if retrieval.codes else "rows", 0
    if isinstance(retrieval, Cells):
        return "cells", int(retrieval.max_cells or 0)
    if isinstance(retrieval, Graph):
        return "graph", int(retrieval.ef)
    if retrieval == "auto":
        return "auto", 0
    raise TypeError(f"retrieval must be 'auto', Flat(), Cells() or Graph(), not {retrieval!r}")

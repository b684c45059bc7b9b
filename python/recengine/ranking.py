"""What a query returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Ranking"]


class Ranking:
    """Items in order, best first, with their scores. Unpacks: ``ids, scores = ranking``.

    Attributes
    ----------
    ids
        ``(m,)`` for one query, ``m <= k``; ``(n, k)`` for n queries. int64, or objects that are ``str``; where a row
        holds fewer than k results the rest is -1 or None.
    scores
        float32 of the same shape; the rest of a short row is -inf.
    counts
        How many results are real: an int for one query, int64 ``(n,)`` for n queries.
    certified
        True if the ranking is exact: no item that was left out scores higher. For n queries: all of them.

    Examples
    --------
    >>> import recengine
    >>> engine = recengine.Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
    >>> ranking = engine.recommend("ann", k=5)
    >>> ranking
    Ranking(cup: 2, tea: 0.5)
    >>> ids, scores = ranking
    >>> ids.tolist(), scores.tolist(), ranking.counts
    (['cup', 'tea'], [2.0, 0.5], 2)
    """

    __slots__ = ("certified", "counts", "ids", "scores")

    def __init__(
        self,
        ids: npt.NDArray[Any],
        scores: npt.NDArray[np.float32],
        counts: int | npt.NDArray[np.int64],
        certified: bool = True,
    ) -> None:
        self.ids = ids
        self.scores = scores
        self.counts = counts
        self.certified = certified

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        yield self.ids
        yield self.scores

    def __repr__(self) -> str:
        if self.ids.ndim == 2:
            return f"Ranking({self.ids.shape[0]} queries, k={self.ids.shape[1]})"
        shown = [f"{item}: {score:.4g}" for item, score in zip(self.ids[:5], self.scores[:5], strict=True)]
        return f"Ranking({', '.join(shown)}{', ...' if len(self.ids) > 5 else ''})"

    def _repr_html_(self) -> str:
        from html import escape

        if self.ids.ndim == 2:
            return f"<code>{escape(repr(self))}</code>"
        rows = "".join(
            f"<tr><td>{place}</td><td>{escape(str(item))}</td><td>{score:.4g}</td></tr>"
            for place, (item, score) in enumerate(zip(self.ids, self.scores, strict=True), start=1)
        )
        return f"<table><thead><tr><th></th><th>item</th><th>score</th></tr></thead><tbody>{rows}</tbody></table>"


def single(ids: npt.NDArray[Any], scores: npt.NDArray[np.float32], certified: bool) -> Ranking:
    """The ranking of one query."""
    return Ranking(ids, scores, len(ids), certified)


def padded(
    ids: npt.NDArray[Any],
    scores: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64],
    certified: bool,
    k: int,
) -> Ranking:
    """The rankings of several queries, which follow one another in `ids` and `scores`, as rows of equal length."""
    shape = (len(counts), k)
    filled = np.arange(k) < counts[:, np.newaxis]
    out_ids = np.full(shape, None if ids.dtype == object else -1, dtype=ids.dtype)
    out_scores = np.full(shape, -np.inf, dtype=np.float32)
    out_ids[filled] = ids
    out_scores[filled] = scores
    return Ranking(out_ids, out_scores, counts, certified)

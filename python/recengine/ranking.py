"""What a query returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine import _core

__all__ = ["Ranking"]

MOST_PLACES = 2**28  # of the rankings of one call: 3 GB


class Ranking:
    """Items in order, best first, with their scores. Unpacks: ``ids, scores = ranking``.

    Those that a policy chose (``explore=``, ``diversify=``) are in the order of its choice, and say more.

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
        True if the ranking is exact: no item that was left out scores higher. For n queries: all of them. Of a policy's
        choice: the candidates it chose from.

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

    __slots__ = ("_decisions", "certified", "counts", "ids", "scores")

    def __init__(
        self,
        ids: npt.NDArray[Any],
        scores: npt.NDArray[np.float32],
        counts: int | npt.NDArray[np.int64],
        certified: bool = True,
        decisions: Sequence[_core.Decision] = (),
    ) -> None:
        self.ids = ids
        self.scores = scores
        self.counts = counts
        self.certified = certified
        self._decisions = tuple(decisions)

    @property
    def log_propensities(self) -> npt.NDArray[np.float64] | None:
        """The log-probability of each slot's item, given the slots before it and the candidates: their sum is that of
        the whole list. float64 of the shape of `ids`; NaN where it is not known, and behind the end of short rows. None
        if no policy was asked.

        >>> import recengine
        >>> from recengine.explore import EpsilonGreedy
        >>> engine = recengine.Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> engine.recommend("ann", k=1).log_propensities
        >>> ranking = engine.recommend("ann", k=1, explore=EpsilonGreedy(0.2), seed=0)
        >>> ranking.ids.tolist(), round(float(np.exp(ranking.log_propensities)[0]), 6)
        (['cup'], 0.9)
        """
        return self._of_slots([decision.log_propensities for decision in self._decisions])

    @property
    def log_propensity_errors(self) -> npt.NDArray[np.float64] | None:
        """Standard errors of `log_propensities` where those are estimates (`ThompsonSampling` with samples), of the
        same shape; else None.

        >>> import recengine
        >>> engine = recengine.Engine.from_factors(["ann"], [[1.0]], ["tea"], [[1.0]])
        >>> engine.recommend("ann").log_propensity_errors
        """
        errors = [decision.errors for decision in self._decisions]
        return self._of_slots(errors) if any(len(error) for error in errors) else None

    @property
    def seed(self) -> Any:
        """What the policy drew from: an int, or int64 (n,). None if no policy was asked.

        >>> import recengine
        >>> from recengine.explore import Random
        >>> engine = recengine.Engine.from_factors(["ann"], [[1.0]], ["tea"], [[1.0]])
        >>> engine.recommend("ann", explore=Random(), seed=7).seed
        7
        """
        if not self._decisions and self.ids.ndim == 1:
            return None
        seeds = np.array([decision.seed for decision in self._decisions], dtype=np.int64)
        return seeds if self.ids.ndim == 2 else int(seeds[0])

    @property
    def candidates(self) -> Any:
        """What the policy chose from: ids and scores, best first; of n queries a list of both for each. None if no
        policy was asked.

        >>> import recengine
        >>> from recengine.explore import Random
        >>> engine = recengine.Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> ids, scores = engine.recommend("ann", k=1, explore=Random(), seed=7).candidates
        >>> ids.tolist(), scores.tolist()
        (['cup', 'tea'], [2.0, 1.0])
        """
        pairs = [(decision.candidates, decision.candidate_scores) for decision in self._decisions]
        if not pairs:
            return None
        return pairs if self.ids.ndim == 2 else pairs[0]

    def _of_slots(self, values: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64] | None:
        if not self._decisions:
            return None
        if self.ids.ndim == 1:
            return values[0]
        out = np.full(self.ids.shape, np.nan)
        for row, one in zip(out, values, strict=True):
            row[: len(one)] = one
        return out

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
    if len(counts) * k > MOST_PLACES:
        raise ValueError(f"k must be at most {MOST_PLACES // len(counts)} for {len(counts)} queries at once, not {k}")
    filled = np.arange(k) < counts[:, np.newaxis]
    out_ids = np.full(shape, None if ids.dtype == object else -1, dtype=ids.dtype)
    out_scores = np.full(shape, -np.inf, dtype=np.float32)
    out_ids[filled] = ids
    out_scores[filled] = scores
    return Ranking(out_ids, out_scores, counts, certified)


def chosen(decision: _core.Decision) -> Ranking:
    """The ranking that a policy chose for one query."""
    ids, scores, certified = decision.ranking()
    return Ranking(ids, scores, len(ids), certified, (decision,))


def chosen_many(decisions: Sequence[_core.Decision], k: int) -> Ranking:
    """Those for several queries."""
    if not decisions:
        return padded(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64), True, k)
    rankings = [decision.ranking() for decision in decisions]
    ids = np.concatenate([ids for ids, _, _ in rankings])
    scores = np.concatenate([scores for _, scores, _ in rankings])
    counts = np.array([len(ids) for ids, _, _ in rankings], dtype=np.int64)
    whole = padded(ids, scores, counts, all(certified for _, _, certified in rankings), k)
    return Ranking(whole.ids, whole.scores, counts, whole.certified, decisions)

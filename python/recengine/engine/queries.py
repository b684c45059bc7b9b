"""Rankings: for users, visitors, items and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt

from recengine.columns import id_column
from recengine.diversify import Diversity
from recengine.engine.arguments import Id, is_id, seed_of, vector_of
from recengine.engine.base import Base
from recengine.explore import Policy, core_explore
from recengine.filters import Filter, core_filter
from recengine.ranking import Ranking, chosen, chosen_many, padded, single
from recengine.retrieval import Retrieval, core_retrieval


class Queries(Base):
    """Rankings."""

    __slots__ = ()

    def recommend(
        self,
        user: Any = None,
        k: int = 10,
        *,
        history: Any = None,
        exclude_seen: bool = False,
        exclude: Any = None,
        among: Any = None,
        filter: Filter | None = None,
        retrieval: Retrieval = "auto",
        context: Mapping[str, float] | None = None,
        explore: Policy | None = None,
        diversify: Diversity | None = None,
        seed: int | None = None,
    ) -> Ranking:
        """The k best items for a user, for each of several users, or for a visitor known by a list of items only.

        Parameters
        ----------
        user
            An id, or a column of n ids. Unknown users get the popularity ranking: items by their events, older ones
            counting less (`popularity_half_life`). Its scores n are the decayed counts, or, where the half-life is
            learned, how many times as likely as the average item each is to be chosen; for a policy log(1 + n).
        k
            At most this many results; fewer if fewer items match.
        history
            Instead of `user`: the visitor's items, oldest first. Unknown ones are ignored and counted in `stats`. An
            engine with ``history=0`` makes nothing of them: the visitor gets the popularity ranking.
        exclude_seen
            Leave out what the user has chosen before (for logistic: label 1).
        exclude, among
            Columns of items to leave out, or to choose from; unknown ones are ignored and counted in `stats`.
        filter
            Only items that match: see `filter` and `group`. Exactly as many results as there are matching items, up to
            `k` (but for `Cells(max_cells=...)`, which may miss some).
        retrieval
            "auto", which is exact and takes the way that costs least; or `Flat`, `Cells`, `Graph` with their options.
        context
            For this request alone: numbers to be added to the learned weights of `item_features`, by name. So
            ``{"margin": 0.1}`` ranks items higher by a tenth of their margin.
        explore
            A policy of `recengine.explore`, which chooses from the best candidates and says with what probability
            (``Ranking.log_propensities``): `Greedy`, `Random`, `EpsilonGreedy`, `Softmax`, `ThompsonSampling`, `UCB`,
            `SquareCB`. At most 4,096 results.
        diversify
            `MMR`, `DPP` or `MaxPerGroup` of `recengine.diversify`, by itself or with a policy.
        seed
            Of what a policy draws, at least 0: the same seed, engine and query, the same list. Omitted, the engine
            counts up from its own. Of several users each gets a seed of its own, which ``Ranking.seed`` shows.

        Returns
        -------
        Ranking
            In the order of the policy, if there is one. With a ranker its scores; `certified` then says that the
            candidates of the embedding are exact. Else exact; of equal scores the lower slot first: the order in which
            the items came, as long as none was removed. Shapes (m,) or, for n users, (n, k).

        Raises
        ------
        ValueError, TypeError
            For a negative `k`, both or neither of `user` and `history`, ids of the wrong type, or a filter of another
            engine.
        KeyError
            If a set or group that the filter names is not known (any more).

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
        >>> engine.recommend(["ann", "bob"], k=3).counts.tolist()
        [2, 2]
        >>> engine.recommend("ann", among=["tea"]).ids.tolist()
        ['tea']
        """
        excluded = None if exclude is None else id_column(exclude)
        candidates = None if among is None else id_column(among)
        condition, way = core_filter(self._core, filter), core_retrieval(retrieval)
        added = self._context(context)
        if explore is not None or diversify is not None:
            options = (k, exclude_seen, excluded, candidates, condition, way, added, core_explore(explore, diversify))
            return self._explore(user, history, k, (*options, seed_of(seed)))
        if seed is not None:
            raise ValueError(f"seed is for explore and diversify, and there is neither with seed={seed!r}")
        if user is None:
            if history is None:
                raise ValueError("recommend needs a user or a history")
            session = id_column(history)
            found = self._core.recommend_history(session, k, exclude_seen, excluded, candidates, condition, way, added)
        elif history is not None:
            raise ValueError("recommend takes a user or a history, not both")
        elif is_id(user):
            found = self._core.recommend(user, k, exclude_seen, excluded, candidates, condition, way, added)
        else:
            users = id_column(user)
            many = self._core.recommend_many(users, k, exclude_seen, excluded, candidates, condition, way, added)
            return padded(*many, k)
        return single(*found)

    def _explore(self, user: Any, history: Any, k: int, options: tuple[Any, ...]) -> Ranking:
        if user is None:
            if history is None:
                raise ValueError("recommend needs a user or a history")
            return chosen(self._core.explore_history(id_column(history), *options))
        if history is not None:
            raise ValueError("recommend takes a user or a history, not both")
        if is_id(user):
            return chosen(self._core.explore(user, *options))
        return chosen_many(self._core.explore_many(id_column(user), *options), k)

    def plan(
        self,
        user: Id,
        k: int = 10,
        *,
        exclude_seen: bool = False,
        exclude: Any = None,
        among: Any = None,
        filter: Filter | None = None,
        retrieval: Retrieval = "auto",
        context: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Runs `recommend` with these arguments and says how.

        Returns
        -------
        dict
            ``retrieval``: the way taken ("flat", "rows", "gather", "cells", "graph", or "popular" for users of whom
            nothing is known); ``certified``; ``cells`` there are and ``cells_visited``; rows whose codes were
            ``rows_screened``, whose vectors were ``rows_scored``, and those not coded yet, ``rows_pending``;
            ``candidates`` of the ranker by source, each counted once
            ("retrieved", "own", "neighbors", "popular"); microseconds for the user's vector, ``compose_us``, for the
            items, ``retrieve_us``, and for ranking them, ``rank_us``.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
        >>> plan = engine.plan("ann", k=1)
        >>> plan["retrieval"], plan["certified"], plan["rows_scored"]
        ('flat', True, 2)
        """
        return self._core.plan(
            user,
            k,
            exclude_seen,
            None if exclude is None else id_column(exclude),
            None if among is None else id_column(among),
            core_filter(self._core, filter),
            core_retrieval(retrieval),
            self._context(context),
        )

    def similar_items(
        self,
        item: Id,
        k: int = 10,
        *,
        by: Literal["rows", "behaviour"] = "rows",
        exclude: Any = None,
        among: Any = None,
        filter: Filter | None = None,
        retrieval: Retrieval = "auto",
    ) -> Ranking:
        """The k other items most like this one.

        The rest as in `recommend`; cosines are exact in every way of retrieval.

        Parameters
        ----------
        by
            "rows": items whose vectors point the same way; scores are cosines. "behaviour": items that the same users
            chose shortly before or after it (Linden et al. 2003), at most `neighbors` of them; scores are decayed
            counts over powers of both items' frequencies, for which see docs/cooccurrence.md.

        Raises
        ------
        KeyError
            For an unknown item.
        ValueError
            For another `by`, or "behaviour" in an engine with ``neighbors=0``.

        Examples
        --------
        >>> engine = Engine.from_factors([1], [[1.0, 0.0]], ["a", "b", "c"], [[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
        >>> engine.similar_items("a", k=1)
        Ranking(b: 1)
        >>> engine = Engine(neighbors=64)
        >>> engine.learn_many([1, 1, 2, 2], ["tea", "cup", "tea", "pot"])
        >>> sorted(engine.similar_items("tea", by="behaviour").ids.tolist())
        ['cup', 'pot']
        """
        if by not in ("rows", "behaviour"):
            raise ValueError(f"by must be 'rows' or 'behaviour', not {by!r}")
        find = self._core.similar_items if by == "rows" else self._core.similar_by_behaviour
        return single(
            *find(
                item,
                k,
                None if exclude is None else id_column(exclude),
                None if among is None else id_column(among),
                core_filter(self._core, filter),
                core_retrieval(retrieval),
            )
        )

    def search(
        self,
        vector: npt.ArrayLike,
        k: int = 10,
        *,
        metric: Literal["ip", "cosine"] = "ip",
        exclude: Any = None,
        among: Any = None,
        filter: Filter | None = None,
        retrieval: Retrieval = "auto",
    ) -> Ranking:
        """The k best items for a query vector (dim,): ``<vector, q_i> + b_i`` ("ip"), or the cosine to ``q_i``.

        The rest as in `recommend`; cosines are exact in every way of retrieval, by a scan of all codes or rows.

        Raises ValueError for a vector of another shape or with NaN or infinity in it.

        Examples
        --------
        >>> engine = Engine.from_factors([1], [[0.0, 0.0]], [10, 11], [[1.0, 0.0], [0.0, 1.0]])
        >>> engine.search([0.5, 2.0], k=1)
        Ranking(11: 2)
        """
        if metric not in ("ip", "cosine"):
            raise ValueError(f"metric must be 'ip' or 'cosine', not {metric!r}")
        return single(
            *self._core.search(
                vector_of(vector),
                metric == "cosine",
                k,
                None if exclude is None else id_column(exclude),
                None if among is None else id_column(among),
                core_filter(self._core, filter),
                core_retrieval(retrieval),
            )
        )

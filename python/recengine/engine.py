"""The engine: learns from events, answers with rankings."""

from __future__ import annotations

import errno
import math
import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recengine import _core
from recengine.columns import id_column, number_column, seconds, seconds_column
from recengine.diversify import Diversity
from recengine.explanation import Explanation, Part
from recengine.explore import Policy, core_explore
from recengine.feedback import Feedback, ImpressionLog, log_of
from recengine.filters import Filter, core_filter
from recengine.fit import FitResult, Ials, Method, Reporter, fit
from recengine.ranking import Ranking, chosen, chosen_many, padded, single
from recengine.retrieval import Retrieval, core_retrieval
from recengine.tables import Factors, Ids

__all__ = ["Engine"]

Id = str | int
Objective = Literal["softmax", "bpr", "logistic", "squared"]
Ranker = Literal["auto", "linear", "mlp"]

ALS = Ials()
_NO_RANKER = "none"  # as the core calls it

# What each objective starts from where the caller says nothing: (learning_rate with Adagrad, with SGD, negatives).
_DEFAULTS: dict[str, tuple[float, float, int]] = {
    "softmax": (0.1, 0.05, 64),
    "bpr": (0.1, 0.05, 1),
    "logistic": (0.1, 0.05, 0),
    "squared": (0.05, 0.01, 0),
}


def _is_id(value: object) -> bool:
    return isinstance(value, (str, int, np.integer))


class Engine:
    """A recommender that learns from each event and ranks, at once, over what it has learned.

    The score of item i for user u is ``<x_u, q_i> + b_i``. The user's vector is composed when it is needed,
    ``x_u = p_u + sum_t a_t q_{h_t}``: a learned row, plus the rows of the last items, newest first, over the same table
    that is ranked, each with a learned weight of its place and session. With the softmax, items of the history have a
    learned offset as well: of those just chosen, of those chosen before. Learning is stochastic gradient descent
    without locks (Hogwild, Niu et al. 2011). Every method may be called from any number of threads.

    Parameters
    ----------
    dim
        Length of the embeddings.
    objective
        What an event teaches. ``"softmax"``: sampled softmax with logQ correction (Bengio and Senecal 2008; Yi et al.
        2019). ``"bpr"``: Bayesian personalised ranking (Rendle et al. 2009). ``"logistic"``: binary cross-entropy on
        labels 0 and 1. ``"squared"``: squared error of ratings with biases (Koren et al. 2009). Formulas:
        docs/objectives.md.
    seed
        Same seed, same events, one thread, same kernels: bit-identical tables.
    learning_rate, learning_rate_decay
        Rate of the n-th event: ``learning_rate / (1 + learning_rate_decay * n)``. Default: by objective and optimizer.
    optimizer
        ``"adagrad"`` (row-wise, Duchi et al. 2011) or ``"sgd"``.
    l2
        Weight decay of the user's and the candidates' rows and biases, at the plain learning rate.
    max_step
        No coordinate moves further than this in one step (L-infinity clip).
    init_scale
        New rows are uniform in [-init_scale, init_scale); user rows start at zero if there is a history.
    negatives
        Items sampled against each positive. Default 64 for softmax, 1 for bpr, 0 for logistic (which then trusts its
        labels).
    recent_share
        Softmax: the share of negatives drawn from the last 8,192 events instead of uniformly from all items.
    history, history_decay
        How many of the user's last items enter the user's vector, and the weight of each relative to the one after it
        before any weights are learned. ``history=0`` is plain factorisation.
    session_gap
        Seconds; a longer pause between two events of a user begins a new session.
    popularity_half_life
        Seconds after which an event counts half in the popularity ranking that unknown users get; ``math.inf``: never.
    storage
        Of the rows of users and items: ``"fp32"``, or ``"fp16"``, which halves them. Scores are then within the
        rounding of the rows (2^-11 of each coordinate), rankings exact for the rounded rows. Steps are taken in float32
        and rounded at random, up or down, so that small ones count on average; coordinates stay within 65,504.
    ranker
        What orders the candidates: the embedding's best, neighbours of the user's last items, the user's own items and
        popular ones (docs/ranker.md). ``"linear"``: by a weighted sum of their signals (`ranker_weights`), learned
        online. ``"mlp"``: that sum and what a small neural network adds, with 64 hidden units over the signals and
        products of the user's vector and the item's row. None: the inner product alone, nothing but retrieval.
        ``"auto"``: "linear" for a softmax with a history and learned users, else None. A ranker takes 512 bytes more a
        user and 32 an item.
    item_features
        Names of numbers that you know of your items, at most 16: further signals for the ranker, whose weights are
        learned like those of its own. `set_item_features` gives them values; best of order 1, so that they are learned
        as fast as the others.
    neighbors
        Slots of each item's list of neighbours: the items that the same users chose shortly before or after it
        (docs/cooccurrence.md). 0 to 256; 0 keeps no lists, 64 are 832 bytes an item. Default: 64 for a ranker, else 0.
    neighbors_window
        How many of the user's last items an event is counted with, 1 to 64, each weighing .8 of the one after it.
    neighbors_half_life
        Seconds after which such an event counts half; ``math.inf``: never.
    user_model
        ``"als"``: the user's vector is not learned but solved, when it is needed, from all items the user has chosen,
        each as often as it is among the last `history`, at least once: the exact minimum of implicit alternating least
        squares for these items (Hu, Koren and Volinsky 2008). New users, sessions and each new event count at once.
        Item rows then come from `fit` with method "ials" and stay where they are, unless a `learning_rate` is given.
    als_unobserved_weight, als_l2, als_l2_exponent
        What that minimises: see `Ials`, which has the same defaults.
    threads
        Most threads a call may use; default: the processors of the machine. Can be changed later.
    maintenance
        Whether a background thread keeps retrieval fast, from some thousand items on. Without it answers are the same;
        `maintain` does its work by hand. Can be changed later.

    Raises
    ------
    ValueError
        For a value out of range, naming it.

    Examples
    --------
    >>> engine = Engine(dim=16, seed=0)
    >>> for user, item in [("ann", "tea"), ("bob", "tea"), ("ann", "cup"), ("bob", "cup"), ("eve", "pen")]:
    ...     engine.learn_one(user, item)
    >>> ids, scores = engine.recommend("eve", k=2, exclude_seen=True)
    >>> sorted(ids.tolist())
    ['cup', 'tea']
    >>> engine.recommend("nobody", k=1).ids.tolist()      # unknown users get what is popular
    ['tea']
    """

    __slots__ = ("_core", "items", "users")

    users: Ids
    items: Ids

    def __init__(
        self,
        *,
        dim: int = 64,
        objective: Objective = "softmax",
        seed: int = 0,
        learning_rate: float | None = None,
        learning_rate_decay: float = 0.0,
        optimizer: Literal["adagrad", "sgd"] = "adagrad",
        l2: float = 0.0,
        max_step: float = 1.0,
        init_scale: float = 0.1,
        negatives: int | None = None,
        recent_share: float = 0.5,
        history: int = 32,
        history_decay: float = 0.5,
        session_gap: float = 3600.0,
        popularity_half_life: float = 14 * 86400.0,
        storage: Literal["fp32", "fp16"] = "fp32",
        ranker: Ranker | None = "auto",
        item_features: Sequence[str] = (),
        neighbors: int | None = None,
        neighbors_window: int = 8,
        neighbors_half_life: float = 120 * 86400.0,
        user_model: Literal["learned", "als"] = "learned",
        als_unobserved_weight: float = ALS.unobserved_weight,
        als_l2: float = ALS.l2,
        als_l2_exponent: float = ALS.l2_exponent,
        threads: int | None = None,
        maintenance: bool = True,
    ) -> None:
        adagrad_rate, sgd_rate, default_negatives = _DEFAULTS.get(objective, (0.0, 0.0, 0))
        if learning_rate is None:
            learning_rate = sgd_rate if optimizer == "sgd" else adagrad_rate
            if user_model == "als":
                learning_rate = 0.0
        if ranker == "auto":
            ranker = "linear" if objective == "softmax" and history != 0 and user_model == "learned" else None
        if neighbors is None:
            neighbors = 0 if ranker is None else 64
        core = _core.Engine(
            {
                "dim": dim,
                "objective": objective,
                "optimizer": optimizer,
                "seed": seed,
                "learning_rate": learning_rate,
                "learning_rate_decay": learning_rate_decay,
                "l2": l2,
                "max_step": max_step,
                "init_scale": init_scale,
                "negatives": default_negatives if negatives is None else negatives,
                "recent_share": recent_share,
                "history": history,
                "history_decay": history_decay,
                "session_gap": session_gap,
                "popularity_half_life": popularity_half_life,
                "storage": storage,
                "ranker": _NO_RANKER if ranker is None else ranker,
                "item_features": _names(item_features),
                "neighbors": neighbors,
                "neighbors_window": neighbors_window,
                "neighbors_half_life": neighbors_half_life,
                "user_model": user_model,
                "als_unobserved_weight": als_unobserved_weight,
                "als_l2": als_l2,
                "als_l2_exponent": als_l2_exponent,
            }
        )
        if threads is not None:
            core.threads = threads
        core.maintenance = maintenance
        self._adopt(core)

    def _adopt(self, core: _core.Engine) -> None:
        self._core = core
        self.users = Ids(core, "user")
        self.items = Ids(core, "item")

    @classmethod
    def from_factors(
        cls,
        user_ids: Any,
        user_factors: npt.ArrayLike,
        item_ids: Any,
        item_factors: npt.ArrayLike,
        user_bias: npt.ArrayLike | None = None,
        item_bias: npt.ArrayLike | None = None,
        *,
        global_bias: float = 0.0,
        **settings: Any,
    ) -> Engine:
        """An engine over the factors of another model, ready to serve and to learn on.

        Parameters
        ----------
        user_ids, item_ids
            Columns of n and m ids.
        user_factors, item_factors
            (n, dim) and (m, dim), taken as float32; rounded to the nearest float16 with ``storage="fp16"``.
        user_bias, item_bias
            (n,) and (m,); `user_bias` and `global_bias` enter `predict` only: they change no ranking.
        settings
            As for the constructor; ``history`` is 0 and ``ranker`` None unless given, so that the vectors are used as
            they are.

        Examples
        --------
        >>> engine = Engine.from_factors([7], [[.1, .2, .3, .4]], [1], [[.5, .6, .7, .8]], [.5], objective="logistic")
        >>> round(float(engine.score(7, [1])[0]), 4), round(engine.predict(7, 1), 4)
        (0.7, 0.7685)
        """
        vectors = np.asarray(item_factors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise ValueError(f"item_factors must be of shape (m, dim), not {vectors.shape}")
        engine = cls(**{"dim": vectors.shape[1], "history": 0, "ranker": None, **settings})
        engine.set_users(user_ids, user_factors, user_bias)
        engine.set_items(item_ids, vectors, item_bias)
        engine._core.global_bias = global_bias
        return engine

    # ---- learning

    def learn_one(
        self,
        user: Id,
        item: Id,
        value: float = 1.0,
        weight: float = 1.0,
        timestamp: Any = None,
        *,
        source: str | None = None,
        offset: int | None = None,
    ) -> None:
        """Learns from one event; later calls, from any thread, see it.

        Parameters
        ----------
        user, item
            Ids, `int` (64-bit) or `str` (at most 512 bytes of UTF-8); new ones are added.
        value
            The rating (squared), the label 0 or 1 (logistic), or for softmax and bpr a positive number: the item was
            chosen, or a negative one: it was disliked, and the next ranking has it and what is like it further down.
        weight
            At least 0; scales the step. 0 only records what the user did.
        timestamp
            Seconds, `datetime64` or `datetime`; omitted, it is the latest one seen.
        source, offset
            Where the event comes from, and its place there, an `int` (64-bit): one at or below the last that was taken
            from this source is skipped, so that a source may deliver again what it does not know to have arrived.
            Offsets are part of the state (`save`, `open`) and in ``stats()["sources"]``. Of one source, one thread at
            a time delivers.

        Raises
        ------
        ValueError, TypeError
            Before anything changes: for a value, weight, timestamp, id or offset that is not valid.
        OSError
            If the engine has a folder (`open`) and the event cannot be logged: it is not learned.

        Examples
        --------
        >>> engine = Engine(objective="squared", dim=8)
        >>> engine.learn_one("ann", "tea", 4.0, timestamp=1.7e9)
        >>> engine.stats()["events"]
        1
        """
        if source is not None or offset is not None:
            moment = math.nan if timestamp is None else _finite_seconds(timestamp)
            name, place = _source(source, offset)
            self._core.learn_one(user, item, value, weight, moment, name, operator.index(place))
        elif timestamp is None:
            self._core.learn_one(user, item, value, weight)
        else:
            self._core.learn_one(user, item, value, weight, _finite_seconds(timestamp))

    def learn_many(
        self,
        users: Any,
        items: Any,
        values: Any = None,
        timestamps: Any = None,
        weights: Any = None,
        threads: int = 1,
        *,
        source: str | None = None,
        offset: Any = None,
    ) -> None:
        """Learns from a batch of events, in order: the same, bit for bit, as `learn_one` on each with ``threads=1``.

        Parameters
        ----------
        users, items
            Columns of n ids: lists, numpy arrays, pandas or polars columns, or anything with ``__arrow_c_stream__``.
        values, timestamps, weights
            Columns of n, each as in `learn_one`; omitted: 1, the latest timestamp seen, 1.
        threads
            Threads that learn at once, without locks, at most `Engine.threads`. The events of one user stay in order.
        source, offset
            As in `learn_one`: the offset of the first event, the others following one by one, or a column of n that
            ascend.

        Raises
        ------
        ValueError, TypeError
            Before the first event, if any is not valid.
        OSError
            If the engine has a folder (`open`) and an event cannot be logged; the message says how many were learned:
            the first ones.
        KeyboardInterrupt
            On Ctrl-C, between events; the message says how many were applied (with one thread: the first ones).

        Examples
        --------
        >>> engine = Engine(objective="bpr", history=0, dim=8)
        >>> engine.learn_many([1, 2, 1], [10, 10, 11], timestamps=np.array([0.0, 1.0, 2.0]))
        >>> len(engine.users), len(engine.items)
        (2, 2)
        """
        user_column = id_column(users)
        name, offsets = None, None
        if source is not None or offset is not None:
            name, offset = _source(source, offset)
            offsets = _offsets(offset, len(user_column))
        self._core.learn_many(
            user_column,
            id_column(items),
            number_column(values),
            None if timestamps is None else seconds_column(timestamps),
            number_column(weights),
            threads,
            name,
            offsets,
        )

    def fit(
        self,
        users: Any,
        items: Any,
        values: Any = None,
        *,
        timestamps: Any = None,
        method: Method = "sgd",
        epochs: int = 10,
        validation: float = 0.0,
        patience: int | None = None,
        threads: int | None = None,
        progress: bool | Reporter = False,
    ) -> FitResult:
        """Trains on pairs in epochs, from the rows as they are; the engine goes on learning from events afterwards.

        Queries go on meanwhile. "ials" and "softmax" train copies of the rows of these users and items and then put
        them in place, with biases of zero (or the method's prior): what others teach the engine about them in between
        is lost. Every pair is recorded as an event of its user (seen items, history, popularity), once; by "sgd" in
        every epoch.

        Parameters
        ----------
        users, items, timestamps
            Columns of n, as in `learn_many`; new ids are added.
        values
            "sgd": as in `learn_many`. "ials": the pairs' weights, positive and at most 1e6; those of equal pairs are
            added up. "softmax": None.
        method
            "sgd", the engine's own objective; "ials", implicit alternating least squares; "softmax", softmax over the
            whole catalogue. `Sgd`, `Ials` and `Softmax` hold their options.
        epochs
            Passes over the pairs, at most.
        validation
            This share of the pairs, drawn by the engine's seed, is held out: recall@20 on them (of at most 5,000 users)
            is taken after each epoch, and the engine is left with the rows that did best. They are recorded, but not
            learned from.
        patience
            Stop after so many epochs without a better recall.
        threads
            At most `Engine.threads`, the default. With one thread equal calls give equal rows.
        progress
            True for a progress bar (tqdm, extra ``[evaluate]``), or a function that is called with an `Epoch` after
            each.

        Returns
        -------
        FitResult
            Also after Ctrl-C, which ends the training and keeps what is learned.

        Raises
        ------
        ValueError, TypeError
            Before anything changes, naming what is not valid.

        Examples
        --------
        >>> engine = Engine(dim=8, history=0)
        >>> users, items = [1, 1, 2, 2, 3], ["tea", "cup", "tea", "cup", "tea"]
        >>> engine.fit(users, items, method="ials", epochs=5).epochs
        5
        >>> engine.recommend(3, k=1, exclude_seen=True).ids.tolist()
        ['cup']
        """
        return fit(self, users, items, values, timestamps, method, epochs, validation, patience, threads, progress)

    # ---- queries

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
            counting less (`popularity_half_life`); its scores are the decayed counts.
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
            `k`.
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
            return self._explore(user, history, k, (*options, _seed(seed)))
        if seed is not None:
            raise ValueError(f"seed is for explore and diversify, and there is neither with seed={seed!r}")
        if user is None:
            if history is None:
                raise ValueError("recommend needs a user or a history")
            session = id_column(history)
            found = self._core.recommend_history(session, k, exclude_seen, excluded, candidates, condition, way, added)
        elif history is not None:
            raise ValueError("recommend takes a user or a history, not both")
        elif _is_id(user):
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
        if _is_id(user):
            return chosen(self._core.explore(user, *options))
        return chosen_many(self._core.explore_many(id_column(user), *options), k)

    # ---- impressions

    def impression(self, ranking: Ranking, timestamp: Any = None) -> Any:
        """Records that a ranking which a policy chose was shown; the number to give to `feedback`.

        Its items make the model of `ThompsonSampling` and `UCB` more certain. The engine keeps the latest impressions
        (`feedback_settings`), in memory: they are not saved.

        Parameters
        ----------
        ranking
            Of `recommend` with `explore` or `diversify`; of n queries, n numbers, int64 (n,), are returned.
        timestamp
            As in `learn_one`.

        Raises ValueError for a ranking that no policy chose, TypeError for anything else.

        Examples
        --------
        >>> from recengine.explore import Softmax
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]], objective="bpr")
        >>> shown = engine.impression(engine.recommend("ann", k=1, explore=Softmax(0.1), seed=0))
        >>> engine.feedback(shown, "cup", 1.0) > 0
        True
        """
        if not isinstance(ranking, Ranking):
            raise TypeError(f"impression takes a Ranking, not {ranking!r}")
        if not ranking._decisions and not (ranking.ids.ndim == 2 and len(ranking.ids) == 0):
            raise ValueError("impression takes a ranking that a policy chose: recommend(..., explore=Greedy())")
        moment = np.nan if timestamp is None else _finite_seconds(timestamp)
        numbers = [self._core.impression(decision, moment) for decision in ranking._decisions]
        return np.array(numbers, dtype=np.int64) if ranking.ids.ndim == 2 else numbers[0]

    def feedback(self, impression: int, item: Id, reward: float, timestamp: Any = None, *, learn: bool = True) -> float:
        """Joins what the user did with what was shown, and learns from it. Returns the weight it counts with.

        The event is that of `learn_one`, with a weight that corrects for how probable the item was to be shown, and
        looked at, there (`feedback_settings`); 1 where that is not known. Softmax and bpr: a positive reward is a
        choice that counts so much, a negative one a dislike, 0 is recorded and teaches nothing. Logistic: label 1 if
        the reward is positive, else 0. Squared: the reward is the rating.

        Parameters
        ----------
        impression
            A number that `impression` gave.
        item
            One of the items that were shown.
        reward
            Within 1e6. Several for one item add up in the log.
        timestamp
            As in `learn_one`.
        learn
            False: only join and record.

        Raises
        ------
        KeyError
            For an impression that is not known or has expired, or an item that it did not show.
        ValueError
            For a reward that is not a number. Nothing has changed then.

        Examples
        --------
        >>> from recengine.explore import Greedy
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]], objective="bpr")
        >>> shown = engine.impression(engine.recommend("ann", k=1, explore=Greedy()))
        >>> engine.feedback(shown, "cup", -1.0)
        1.0
        """
        moment = np.nan if timestamp is None else _finite_seconds(timestamp)
        if isinstance(impression, bool) or not isinstance(impression, (int, np.integer)):
            raise TypeError(f"impression must be an int, not {impression!r}")
        if impression < 0:
            raise KeyError(f"unknown impression {impression}")
        return self._core.feedback(int(impression), item, reward, moment, learn)

    @property
    def feedback_settings(self) -> Feedback:
        """How many impressions are kept, how long feedback is taken, and how it is weighed; may be set while the engine
        runs.

        >>> engine = Engine()
        >>> engine.feedback_settings = Feedback(window=1800.0)
        >>> engine.feedback_settings.window
        1800.0
        """
        return Feedback(**self._core.feedback_settings())

    @feedback_settings.setter
    def feedback_settings(self, settings: Feedback) -> None:
        if not isinstance(settings, Feedback):
            raise TypeError(f"feedback_settings must be a Feedback, not {settings!r}")
        core = self._core
        core.set_feedback_settings(
            settings.capacity, settings.window, settings.correction, settings.clip, settings.position_bias
        )

    def impressions(self) -> ImpressionLog:
        """The impressions that are kept, oldest first, with what came of them: for `recengine.ope`, Arrow and Parquet.

        >>> from recengine.explore import Random
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> shown = engine.impression(engine.recommend("ann", k=2, explore=Random(), seed=5))
        >>> len(engine.impressions())
        1
        """
        return log_of(self._core.impressions())

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
            ``retrieval``: the way taken ("flat", "gather", "cells" or "graph"); ``certified``; ``cells`` there are and
            ``cells_visited``; rows whose codes were ``rows_screened``, whose vectors were ``rows_scored``, and
            those not coded yet, ``rows_pending``; ``candidates`` of the ranker by source, each counted once
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

    def score(self, user: Id, items: Any) -> npt.NDArray[np.float32]:
        """``<x_u, q_i> + b_i`` of each of n items, float32 (n,). An unknown user has a zero vector.

        Raises KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 2.0]], ["tea"], [[3.0, 4.0]])
        >>> engine.score("ann", ["tea"]).tolist()
        [11.0]
        """
        return self._core.score(user, id_column(items))

    def rank(self, user: Id, items: Any, *, context: Mapping[str, float] | None = None) -> Ranking:
        """These items, each once, as `recommend` would order and score them.

        Raises KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
        >>> engine.rank("ann", ["tea", "cup"]).ids.tolist()
        ['cup', 'tea']
        """
        return single(*self._core.rank(user, id_column(items), self._context(context)))

    def explain(self, user: Id, item: Id) -> Explanation:
        """Why `rank` and `recommend` score an item as they do: the parts that add up to the score.

        The embedding's score falls into the user's row, each item of the history, the bias and the offset; with a
        ranker all of them times its weight, and each other signal times its own, and with ``ranker="mlp"`` what the
        network adds. (A vector that is solved, ``user_model="als"``, is one part.) An unknown user sees the popularity
        ranking.

        Raises KeyError for an unknown item.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea"], [[0.5, 1.0]], item_bias=[0.25])
        >>> explanation = engine.explain("ann", "tea")
        >>> explanation.score, [(part.name, part.contribution) for part in explanation.parts]
        (0.75, [('user', 0.5), ('bias', 0.25)])
        >>> engine = Engine.from_factors([], np.zeros((0, 2)), ["tea", "cup"], [[1.0, 0.0], [1.0, 0.1]], history=2)
        >>> engine.learn_one("ann", "tea", weight=0.0)
        >>> engine.explain("ann", "cup").sentence()
        'because you bought tea'
        """
        score, parts = self._core.explain(user, item)
        return Explanation(user, item, score, tuple(Part(name, _plain(other), *rest) for name, other, *rest in parts))

    def ranker_features(self, user: Id, items: Any) -> dict[str, npt.NDArray[np.float32]]:
        """The signals of n items for a user, as the ranker weighs them: by name, float32 (n,). docs/ranker.md has their
        formulas.

        Raises ValueError without a ranker, KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine(dim=4, seed=0)
        >>> engine.learn_many(["ann", "ann", "bob"], ["tea", "cup", "tea"])
        >>> features = engine.ranker_features("ann", ["tea", "cup"])
        >>> features["in_session"].tolist(), features["after_last"].tolist(), len(features)
        ([1.0, 1.0], [0.0, 0.0], 15)
        """
        values = self._core.ranker_signals(user, id_column(items))
        return {name: values[:, place].copy() for place, name in enumerate(self._core.ranker_names())}

    def ranker_weights(self) -> dict[str, tuple[float, float]]:
        """The ranker's weight of each signal, by name: while a session goes on, and when it is over. Empty without a
        ranker.

        >>> Engine(dim=4).ranker_weights()["score"]
        (1.0, 1.0)
        """
        names, weights = self._core.ranker_names(), self._core.ranker_weights().tolist()
        return dict(zip(names, zip(weights[: len(names)], weights[len(names) :], strict=True), strict=True))

    def _context(self, context: Mapping[str, float] | None) -> list[float]:
        if context is None:
            return []
        if not isinstance(context, Mapping):
            raise TypeError(f"context must map names of item features to numbers, not {context!r}")
        names = self._core.settings()["item_features"]
        for name, value in context.items():
            if name not in names:
                raise ValueError(f"context must name item features, which are {names}, not {name!r}")
            if not isinstance(value, (int, float, np.number)):
                raise TypeError(f"context[{name!r}] must be a number, not {value!r}")
        return [float(context.get(name, 0.0)) for name in names] if context else []

    def predict(self, user: Id, item: Any) -> Any:
        """The probability (logistic: ``sigmoid(score + b_u + b)``) or rating (squared: ``score + b_u + mean``) of an
        item.

        One id gives a float, a column of n ids float32 (n,). An unknown user has no vector and no bias.

        Raises ValueError for other objectives, KeyError naming the first unknown item.

        Examples
        --------
        >>> factors = [1], [[1.0]], [2], [[3.0]], [0.25], [0.5]
        >>> engine = Engine.from_factors(*factors, objective="squared", global_bias=0.25)
        >>> engine.predict(1, 2)
        4.0
        """
        if _is_id(item):
            return float(self._core.predict(user, [item])[0])
        return self._core.predict(user, id_column(item))

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
                np.asarray(vector, dtype=np.float32),
                metric == "cosine",
                k,
                None if exclude is None else id_column(exclude),
                None if among is None else id_column(among),
                core_filter(self._core, filter),
                core_retrieval(retrieval),
            )
        )

    # ---- the caller's features

    def set_item_features(self, items: Any, values: npt.ArrayLike) -> None:
        """Gives n items their `item_features`: values (n, m) in the order of the names, or (n,) for one name.

        They count from the next ranking on. Items that were given none have zeros; removed ones lose theirs.

        Raises ValueError, before anything changes, for another shape or for values that are not finite or beyond 1e15,
        KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine(dim=4, seed=0, item_features=["margin"])
        >>> engine.learn_many(["ann", "bob", "bob"], ["tea", "tea", "cup"])
        >>> engine.set_item_features(["tea", "cup"], [0.0, 1.0])
        >>> engine.recommend("ann", context={"margin": 50.0}, k=1).ids.tolist()
        ['cup']
        """
        table = np.asarray(values, dtype=np.float32)
        self._core.set_item_features(_id_or_column(items), table[:, np.newaxis] if table.ndim == 1 else table)

    # ---- filters

    def set_filter(self, name: str, items: Any) -> None:
        """Creates or replaces a named set of items. A query sees the old set or the new one, never a part.

        Removed items leave every set; an item that comes back is in none.

        Raises KeyError naming the first unknown item, before anything changes.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> engine.set_filter("in_stock", ["tea"])
        >>> engine.filters
        ['in_stock']
        >>> engine.recommend("ann", filter=engine.filter("in_stock")).ids.tolist()
        ['tea']
        """
        self._core.set_filter(name, _id_or_column(items))

    def update_filter(self, name: str, add: Any = (), remove: Any = ()) -> None:
        """Adds items to a named set, then removes others, in one step for whoever queries meanwhile.

        Raises KeyError, before anything changes, for an unknown name or an unknown item in `add`; unknown items in
        `remove` are ignored and counted in `stats`.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> engine.set_filter("in_stock", ["tea"])
        >>> engine.update_filter("in_stock", add=["cup"], remove=["tea"])
        >>> engine.recommend("ann", filter=engine.filter("in_stock")).ids.tolist()
        ['cup']
        """
        self._core.update_filter(name, _id_or_column(add), _id_or_column(remove))

    def remove_filter(self, name: str) -> None:
        """Forgets a named set. KeyError if there is none of that name.

        >>> engine = Engine()
        >>> engine.set_filter("in_stock", [])
        >>> engine.remove_filter("in_stock")
        >>> engine.filters
        []
        """
        self._core.remove_filter(name)

    def filter(self, name: str) -> Filter:
        """Items of a named set, as a filter. KeyError if there is none of that name.

        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
        >>> engine.set_filter("new", [11])
        >>> engine.recommend(1, filter=~engine.filter("new")).ids.tolist()
        [10]
        """
        return self._known(_core.Filter.named(name), f"filter({name!r})")

    def set_groups(self, items: Any, values: Any) -> None:
        """Puts n items into groups: n labels, ``str`` or ``int``, one kind an engine. An item is in one group; a new
        label takes the place of the old one. A label stays known when its last item has left.

        Raises KeyError naming the first unknown item and ValueError for columns of unequal length, before anything
        changes.

        Examples
        --------
        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11, 12], [[1.0], [2.0], [3.0]])
        >>> engine.set_groups([10, 11, 12], ["toys", "games", "books"])
        >>> engine.recommend(1, filter=engine.group("toys", "games")).ids.tolist()
        [11, 10]
        """
        self._core.set_groups(_id_or_column(items), _id_or_column(values))

    def group(self, *labels: Id) -> Filter:
        """Items of any of these groups, as a filter. KeyError if a label is not known.

        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
        >>> engine.set_groups([10], [1950])
        >>> engine.recommend(1, filter=engine.group(1950)).ids.tolist()
        [10]
        """
        return self._known(_core.Filter.groups(labels), f"group({', '.join(map(repr, labels))})")

    @property
    def filters(self) -> list[str]:
        """The names of the filters, sorted.

        >>> engine = Engine()
        >>> engine.set_filter("in_stock", [])
        >>> engine.filters
        ['in_stock']
        """
        return self._core.filter_names()

    def _known(self, core: _core.Filter, text: str) -> Filter:
        self._core.check_filter(core)
        return Filter(self._core, core, text)

    # ---- rows

    def user_vector(self, user: Any) -> npt.NDArray[np.float32]:
        """The vector a query of this user would use now: (dim,) for an id, (n, dim) for a column. A copy. KeyError if
        unknown.

        >>> engine = Engine.from_factors(["ann"], [[1.0, 2.0]], ["tea"], [[0.5, 0.5]], history=1, learning_rate=0.0)
        >>> engine.learn_one("ann", "tea")
        >>> engine.user_vector("ann").tolist()
        [1.5, 2.5]
        """
        if _is_id(user):
            return self._core.user_vectors([user]).reshape(-1)
        return self._core.user_vectors(id_column(user))

    def item_vector(self, item: Any) -> npt.NDArray[np.float32]:
        """The row of an item: (dim,) for an id, (n, dim) for a column. A copy. KeyError if unknown.

        >>> Engine.from_factors([1], [[0.0, 0.0]], [10], [[1.0, 2.0]]).item_vector(10).tolist()
        [1.0, 2.0]
        """
        if _is_id(item):
            return self._core.item_vectors([item]).reshape(-1)
        return self._core.item_vectors(id_column(item))

    def set_users(self, ids: Any, vectors: npt.ArrayLike, biases: npt.ArrayLike | None = None) -> None:
        """Sets the learned rows (n, dim) of n users, and their biases (n,) if given; new users are added.

        Raises ValueError, before anything changes, for another shape or a value that is not finite.

        >>> engine = Engine(dim=2)
        >>> engine.set_users(["ann"], [[1.0, 2.0]])
        >>> engine.user_vector("ann").tolist()
        [1.0, 2.0]
        """
        self._core.set_users(id_column(ids), np.asarray(vectors, dtype=np.float32), number_column(biases))

    def set_items(self, ids: Any, vectors: npt.ArrayLike, biases: npt.ArrayLike | None = None) -> None:
        """Sets the rows (n, dim) of n items, and their biases (n,) if given; new items are added.

        Raises ValueError, before anything changes, for another shape or a value that is not finite.

        >>> engine = Engine(dim=2)
        >>> engine.set_items(["tea"], [[1.0, 2.0]])
        >>> "tea" in engine.items
        True
        """
        self._core.set_items(id_column(ids), np.asarray(vectors, dtype=np.float32), number_column(biases))

    def remove_users(self, ids: Any) -> None:
        """Forgets users. KeyError naming the first unknown one, before anything changes.

        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea"], [[1.0]])
        >>> engine.remove_users("ann")
        >>> "ann" in engine.users
        False
        """
        self._core.remove_users(_id_or_column(ids))

    def remove_items(self, ids: Any) -> None:
        """Removes items: no ranking that starts later holds them. KeyError naming the first unknown one, before
        anything changes.

        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
        >>> engine.remove_items(11)
        >>> engine.recommend(1).ids.tolist()
        [10]
        """
        self._core.remove_items(_id_or_column(ids))

    def factors(self) -> Factors:
        """Everything learned: ids, vectors (n, dim) and biases (n,) of users and items, and the global bias. Copies.

        User vectors are the learned rows alone; `user_vector` adds the history.

        >>> Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]]).factors().item_ids.tolist()
        [10, 11]
        """
        return Factors(*self._core.user_factors(), *self._core.item_factors(), self._core.global_bias)

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to one checksummed file: `load` gives an engine that goes on bit for bit as this one would.

        The file is a point in time: learning waits while it is written, queries go on. It is written beside `path`
        and moved there when it is complete and on disk.

        Raises OSError if it cannot be written; `path` is then as it was.
        """
        self._core.save(_file_name(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Engine:
        """The engine that `save` wrote; or, of the folder of another engine (`open`), its newest snapshot: a copy in
        memory, which does not follow what the other learns and leaves the folder alone.

        Raises
        ------
        FormatError
            (a ValueError) if the file is not one of recengine's, cut short, or damaged.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     engine.save(pathlib.Path(folder) / "engine")
        ...     again = Engine.load(pathlib.Path(folder) / "engine")
        >>> again.recommend("ann", k=1)
        Ranking(cup: 2)
        """
        engine = cls.__new__(cls)
        name = _file_name(path)
        for attempt in range(10):
            try:
                engine._adopt(_core.Engine.load(_newest_snapshot(name) if os.path.isdir(name) else name))
            except FileNotFoundError:
                if attempt == 9 or not os.path.isdir(name):
                    raise  # else a checkpoint has just replaced it
            else:
                break
        return engine

    # ---- durability

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        sync: Literal["always", "interval", "os"] = "interval",
        checkpoint_bytes: int = 64 << 20,
        salvage: bool = False,
        **settings: Any,
    ) -> Engine:
        """The engine that lives in a folder: every change is logged before the call returns, and the next `open` goes
        on where this one ended, however it ended. docs/durability.md has the promise.

        Parameters
        ----------
        folder
            Made if there is none. One process at a time may have it open.
        sync
            When the log reaches the disk, which is what a power cut leaves; a killed process loses nothing in any case.
            "always": before a call returns (threads share the wait). "interval": every second. "os": when the system
            thinks fit.
        checkpoint_bytes
            Once the log is this long, and as long as the last snapshot, a thread takes a `checkpoint`. 0: never.
        salvage
            Recover what comes before damage in the log, instead of raising: what comes after is deleted.
        settings
            As for the constructor, if the folder is new. Otherwise those that are given must be those of the folder;
            `threads` and `maintenance` are set.

        Raises
        ------
        BlockingIOError
            (an OSError) if another process, or another engine of this one, has the folder open.
        ValueError
            For a setting that is not valid, or not that of the folder.
        FormatError
            (a ValueError) for a damaged snapshot, or a log with damage that is not at its end.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Engine.open(folder, dim=16) as engine:
        ...         engine.learn_one("ann", "tea")
        ...     with Engine.open(folder) as engine:
        ...         "ann" in engine.users, engine.settings["dim"]
        (True, 16)
        """
        fresh = cls(**{**settings, "maintenance": False})
        name = _file_name(folder)
        bound = 2**63 - 1
        if not 0 <= operator.index(checkpoint_bytes) <= bound:
            raise ValueError(f"checkpoint_bytes must be between 0 and {bound}, not {checkpoint_bytes}")
        engine = cls.__new__(cls)
        engine._adopt(_core.Engine.open(name, fresh._core.settings(), sync, checkpoint_bytes, bool(salvage)))
        stored, wanted = engine.settings, fresh.settings
        for key in settings.keys() - {"threads", "maintenance"}:
            if stored[key] != wanted[key]:
                engine.close()
                raise ValueError(f"{key} is {stored[key]!r} in {os.fsdecode(name)}, not {wanted[key]!r}")
        if settings.get("threads") is not None:
            engine.threads = settings["threads"]
        engine.maintenance = settings.get("maintenance", True)
        return engine

    def checkpoint(self) -> None:
        """Writes a snapshot to the folder; the log before it, and older snapshots, are deleted once it is on the disk.

        Learning waits while the state is copied, not while it is written; queries go on. Recovery is faster
        afterwards, and of what was removed there is no trace left in the folder. What could not be logged (a full disk)
        is made good.

        Raises ValueError for an engine without a folder, OSError if the snapshot cannot be written: everything is then
        as before.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Engine.open(folder, dim=16) as engine:
        ...     engine.learn_one("ann", "tea")
        ...     engine.checkpoint()
        ...     Engine.load(folder).recommend("ann").ids.tolist()
        ['tea']
        """
        self._core.checkpoint()

    def sync(self) -> None:
        """Returns once everything learned so far is on the disk. ValueError for an engine without a folder.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Engine.open(folder, dim=16, sync="os") as engine:
        ...     engine.learn_one("ann", "tea")
        ...     engine.sync()
        """
        self._with_folder("sync").sync()

    def close(self) -> None:
        """Syncs the log and gives the folder back; changing the engine is a ValueError from now on, queries are
        answered. ValueError for an engine without a folder. ``with Engine.open(...) as engine:`` closes at the end.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     engine = Engine.open(folder, dim=16)
        ...     engine.close()
        ...     engine.stats()["durability"]["closed"]
        True
        """
        self._with_folder("close").close()

    def __enter__(self) -> Engine:
        self._with_folder("with")
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _with_folder(self, what: str) -> _core.Engine:
        if not self._core.durable():
            raise ValueError(f"{what} needs an engine with a folder: Engine.open")
        return self._core

    def __reduce__(self) -> Any:
        raise TypeError(
            "an Engine cannot be pickled or copied: save() it and load() the file where it is needed, "
            "or open() its folder there"
        )

    # ---- running settings and statistics

    @property
    def learning_rate(self) -> float:
        """The base learning rate; may be set while the engine runs. ValueError unless finite and at least 0."""
        return _shortest(self._core.learning_rate)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._core.learning_rate = rate

    @property
    def threads(self) -> int:
        """The most threads one call may use; may be set while the engine runs. ValueError unless 1 to 1024."""
        return self._core.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._core.threads = threads

    @property
    def settings(self) -> dict[str, Any]:
        """All hyper-parameters of this engine, as the constructor takes them.

        >>> Engine(dim=32).settings["dim"]
        32
        """
        settings = {**self._core.settings(), "learning_rate": self.learning_rate, "threads": self.threads}
        settings["item_features"] = tuple(settings["item_features"])
        if settings["ranker"] == _NO_RANKER:
            settings["ranker"] = None
        doubles = ("popularity_half_life", "neighbors_half_life")  # the others are float32 in the core
        return {
            name: _shortest(value) if isinstance(value, float) and name not in doubles else value
            for name, value in settings.items()
        }

    @property
    def maintenance(self) -> bool:
        """Whether a background thread keeps retrieval fast.

        >>> Engine(maintenance=False).maintenance
        False
        """
        return self._core.maintenance

    @maintenance.setter
    def maintenance(self, on: bool) -> None:
        self._core.maintenance = bool(on)

    def maintain(self) -> int:
        """Does the upkeep of retrieval now, on all `threads`: builds cells, moves rows to where they belong, tightens
        bounds, relinks a graph. Queries and learners go on meanwhile. Returns the number of steps.

        >>> engine = Engine.from_factors([1], [[1.0]], range(5_000), [[float(i)] for i in range(5_000)])
        >>> engine.maintain() >= 0, engine.plan(1)["cells"] > 0
        (True, True)
        """
        return self._core.maintain()

    def stats(self) -> dict[str, Any]:
        """Counters, latencies (microseconds, percentiles within 9 %), memory (bytes), the kernels in use, the number of
        cells, and of answers that were not certified the mean recall of a sample (None if there is none).

        ``"sources"``: the last offset of each. ``"durability"`` of an engine with a folder: the number of the log's
        next record, its length since the last snapshot, how often it was synced, checkpoints so far, what recovery
        replayed and cut off, errors that wait to be made good, whether it is closed.

        >>> sorted(Engine().stats())[:4]
        ['cells', 'durability', 'events', 'ignored_ids']
        """
        return self._core.stats()

    def __repr__(self) -> str:
        settings = self._core.settings()
        return (
            f"Engine(objective={settings['objective']!r}, dim={settings['dim']}, "
            f"users={len(self.users)}, items={len(self.items)}, events={self.stats()['events']})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        figures = {**self.stats(), **self.settings}
        shown = (
            "objective",
            "dim",
            "users",
            "items",
            "events",
            "queries",
            "optimizer",
            "learning_rate",
            "kernels",
            "threads",
        )
        rows = "".join(f"<tr><th>{name}</th><td>{escape(str(figures[name]))}</td></tr>" for name in shown)
        return f"<table><caption>recengine.Engine</caption><tbody>{rows}</tbody></table>"


def _names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"item_features must be a sequence of str, not {names!r}")
    return list(names)


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 0.1 rather than 0.10000000149."""
    return float(str(np.float32(value)))


def _finite_seconds(timestamp: Any) -> float:
    moment = seconds(timestamp)
    if moment - moment != 0.0:  # NaN or infinity; NaN would mean "omitted" to the core
        raise ValueError(f"timestamp must be a number of seconds within 1e15, not {timestamp}")
    return moment


def _seed(seed: Any) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an int, not {seed!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be between 0 and 2**63 - 1, not {seed}")
    return int(seed)


def _file_name(path: str | os.PathLike[str]) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError(f"path must not hold a null character: {path!r}")
    return name


def _newest_snapshot(folder: bytes) -> bytes:
    snapshots = [name for name in os.listdir(folder) if name.startswith(b"snapshot-")]
    if not snapshots:
        raise IsADirectoryError(errno.EISDIR, f"no file and no engine's folder: {os.fsdecode(folder)}")
    return os.path.join(folder, max(snapshots))


def _plain(value: Any) -> Any:
    """A Python int in place of numpy's."""
    return value.item() if isinstance(value, np.integer) else value


def _source(source: str | None, offset: Any) -> tuple[str, Any]:
    if source is None or offset is None:
        raise ValueError("source and offset belong together")
    return source, offset


def _offsets(offset: Any, events: int) -> npt.NDArray[np.int64]:
    """One for each event; of a single number, that and those that follow."""
    if isinstance(offset, (int, np.integer)) and not isinstance(offset, bool):
        if not -(2**63) <= offset <= 2**63 - 1 - events:
            raise ValueError(f"offset must be a 64-bit number, not {offset}")
        return np.arange(offset, int(offset) + events, dtype=np.int64)
    column = np.asarray(offset)
    if column.dtype.kind not in "iu" or not np.can_cast(column.dtype, np.int64):
        raise TypeError(f"offset must be an int or a column of ints, not {column.dtype}")
    return column.astype(np.int64)


def _id_or_column(ids: Any) -> Sequence[Any] | Any:
    return [ids] if _is_id(ids) else id_column(ids)

"""The engine, whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.engine.catalogue import Catalogue
from recengine.engine.decisions import Decisions
from recengine.engine.files import Files
from recengine.engine.learning import Learning
from recengine.engine.queries import Queries
from recengine.engine.rows import Rows
from recengine.engine.scores import Scores
from recengine.fit import FitResult, Method, Reporter, fit


class Engine(Learning, Queries, Scores, Decisions, Catalogue, Rows, Files):
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
        None: several half-lives, from ten minutes to never, whose weights are learned from what new users choose first;
        without a ranker 14 days.
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
        user and 65 an item.
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
    max_users, max_items
        Most users and items that there may be; None: as many as come.
    evict
        What happens where there is no room for a new one. "error": a ValueError before anything changes, for a batch
        before its first event. "lru": those that were learned from, or set, least recently go, one in 32 at once, as if
        by `remove_users` and `remove_items`. 8 bytes a user and item.
    user_budget
        Events of a user an hour that teach the engine anything; None: all. A token bucket (it holds an hour's events
        and fills by as many an hour of the latest timestamp seen, so that without timestamps it never fills again).
        What is over it only enters the user's own history and seen items: no row moves, nothing is counted as popular
        or as chosen together, so that one user who floods an item cannot lift it for others. Nothing is raised;
        ``stats()["over_budget"]`` counts. Items that come in such events are added, but are the first to be evicted.
    max_weight, max_value
        The largest weight of an event, and for "squared" the largest rating, without its sign; larger ones are refused.
        An event that outweighs all others by many orders would leave the rows it touches nearly frozen for as many
        events (Adagrad adds up squares) and the mean of ratings far off. ``math.inf``: any finite weight, ratings
        within 1e15.
    max_ahead
        Seconds that a timestamp may be ahead of this machine's clock; what is further ahead is refused (`learn_many`
        can skip it). An event from far ahead would be popular for as long, and sessions would not end until then, since
        the engine's clock is the latest timestamp; with the default of a day it recovers within one. Times of the past
        are taken as they are: they count what they still weigh. ``math.inf``: any time within 1e15 seconds.
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

    __slots__ = ()

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
            Stop after so many epochs without a better recall. The rows and biases of the best epoch are put back;
            what ``"sgd"`` learned beside them, weights of the history and of the ranker, stays as it is.
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

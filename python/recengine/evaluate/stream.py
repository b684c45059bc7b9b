"""Prequential evaluation: every event is first a query, then a lesson.

Dawid (1984), "Present position and potential developments: the prequential approach"; for recommenders Vinagre et al.
(2014), "Evaluation of recommender systems in streaming environments".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .bar import Reporter, reporter
from .columns import Columns, check
from .comparison import BaselineRun, Compared, chosen
from .figures import group_labels
from .history import History
from .metric import check_k
from .order import Order, in_order
from .recorder import Recorder
from .result import PrequentialResult
from .sessions import check_gap, first_of_session

if TYPE_CHECKING:
    from recengine.events import Events

_WARMUP_CHUNK = 8192
_SNAPSHOT_EVERY_NS = 200_000_000


class Recommendation(Protocol):
    """What a query returns: ids, best first, and their scores."""

    @property
    def ids(self) -> np.ndarray[Any, Any]: ...

    @property
    def scores(self) -> np.ndarray[Any, Any]: ...


class Recommender(Protocol):
    """The part of ``recengine.Engine`` that a prequential run needs."""

    @property
    def items(self) -> Sized: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def learn_one(self, user: Any, item: Any, /, *, value: float, timestamp: float | None) -> object: ...

    def learn_many(self, users: Any, items: Any, /, *, values: Any, timestamps: Any) -> object: ...

    def recommend(self, user: Any, /, *, k: int, exclude_seen: bool) -> Recommendation: ...

    def predict(self, user: Any, item: Any, /) -> float: ...


def prequential(
    engine: Recommender,
    events: Events,
    *,
    k: int = 10,
    exclude_seen: bool = False,
    warmup: float = 0.3,
    order: Order = "file",
    order_seed: int = 0,
    session_gap: float = 1800.0,
    compare: Compared = (),
    group: Callable[[Any], object] | None = None,
    progress: bool | Reporter = False,
) -> PrequentialResult:
    """Run ``engine`` over a stream: each event is first a query, scored, and then a lesson.

    The first ``warmup`` of the events is only learned (with ``learn_many``, in chunks). Each later event asks the
    engine for a recommendation to its user, takes the rank of its item, and is then learned (with ``learn_one``).
    Beside it run two baselines under the same rules: popularity of all time, and with a half-life of 7 days. Others
    can be compared: they go over the same events afterwards, so that the engine's times are its own.

    The rules, none of which favours the engine:

    - Ties count against: the rank of the true item is the number of returned items that do not score strictly below
      it, itself included, and a hit is a rank of at most k. The engine is asked for k + 1 items, so that a tie across
      the border shows: if the true item scores like the one at place k + 1, its rank is k + 1, a miss. If it is not
      among the k + 1, its rank is above k whatever ties follow. A score that is nan is a miss.
    - An item that has not come before in the stream is a miss, even if the engine knows it from elsewhere.
    - An event whose value is 0 or negative is learned, but is no query, and adds nothing to popularity.
    - With ``exclude_seen``, items of the user's earlier events are recommended neither by the engine nor by the
      baselines: an event that repeats one is a miss for all.

    A KeyboardInterrupt ends the run and gives the result so far, with ``interrupted`` set; a chunk of the warm-up that
    it cuts short is not counted, and of the compared baselines none is begun any more.

    Parameters
    ----------
    engine
        An ``Engine``, or anything with its ``learn_one``, ``learn_many``, ``recommend``, ``items`` and ``settings``,
        and for the objectives "squared" and "logistic" ``predict``. It goes on from what it knows and keeps what it
        learns.
    events
        In time order. Without timestamps the order is taken as it is, and the 7-day popularity is nan.
    k
        Length of the rankings that are judged.
    exclude_seen
        Whether the items of a user's earlier events are left out of the rankings.
    warmup
        Share of the events that is only learned, in [0, 1].
    order
        "file" takes the events as they come. "shuffled" shuffles those of equal user and time among their places: the
        order in which a file lists the lines of one invoice may tell what comes next, and nobody has it live. A gain
        that holds in one order only is a gain from that order.
    order_seed
        Of the shuffling.
    session_gap
        Seconds without an event of the user after which the next one opens a session, for the figures
        ``first_of_session``. All lines of an invoice have one time, hence one session.
    compare
        Names of baselines (``recengine.baselines``), or a mapping from names to new ones, which learn in the course.
        "popularity" and "popularity_7d" always run.
    group
        A function from a user id to the name of a group, such as ``segments.get``; the result then has figures by
        group. Users for whom it returns None belong to none.
    progress
        True for a progress bar (tqdm, extra ``[evaluate]``), or a function that is called with a ``Progress`` about
        every 0.2 s and once at the end.

    Raises
    ------
    ValueError
        For events out of time order (naming the first row that is), a timestamp or value that is not finite, a
        parameter out of range, "shuffled" without timestamps, a baseline unknown or not new; before anything is
        learned.
    TypeError
        For a ``k`` that is no integer, or a baseline that is none; before anything is learned.
    ImportError
        For ``progress=True`` without tqdm; before anything is learned.

    Examples
    --------
    >>> from recengine import Engine
    >>> from recengine.events import Events
    >>> users, items = ["ann", "bob"] * 50, ["tea", "milk"] * 50
    >>> result = prequential(Engine(dim=8), Events(users, items, np.arange(100.0)), k=1)
    >>> result.events, result.evaluated, result.recall
    (100, 70, 1.0)
    >>> result = prequential(Engine(dim=8), Events(users, items), k=1, compare=["cooccurrence"])
    >>> result.baselines["cooccurrence"].recall, result.baselines["cooccurrence"].recall_lead
    (0.0, 1.0)
    """
    check_k(k)
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup must be in [0, 1], got {warmup!r}")
    gap, baselines = check_gap(session_gap), chosen(compare)
    check(events)
    events = in_order(events, order, order_seed)
    columns = Columns.of(events)
    first = int(len(events) * warmup)
    queried = first + np.flatnonzero(np.array(columns.values[first:]) > 0)
    labels = group_labels(group, [columns.users[row] for row in queried.tolist()])
    users = np.array(columns.user_codes, dtype=np.intp)
    opening = first_of_session(users, events.timestamps, gap)
    has_times = events.timestamps is not None
    run = _Run(
        engine=engine,
        events=events,
        columns=columns,
        first=first,
        exclude_seen=exclude_seen,
        history=History(columns.distinct_items, has_times=has_times, exclude_seen=exclude_seen),
        recorder=Recorder(
            k=k, total=len(events), queries=len(queried), lessons=len(events) - first, has_times=has_times
        ),
    )
    others = {
        name: BaselineRun(baseline, columns, first=first, k=k, exclude_seen=exclude_seen)
        for name, baseline in baselines.items()
    }
    interrupted = False
    with reporter(progress, len(events)) as report:
        try:
            run.warm_up(report)
            run.evaluate(report)
            if report is not None:
                report(run.recorder.progress())
            for name, other in others.items():
                run.compare(name, other, report)
        except KeyboardInterrupt:
            interrupted = True
    return run.recorder.result(
        protocol={"order": order, "order_seed": order_seed, "session_gap": gap},
        users=users[queried],
        first=opening[queried],
        compared={name: other.ranks[: other.queries] for name, other in others.items()},
        labels=labels,
        values=None if events.values is None else events.values[first:],
        catalogue_size=len(engine.items),
        settings=engine.settings,
        interrupted=interrupted,
    )


@dataclass(frozen=True)
class _Run:
    """One pass over the events. Those before ``first`` are only learned."""

    engine: Recommender
    events: Events
    columns: Columns
    first: int
    exclude_seen: bool
    history: History
    recorder: Recorder

    def warm_up(self, report: Reporter | None) -> None:
        """Learn the events before ``first``, many at once."""
        events, recorder = self.events, self.recorder
        start = due = perf_counter_ns()
        for begin in range(0, self.first, _WARMUP_CHUNK):
            chunk = slice(begin, min(begin + _WARMUP_CHUNK, self.first))
            self.engine.learn_many(
                events.users[chunk],
                events.items[chunk],
                values=None if events.values is None else events.values[chunk],
                timestamps=None if events.timestamps is None else events.timestamps[chunk],
            )
            for user, item, code, value, age, _ in self.columns.rows(chunk):
                self.history.learn(user, item, code, value, age)
            recorder.warmed_up = chunk.stop
            now = perf_counter_ns()
            recorder.warmup_ns = now - start
            if report is not None and now >= due:
                report(recorder.progress())
                due = perf_counter_ns() + _SNAPSHOT_EVERY_NS

    def evaluate(self, report: Reporter | None) -> None:
        """Each event from ``first`` on: query, score, learn. The loop is flat for speed: beside the engine's own work,
        an event must cost a few microseconds."""
        engine, history, recorder, k, clock = self.engine, self.history, self.recorder, self.recorder.k, perf_counter_ns
        predicts = self.events.values is not None and engine.settings.get("objective") in ("squared", "logistic")
        query = 0
        start = clock()
        due = start + _SNAPSHOT_EVERY_NS
        for lesson, (user, item, code, value, age, timestamp) in enumerate(self.columns.rows(slice(self.first, None))):
            if value > 0:
                asked = clock()
                ranking = engine.recommend(user, k=k + 1, exclude_seen=self.exclude_seen)
                recorder.query_ns[query] = clock() - asked
                shown = ranking.ids.tolist()
                seen = history.seen(user)
                # An item of an event of label 0 is not excluded by the engine: it was not chosen. Nor does it count.
                is_eligible = item in history.items and code not in seen
                recorder.rank[query] = tied_rank(item, shown, ranking.scores, k) if is_eligible else k + 1
                recorder.popularity_rank[query] = history.popularity.rank(0, code, k, seen)
                if history.popularity_7d is not None:
                    recorder.popularity_7d_rank[query] = history.popularity_7d.rank(0, code, k, seen)
                del shown[k:]
                recorder.novelty[query] = history.novelty(shown)
                recorder.exposures.update(shown)
                query += 1
                recorder.queries = query
            if predicts and item in history.items and user in history.users:
                recorder.predicted[lesson] = engine.predict(user, item)
            taught = clock()
            engine.learn_one(user, item, value=value, timestamp=timestamp)
            now = clock()
            recorder.learn_ns[lesson] = now - taught
            history.learn(user, item, code, value, age)
            recorder.lessons = lesson + 1
            recorder.evaluation_ns = now - start
            if report is not None and now >= due:
                report(recorder.progress())
                due = clock() + _SNAPSHOT_EVERY_NS

    def compare(self, name: str, other: BaselineRun, report: Reporter | None) -> None:
        """Let a baseline go over all events that the engine went through."""
        due = perf_counter_ns()

        def tell(done: int) -> None:
            nonlocal due
            if report is not None and perf_counter_ns() >= due:
                report(self.recorder.progress(name, done))
                due = perf_counter_ns() + _SNAPSHOT_EVERY_NS

        other.run(tell)
        if report is not None:
            report(self.recorder.progress(name, len(self.events)))


def tied_rank(item: Any, ids: list[Any], scores: np.ndarray[Any, Any], k: int) -> int:
    """The rank of ``item``, ties against it: how many of ``scores`` are not strictly below its own. k + 1 stands for
    more than k, for an item that is not among ``ids``, and for a score that is nan."""
    if item not in ids:
        return k + 1
    rivals = scores.tolist()
    own = rivals[ids.index(item)]
    if math.isnan(own):
        return k + 1
    return min(sum([not rival < own for rival in rivals]), k + 1)

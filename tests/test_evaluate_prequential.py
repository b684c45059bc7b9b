"""Prequential runs against the rules written out event by event, with a small engine of the tests' own."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine
from recengine.baselines import NAMES, Baseline, Cooccurrence, Personal, Popularity, WithIds, make
from recengine.baselines.base import Scores
from recengine.evaluate import PrequentialResult, Progress, mean_interval, prequential
from recengine.evaluate.order import in_order
from recengine.evaluate.stream import tied_rank
from recengine.events import Events

DAY = 86400.0


@dataclass
class Answer:
    ids: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]


class CountingEngine:
    """Scores an item by how often it was learned, plus 2 for each time by this user: this makes many ties."""

    def __init__(self, objective: str = "softmax", known: tuple[Any, ...] = ()) -> None:
        self.settings = {"objective": objective, "dim": 4}
        self.items: dict[Any, int] = dict.fromkeys(known, 0)
        self.own: defaultdict[Any, Counter[Any]] = defaultdict(Counter)
        self.lessons: list[tuple[Any, Any, float, float | None]] = []
        self.learned_in_bulk = 0
        self.queries: list[tuple[Any, int, bool]] = []

    def learn_one(self, user: Any, item: Any, /, *, value: float, timestamp: float | None) -> None:
        self.items[item] = self.items.get(item, 0) + 1
        self.own[user][item] += 1
        self.lessons.append((user, item, value, timestamp))

    def learn_many(self, users: Any, items: Any, /, *, values: Any, timestamps: Any) -> None:
        values = np.ones(len(users)) if values is None else values
        timestamps = [None] * len(users) if timestamps is None else timestamps
        for user, item, value, timestamp in zip(users, items, values, timestamps, strict=True):
            self.learn_one(user, item, value=float(value), timestamp=timestamp)
        self.learned_in_bulk += len(users)

    def score(self, user: Any, item: Any) -> float:
        return float(self.items[item] + 2 * self.own.get(user, Counter())[item])

    def recommend(self, user: Any, /, *, k: int, exclude_seen: bool) -> Answer:
        self.queries.append((user, k, exclude_seen))
        own = self.own.get(user, Counter())
        candidates = [item for item in self.items if not (exclude_seen and item in own)]
        best = sorted(candidates, key=lambda item: -self.score(user, item))[:k]
        ids = np.empty(len(best), dtype=object)
        ids[:] = best
        return Answer(ids, np.array([self.score(user, item) for item in best], dtype=np.float32))

    def predict(self, user: Any, item: Any, /) -> float:
        if user not in self.own or item not in self.items:
            raise KeyError((user, item))
        return 1 / (1 + self.items[item])


@dataclass
class Reference:
    """What a run should find, from complete rankings and everything counted anew."""

    ranks: list[int] = field(default_factory=list)
    popularity: list[int] = field(default_factory=list)
    popularity_7d: list[int] = field(default_factory=list)
    novelty: list[float] = field(default_factory=list)
    shown: Counter[Any] = field(default_factory=Counter)
    predictions: list[tuple[float, float]] = field(default_factory=list)


def place(scores: dict[Any, float], item: Any) -> float:
    """Ties against; infinite for an item without a score."""
    return sum(score >= scores[item] for score in scores.values()) if item in scores else math.inf


def reference(engine: CountingEngine, events: Events, k: int, exclude_seen: bool, first: int) -> Reference:
    found = Reference()
    values = [1.0] * len(events) if events.values is None else [float(value) for value in events.values]
    times = [0.0] * len(events) if events.timestamps is None else [float(time) for time in events.timestamps]
    rows = list(zip(events.users, events.items, values, times, strict=True))
    for number, (user, item, value, time) in enumerate(rows):
        past = rows[:number]
        if number >= first and value > 0:
            seen = {other for someone, other, _, _ in past if exclude_seen and someone == user}
            scores = {other: engine.score(user, other) for other in engine.items if other not in seen}
            came = any(other == item for _, other, _, _ in past)
            found.ranks.append(int(min(place(scores, item), k + 1)) if came else k + 1)
            counts = Counter(other for _, other, worth, _ in past if worth > 0)
            decayed: defaultdict[Any, float] = defaultdict(float)
            for _, other, worth, then in past:
                if worth > 0:
                    decayed[other] += 2.0 ** ((then - time) / (7 * DAY))
            for weights, ranks in ((dict(counts), found.popularity), (decayed, found.popularity_7d)):
                unseen = {other: weight for other, weight in weights.items() if other not in seen}
                ranks.append(int(min(place(unseen, item), k + 1)))
            top = sorted(scores, key=lambda other: -scores[other])[:k]
            found.shown.update(top)
            if top:
                bits = [math.log2(max(counts.total(), 1) / max(counts[other], 1)) for other in top]
                found.novelty.append(sum(bits) / len(bits))
        if number >= first and user in engine.own and item in engine.items and any(i == item for _, i, _, _ in past):
            found.predictions.append((value, engine.predict(user, item)))
        engine.learn_one(user, item, value=value, timestamp=time)
    return found


def mean(figures: list[float]) -> float:
    return sum(figures) / len(figures) if figures else math.nan


def assert_figures(result: PrequentialResult, name: str, ranks: list[int], k: int) -> None:
    figures = {
        "recall": mean([float(rank <= k) for rank in ranks]),
        "ndcg": mean([1 / math.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]),
        "mrr": mean([1 / rank if rank <= k else 0.0 for rank in ranks]),
    }
    for metric, expected in figures.items():
        assert getattr(result, name + metric) == pytest.approx(expected, nan_ok=True), name + metric
    deciles = [mean([float(rank <= k) for rank in part]) for part in np.array_split(np.array(ranks), 10)]
    assert getattr(result, name + "recall_by_decile") == pytest.approx(deciles, nan_ok=True)


IDS: list[Any] = [list("abcdefgh"), list(range(8))]


@st.composite
def streams(draw: st.DrawFn) -> Events:
    ids = draw(st.sampled_from(IDS))
    rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(0, 9)), max_size=40))
    values = draw(st.none() | st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.5]), min_size=len(rows), max_size=len(rows)))
    # Pauses in whole half-lives or none: decayed counts are exact, and ties real, in both ways of computing them.
    times = np.cumsum([7 * DAY * (pause == 9) for _, _, pause in rows])
    return Events(
        users=[user for user, _, _ in rows],
        items=[ids[item] for _, item, _ in rows],
        timestamps=draw(st.sampled_from([None, 1.7e9 + times.astype(np.float64)])),
        values=None if values is None else np.array(values, dtype=np.float32),
    )


@settings(max_examples=200, deadline=None)
@given(
    events=streams(),
    k=st.integers(1, 9),
    exclude_seen=st.booleans(),
    warmup=st.sampled_from([0.0, 0.3, 1.0]),
    known=st.sampled_from([(), ("a", "new", 3)]),
    objective=st.sampled_from(["softmax", "squared", "logistic"]),
)
def test_equal_to_the_rules(
    events: Events, k: int, exclude_seen: bool, warmup: float, known: tuple[Any, ...], objective: str
) -> None:
    engine = CountingEngine(objective, known)
    result = prequential(engine, events, k=k, exclude_seen=exclude_seen, warmup=warmup)
    first = int(len(events) * warmup)
    expected = reference(CountingEngine(objective, known), events, k, exclude_seen, first)

    assert (result.events, result.evaluated, result.k) == (len(events), len(expected.ranks), k)
    assert not result.interrupted
    assert_figures(result, "", expected.ranks, k)
    assert_figures(result, "popularity_", expected.popularity, k)
    assert_figures(result, "popularity_7d_", expected.popularity_7d if events.timestamps is not None else [], k)

    shown = sorted(expected.shown[item] for item in engine.items)
    if sum(shown):
        assert result.coverage == sum(count > 0 for count in shown) / len(shown)
        differences = sum(abs(one - other) for one in shown for other in shown)
        assert result.gini == pytest.approx(differences / (2 * len(shown) * sum(shown)))
    else:
        assert math.isnan(result.coverage)
        assert math.isnan(result.gini)
    assert result.novelty == pytest.approx(mean(expected.novelty), nan_ok=True, abs=1e-12)

    errors = [value - predicted for value, predicted in expected.predictions if events.values is not None]
    losses = [
        -math.log(predicted if value > 0 else 1 - predicted)
        for value, predicted in expected.predictions
        if events.values is not None
    ]
    rating, label = objective == "squared", objective == "logistic"
    assert result.mae == pytest.approx(mean([abs(error) for error in errors if rating]), nan_ok=True)
    squares = mean([error**2 for error in errors if rating])
    assert result.rmse == pytest.approx(math.sqrt(squares), nan_ok=True)
    assert result.log_loss == pytest.approx(mean([loss for loss in losses if label]), nan_ok=True)


@settings(deadline=None)
@given(events=streams(), exclude_seen=st.booleans())
def test_what_the_engine_is_asked_and_taught(events: Events, exclude_seen: bool) -> None:
    engine = CountingEngine()
    prequential(engine, events, k=4, exclude_seen=exclude_seen)
    values = [1.0] * len(events) if events.values is None else events.values.tolist()
    times = [None] * len(events) if events.timestamps is None else events.timestamps.tolist()
    assert engine.lessons == list(zip(events.users, events.items, values, times, strict=True))
    first = int(len(events) * 0.3)
    assert engine.learned_in_bulk == first
    positive = [user for user, value in zip(events.users[first:], values[first:], strict=True) if value > 0]
    assert engine.queries == [(user, 5, exclude_seen) for user in positive]


@pytest.mark.parametrize(
    ("scores", "ranks"),
    [
        ([4.0, 3.0, 2.0, 1.0], [1, 2, 3, 4]),
        ([4.0, 3.0, 3.0, 1.0], [1, 3, 3, 4]),
        ([4.0, 3.0, 2.0, 2.0], [1, 2, 4, 4]),
        ([1.0, 1.0, 1.0, 1.0], [4, 4, 4, 4]),
        ([4.0, math.nan, 2.0, 1.0], [2, 4, 3, 4]),
        ([math.nan, math.nan, math.nan, math.nan], [4, 4, 4, 4]),
        ([3.0, 3.0], [2, 2]),
        ([math.nan], [4]),
        ([math.inf, -math.inf], [1, 2]),
    ],
)
def test_ties_and_nan_count_against(scores: list[float], ranks: list[int]) -> None:
    ids = list("abcd")[: len(scores)]
    assert [tied_rank(item, ids, np.array(scores, dtype=np.float32), 3) for item in ids] == ranks
    assert tied_rank("elsewhere", ids, np.array(scores, dtype=np.float32), 3) == 4


def buying(items: str, **columns: Any) -> Events:
    return Events(users=["u"] * len(items), items=list(items), **columns)


def test_a_new_item_is_a_miss_even_if_the_engine_knows_it() -> None:
    result = prequential(CountingEngine(known=("a", "b")), buying("ab"), k=5, warmup=0.0)
    assert (result.evaluated, result.recall) == (2, 0.0)
    assert prequential(CountingEngine(), buying("aa"), k=5, warmup=0.0).recall == 0.5


def test_a_repeated_item_is_a_miss_if_seen_ones_are_excluded() -> None:
    events = buying("aaaa")
    assert prequential(CountingEngine(), events, warmup=0.5).recall == 1.0
    excluded = prequential(CountingEngine(), events, warmup=0.5, exclude_seen=True)
    assert (excluded.recall, excluded.popularity_recall, excluded.evaluated) == (0.0, 0.0, 2)


@pytest.mark.parametrize("events", [buying(""), buying("a"), buying("abc", values=np.zeros(3, dtype=np.float32))])
def test_too_few_events_give_nan(events: Events) -> None:
    result = prequential(CountingEngine(), events, warmup=1.0)
    assert (result.events, result.evaluated) == (len(events), 0)
    assert math.isnan(result.recall)
    assert all(math.isnan(recall) for recall in result.popularity_recall_by_decile)
    assert math.isnan(result.query_us_p50)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["recall"] is None
    assert "nan" in str(result)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"timestamps": np.array([1.0, 3.0, 2.0, 1.0])}, r"row 2 \(2\.0\) is earlier than row 1 \(3\.0\)"),
        ({"timestamps": np.array([1.0, math.nan, 2.0, 3.0])}, "row 1: timestamp must be finite, got nan"),
        ({"values": np.array([1, 1, 1, math.inf], dtype=np.float32)}, "row 3: value must be finite, got inf"),
    ],
)
def test_refuses_events(columns: dict[str, Any], message: str) -> None:
    engine = CountingEngine()
    with pytest.raises(ValueError, match=message):
        prequential(engine, buying("abab", **columns))
    assert engine.lessons == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2.5}, TypeError, "2.5"),
        ({"warmup": 1.5}, ValueError, "1.5"),
        ({"warmup": math.nan}, ValueError, "nan"),
        ({"progress": 3}, TypeError, "3"),
    ],
)
def test_refuses_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    engine = CountingEngine()
    with pytest.raises(error, match=message):
        prequential(engine, buying("abab"), **options)
    assert engine.lessons == []


class InterruptedEngine(CountingEngine):
    """Ctrl-C at the n-th call of one method."""

    def __init__(self, method: str, call: int) -> None:
        super().__init__()
        self._method, self._left = method, call

    def _tick(self, method: str) -> None:
        self._left -= method == self._method
        if method == self._method and self._left == 0:
            raise KeyboardInterrupt

    def learn_many(self, users: Any, items: Any, /, *, values: Any, timestamps: Any) -> None:
        self._tick("learn_many")
        super().learn_many(users, items, values=values, timestamps=timestamps)

    def learn_one(self, user: Any, item: Any, /, *, value: float, timestamp: float | None) -> None:
        self._tick("learn_one")
        super().learn_one(user, item, value=value, timestamp=timestamp)

    def recommend(self, user: Any, /, *, k: int, exclude_seen: bool) -> Answer:
        self._tick("recommend")
        return super().recommend(user, k=k, exclude_seen=exclude_seen)


@pytest.mark.parametrize(
    ("method", "call", "events", "evaluated"),
    [("learn_many", 1, 0, 0), ("recommend", 1, 6, 0), ("recommend", 9, 14, 8), ("learn_one", 6 + 9, 14, 9)],
)
def test_an_interrupt_gives_the_result_so_far(method: str, call: int, events: int, evaluated: int) -> None:
    stream = buying("abcabbcabcaabbacbbca")
    result = prequential(InterruptedEngine(method, call), stream)
    assert result.interrupted
    assert (result.events, result.evaluated) == (events, evaluated)
    expected = reference(CountingEngine(), stream, 10, False, 6)
    assert_figures(result, "", expected.ranks[:evaluated], 10)
    assert_figures(result, "popularity_", expected.popularity[:evaluated], 10)
    assert "interrupted" in str(result)
    assert result.to_dict()["interrupted"] is True


def test_an_interrupt_while_reporting_also_gives_the_result_so_far() -> None:
    def stop(now: Progress) -> None:
        raise KeyboardInterrupt

    result = prequential(CountingEngine(), buying("abab" * 5), progress=stop)
    assert (result.interrupted, result.events) == (True, 6)


def test_other_errors_of_the_engine_pass() -> None:
    class Broken(CountingEngine):
        def recommend(self, user: Any, /, *, k: int, exclude_seen: bool) -> Answer:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        prequential(Broken(), buying("abab"))


def test_progress_ends_with_the_figures_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recengine.evaluate.stream._SNAPSHOT_EVERY_NS", 0)
    monkeypatch.setattr("recengine.evaluate.stream._WARMUP_CHUNK", 4)
    snapshots: list[Progress] = []
    events = buying("abcabbcabcaabbacbbca", timestamps=np.arange(20.0))
    result = prequential(CountingEngine(), events, k=1, progress=snapshots.append)
    assert [now.done for now in snapshots] == [4, *range(6, 21), 20]
    assert [now.evaluated for now in snapshots] == [0, 0, *range(1, 15), 14]
    assert {now.total for now in snapshots} == {20}
    assert math.isnan(snapshots[0].recall)
    assert snapshots[0].events_per_s > 0
    last = snapshots[-1]
    for name in ("recall", "popularity_recall", "popularity_7d_recall", "learn_us_p50", "query_us_p99"):
        assert getattr(last, name) == getattr(result, name)
    assert 0 < last.recall < 1


def test_a_bar_on_stderr_only_when_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr("recengine.evaluate.stream._SNAPSHOT_EVERY_NS", 0)
    prequential(CountingEngine(), buying("abab"))
    assert capsys.readouterr() == ("", "")
    prequential(CountingEngine(), buying("abab"), progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "4/4" in printed.err
    assert "recall" in printed.err


def test_a_bar_without_tqdm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    engine = CountingEngine()
    with pytest.raises(ImportError, match=r'pip install "recengine\[evaluate\]"'):
        prequential(engine, buying("abab"), progress=True)
    assert engine.lessons == []


def test_groups_equal_the_ranks_of_their_users() -> None:
    rng = np.random.default_rng(5)
    users, items = rng.integers(0, 5, 300).tolist(), (rng.zipf(1.5, 300) % 7).tolist()
    events = Events(users=users, items=items)
    segments = {0: "new", 1: "new", 2: "old", 3: 7}
    result = prequential(CountingEngine(), events, k=2, group=segments.get)
    ranks = reference(CountingEngine(), events, 2, False, 90).ranks
    assert list(result.groups) == ["7", "new", "old"]
    for label, figures in result.groups.items():
        own = [rank for rank, user in zip(ranks, users[90:], strict=True) if str(segments.get(user)) == label]
        assert figures.evaluated == len(own)
        assert figures.recall == pytest.approx(mean([float(rank <= 2) for rank in own]))
        assert figures.mrr == pytest.approx(mean([1 / rank if rank <= 2 else 0.0 for rank in own]))
    recalls = [figures.recall for figures in result.groups.values()]
    assert result.recall_gap == max(recalls) - min(recalls) > 0
    assert result.to_dict()["groups"]["new"]["recall"] == result.groups["new"].recall
    assert "  old" in str(result)
    assert math.isnan(prequential(CountingEngine(), events).recall_gap)


def test_result_is_readable_and_serialisable() -> None:
    engine = CountingEngine("squared")
    engine.settings |= {"odd": np.float32(math.inf), "array": np.arange(2), "path": DAY, "kind": int}
    events = buying("abab" * 10, timestamps=np.arange(40.0), values=np.ones(40, dtype=np.float32))
    result = prequential(engine, events, k=1)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (plain["events"], plain["evaluated"], plain["recall"]) == (40, 28, result.recall)
    assert plain["settings"]["dim"] == 4
    assert (plain["settings"]["odd"], plain["settings"]["array"]) == (None, [0, 1])
    assert plain["log_loss"] is None
    assert len(plain["recall_by_decile"]) == len(plain["popularity_7d_recall_by_decile"]) == 10
    assert 0 < plain["learn_us_p50"] <= plain["learn_us_p90"] <= plain["learn_us_p99"]
    assert 0 < plain["query_us_p50"] <= plain["query_us_p90"] <= plain["query_us_p99"]
    assert plain["events_per_s"] > 0
    assert repr(result) == (
        f"<PrequentialResult 40 events, recall@1 {result.recall:.4f}, popularity {result.popularity_recall:.4f}>"
    )
    assert f"{result.rmse:.4f}" in str(result)
    assert "recall@1" in str(result)


@pytest.mark.parametrize("convert", [list, np.array])
def test_arrays_and_lists_of_ids_agree(convert: Callable[[list[int]], Any]) -> None:
    rng = np.random.default_rng(7)
    users, items = rng.integers(0, 5, 200).tolist(), rng.integers(0, 9, 200).tolist()
    expected = reference(CountingEngine(), Events(users=users, items=items), 3, True, 60)
    result = prequential(CountingEngine(), Events(users=convert(users), items=convert(items)), k=3, exclude_seen=True)
    assert_figures(result, "", expected.ranks, 3)


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("objective", ["softmax", "squared", "logistic"])
def test_the_engine_itself(objective: Literal["softmax", "squared", "logistic"], exclude_seen: bool) -> None:
    """Against the whole ranking of a second engine that is taught the same."""
    rng = np.random.default_rng(11)
    users, items = rng.integers(0, 20, 400).tolist(), (rng.zipf(1.4, 400) % 30).tolist()
    values = (rng.random(400) < (1.0 if objective == "softmax" else 0.6)).astype(np.float32)
    times = np.arange(400.0)
    events = Events(users, items, times, values)
    result = prequential(Engine(dim=8, objective=objective), events, k=5, exclude_seen=exclude_seen)

    engine = Engine(dim=8, objective=objective)
    engine.learn_many(users[:120], items[:120], values=values[:120], timestamps=times[:120])
    ranks, predictions = [], []
    for row in range(120, 400):
        user, item, value = users[row], items[row], float(values[row])
        if value > 0:
            ids, scores = engine.recommend(user, k=len(engine.items), exclude_seen=exclude_seen)
            ranks.append(int(min(place(dict(zip(ids.tolist(), scores.tolist(), strict=True)), item), 6)))
        if objective != "softmax" and user in engine.users and item in engine.items:
            predictions.append((value, engine.predict(user, item)))
        engine.learn_one(user, item, value=value, timestamp=float(row))
    assert_figures(result, "", ranks, 5)
    assert result.recall > 0
    assert result.settings == engine.settings
    errors = [value - predicted for value, predicted in predictions]
    if objective == "squared":
        assert result.mae == pytest.approx(mean([abs(error) for error in errors]))
        assert result.rmse == pytest.approx(math.sqrt(mean([error**2 for error in errors])))
    if objective == "logistic":
        losses = [-math.log(predicted if value > 0 else 1 - predicted) for value, predicted in predictions]
        assert result.log_loss == pytest.approx(mean(losses), rel=1e-5)


# Order, sessions, intervals and comparisons.


def shop(rows: int = 300, seed: int = 9) -> Events:
    """Users with invoices of a few lines each, some of them soon after the last."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 12, rows // 3).repeat(3)
    times = np.cumsum(rng.choice([0.0, 60.0, 600.0], rows // 3)).repeat(3)
    return Events(users.tolist(), (rng.zipf(1.4, rows) % 40).tolist(), times)


def ranks_of(events: Events, k: int) -> list[int]:
    return reference(CountingEngine(), events, k, False, int(len(events) * 0.3)).ranks


def test_shuffled_is_a_run_over_the_shuffled_events() -> None:
    events = shop()
    shuffled = in_order(events, "shuffled", 4)
    result = prequential(CountingEngine(), events, k=3, order="shuffled", order_seed=4, compare=["cooccurrence"])
    same = prequential(CountingEngine(), shuffled, k=3, compare=["cooccurrence"])
    other = prequential(CountingEngine(), events, k=3, compare=["cooccurrence"])
    assert (result.order, result.order_seed, same.order) == ("shuffled", 4, "file")
    assert_figures(result, "", ranks_of(shuffled, 3), 3)
    assert result.baselines == same.baselines != other.baselines


@pytest.mark.parametrize("gap", [0.0, 300.0, math.inf])
def test_first_of_session_is_what_follows_a_pause(gap: float) -> None:
    events = shop()
    result = prequential(CountingEngine(), events, k=3, session_gap=gap)
    assert events.timestamps is not None
    last: dict[Any, float] = {}
    first = []
    for user, time in zip(events.users, events.timestamps.tolist(), strict=True):
        first.append(user not in last or time - last[user] > gap)
        last[user] = time
    chosen = [rank for rank, opens in zip(ranks_of(events, 3), first[90:], strict=True) if opens]
    assert result.first_of_session.evaluated == len(chosen)
    assert result.first_of_session.recall == pytest.approx(mean([float(rank <= 3) for rank in chosen]), nan_ok=True)
    assert result.first_of_session.mrr == pytest.approx(mean([(rank <= 3) / rank for rank in chosen]), nan_ok=True)
    assert result.session_gap == gap
    assert result.to_dict()["session_gap"] == (None if math.isinf(gap) else gap)


def test_without_times_nothing_is_known_of_sessions() -> None:
    result = prequential(CountingEngine(), buying("abab" * 5))
    assert result.first_of_session.evaluated == 0
    assert math.isnan(result.first_of_session.recall)


def test_intervals_are_by_user() -> None:
    events = shop()
    result = prequential(CountingEngine(), events, k=3)
    users, hits = np.array(events.users[90:]), np.array(ranks_of(events, 3)) <= 3
    assert result.recall_ci == mean_interval(hits, users)
    assert result.recall_ci[0] < result.recall < result.recall_ci[1]
    assert result.ndcg_ci[0] < result.ndcg < result.ndcg_ci[1]
    assert result.mrr_ci[0] < result.mrr < result.mrr_ci[1]


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_is_judged_as_an_engine_would_be(name: str, exclude_seen: bool) -> None:
    """Compared, and in the engine's place with ids and rankings: the same figures."""
    events = shop()
    events = Events(events.users, events.items, events.timestamps, np.where(np.arange(300) % 7, 1.0, 0.0))
    compared = prequential(CountingEngine(), events, k=5, exclude_seen=exclude_seen, compare=[name]).baselines[name]
    alone = prequential(WithIds(make(name)), events, k=5, exclude_seen=exclude_seen)
    assert compared.evaluated == alone.evaluated
    for figure in ("recall", "ndcg", "mrr", "recall_by_decile", "recall_ci", "first_of_session"):
        np.testing.assert_equal(vars(compared)[figure], getattr(alone, figure), figure)
    assert name == "ials" or compared.recall > 0  # too few events for a retraining


def test_the_lead_is_the_difference_on_the_same_queries() -> None:
    events = shop()
    result = prequential(CountingEngine(), events, k=3, compare={"mine": Personal()})
    assert list(result.baselines) == ["popularity", "popularity_7d", "mine"]
    assert result.baselines["popularity"].recall == result.popularity_recall
    assert result.baselines["popularity_7d"].recall_by_decile == result.popularity_7d_recall_by_decile
    for figures in result.baselines.values():
        assert figures.recall_lead == pytest.approx(result.recall - figures.recall)
        assert figures.recall_lead_ci[0] <= figures.recall_lead <= figures.recall_lead_ci[1]
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["baselines"]["mine"]["recall"] == result.baselines["mine"].recall
    assert plain["baselines"]["mine"]["first_of_session"]["evaluated"] == result.first_of_session.evaluated
    assert plain["recall_ci"] == list(result.recall_ci)
    assert f"mine                {result.baselines['mine'].recall:>11.4f}" in str(result)


def test_those_that_always_run_need_not_be_named() -> None:
    named = prequential(CountingEngine(), shop(), compare=["popularity", "popularity_7d"])
    assert named.baselines == prequential(CountingEngine(), shop()).baselines


class Interrupting(Baseline):
    """Ctrl-C at its n-th lesson."""

    def __init__(self, lesson: int) -> None:
        super().__init__()
        self._left = lesson

    def scores(self, user: int) -> Scores:
        return np.zeros(self.items)

    def _learn(self, user: int, item: int, time: float) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_an_interrupt_of_a_comparison_keeps_what_there_is() -> None:
    compare = {"one": Personal(), "two": Interrupting(100), "three": Personal()}
    result = prequential(CountingEngine(), shop(), k=3, compare=compare)
    assert result.interrupted
    assert (result.events, result.evaluated) == (300, 210)
    assert [result.baselines[name].evaluated for name in compare] == [210, 10, 0]
    assert math.isnan(result.baselines["three"].recall)
    ranks = ranks_of(shop(), 3)[:10]
    assert result.baselines["two"].recall_lead == pytest.approx(mean([float(rank <= 3) for rank in ranks]))
    interrupted = prequential(InterruptedEngine("recommend", 9), shop(), compare=["personal"])
    assert interrupted.baselines["personal"].evaluated == 0


def test_progress_tells_what_is_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("recengine.evaluate.stream._SNAPSHOT_EVERY_NS", 0)
    monkeypatch.setattr("recengine.evaluate.comparison._EVENTS_PER_REPORT", 100)
    snapshots: list[Progress] = []
    compare = ["personal", "isgd"]
    result = prequential(CountingEngine(), shop(249), k=3, compare=compare, progress=snapshots.append)
    later = [(now.comparing, now.done) for now in snapshots if now.comparing]
    assert later == [(name, done) for name in compare for done in (100, 200, 249)]
    assert {(now.total, now.recall) for now in snapshots if now.comparing} == {(249, result.recall)}
    pytest.importorskip("tqdm")
    prequential(CountingEngine(), shop(249), k=3, compare=compare, progress=True)
    printed = capsys.readouterr().err
    assert "isgd: 100%" in printed
    assert "249/249" in printed


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"order": "sorted"}, ValueError, "order must be 'file' or 'shuffled', got 'sorted'"),
        ({"order": "shuffled", "order_seed": -1}, ValueError, "order_seed must not be negative, got -1"),
        ({"session_gap": -1.0}, ValueError, "session_gap must not be negative, got -1.0"),
        ({"session_gap": math.nan}, ValueError, "session_gap must not be negative, got nan"),
        ({"compare": ["isdg"]}, ValueError, "unknown baseline 'isdg'"),
        ({"compare": "isgd"}, TypeError, "compare must be a sequence of names or a mapping .* got 'isgd'"),
        ({"compare": {"mine": "isgd"}}, TypeError, r"compare\['mine'\] must be a Baseline, got 'isgd'"),
        ({"compare": {"popularity": Popularity()}}, ValueError, "'popularity' is the name of a baseline that always"),
    ],
)
def test_refuses_what_it_cannot_compare(options: dict[str, Any], error: type[Exception], message: str) -> None:
    engine = CountingEngine()
    with pytest.raises(error, match=message):
        prequential(engine, shop(), **options)
    assert engine.lessons == []


def test_refuses_a_baseline_that_is_not_new() -> None:
    used = Cooccurrence()
    prequential(CountingEngine(), shop(), compare={"mine": used})
    with pytest.raises(ValueError, match=r"compare\['mine'\] has learned .* before: pass a new one"):
        prequential(CountingEngine(), shop(), compare={"mine": used})
    twice = Cooccurrence()
    with pytest.raises(ValueError, match="one baseline under two names"):
        prequential(CountingEngine(), shop(), compare={"one": twice, "two": twice})


def test_rows_are_named_as_they_came_although_shuffled() -> None:
    events = Events(["u"] * 4, list("abcd"), np.array([1.0, 1.0, 3.0, 2.0]))
    with pytest.raises(ValueError, match=r"row 3 \(2\.0\) is earlier than row 2 \(3\.0\)"):
        prequential(CountingEngine(), events, order="shuffled")
    with pytest.raises(ValueError, match="without times cannot be shuffled"):
        prequential(CountingEngine(), buying("abab"), order="shuffled")


def test_items_of_label_0_are_no_hits_when_seen_ones_are_excluded() -> None:
    """A logistic engine shows them again: they were not chosen. The baselines may not, so it gets nothing for it."""
    users, items = ["ann"] * 6, ["tea", "tea", "cup", "tea", "cup", "pot"]
    events = Events(users, items, values=np.array([0, 1, 0, 1, 1, 1], dtype=np.float32))
    engine = Engine(objective="logistic", dim=2)
    result = prequential(engine, events, exclude_seen=True, warmup=0.0)
    assert (result.evaluated, result.recall) == (4, 0.0)
    assert result.baselines["popularity"].recall == 0.0
    again = prequential(Engine(objective="logistic", dim=2), events, exclude_seen=False, warmup=0.0)
    assert again.recall == 0.75

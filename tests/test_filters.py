"""Filters and groups: every ranking against evaluating the same expression on sets and sorting everything."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from recengine import Engine, Filter
from reference.ranking import best, cosines

SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])


class Shop:
    """Items 10, 11, ... with whole numbers in their rows, named sets and groups over them, some items removed."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.rng = rng
        self.rows = rng.integers(-3, 4, (count, 5)).astype(np.float32)
        self.biases = rng.integers(-2, 3, count).astype(np.float32)
        self.user = rng.integers(-3, 4, 5).astype(np.float32)
        self.engine = Engine.from_factors([1], [self.user], 10 + np.arange(count), self.rows, None, self.biases)
        self.scores = self.rows.astype(np.float64) @ self.user + self.biases
        self.seen = set(rng.integers(0, count, 5).tolist())
        for row in self.seen:
            self.engine.learn_one(1, 10 + row, weight=0.0)
        self.sets = [self.some_rows(count) for _ in range(4)]
        for number, rows in enumerate(self.sets):
            self.engine.set_filter(f"set {number}", [10 + row for row in rows])
        labels = rng.integers(0, 3, count)
        grouped = np.flatnonzero(rng.random(count) < rng.choice([0.1, 1.0]))
        self.engine.set_groups(10 + np.arange(3), ["a", "b", "c"]) if count >= 3 else None
        self.engine.set_groups(10 + grouped, ["abc"[label] for label in labels[grouped]])
        group_of = dict(enumerate("abc" if count >= 3 else ""))
        group_of.update({int(row): "abc"[labels[row]] for row in grouped})
        self.groups = {name: {row for row, own in group_of.items() if own == name} for name in set(group_of.values())}
        gone = set(rng.permutation(count)[: count // 8].tolist())
        if gone:
            self.engine.remove_items([10 + row for row in gone])
        self.live = set(range(count)) - gone
        self.groups = {name: rows for name, rows in self.groups.items() if rows & self.live}  # an empty one is none

    def some_rows(self, count: int) -> set[int]:
        kind = self.rng.integers(5)
        if kind == 0:  # the best by score: correlated
            return set(np.argsort(self.scores)[-max(count // 20, 1) :].tolist())
        if kind == 1:
            return set(np.argsort(self.scores)[: count // 2].tolist())
        if kind == 2:  # neighbours
            first = int(self.rng.integers(count))
            return set(range(first, min(first + count // 3 + 1, count)))
        share = self.rng.choice([0.0, 0.01, 0.1, 0.5, 1.0])
        return set(np.flatnonzero(self.rng.random(count) < share).tolist()) | {int(self.rng.integers(count))}

    def expression(self, depth: int) -> tuple[Filter, set[int]]:
        """A filter and the live rows that match it."""
        if depth == 0 or self.rng.random() < 0.2:
            if self.rng.random() < 0.3 and self.groups:
                size = int(self.rng.integers(1, len(self.groups) + 1))
                names = self.rng.permutation(sorted(self.groups))[:size].tolist()
                return self.engine.group(*names), set[int]().union(*(self.groups[name] for name in names)) & self.live
            number = int(self.rng.integers(len(self.sets)))
            return self.engine.filter(f"set {number}"), self.sets[number] & self.live
        left, left_rows = self.expression(depth - 1)
        if self.rng.random() < 0.3:
            return ~left, self.live - left_rows
        right, right_rows = self.expression(depth - 1)
        if self.rng.random() < 0.5:
            return left & right, left_rows & right_rows
        return left | right, left_rows | right_rows


@quick
@given(count=st.sampled_from([1, 2, 63, 64, 65, 500, 4095, 4096, 4097, 9000]), depth=st.integers(0, 4), seed=SEEDS)
def test_queries_return_exactly_what_matches(count: int, depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = Shop(rng, count)
    engine, scores = shop.engine, shop.scores
    condition, rows = shop.expression(depth)
    k = int(rng.choice([0, 1, 10, len(rows), len(rows) + 1, count + 5]))
    excluded, among = (set(rng.integers(0, count + 3, count // 2 + 1).tolist()) for _ in range(2))

    def check(ranking: Any, expected: list[int], values: Any = scores, exact: bool = True) -> None:
        assert ranking.counts == len(ranking.ids) == len(expected)
        if exact:
            assert (ranking.ids - 10).tolist() == expected
        np.testing.assert_allclose(ranking.scores, np.asarray(values)[expected], rtol=0 if exact else 1e-4, atol=1e-5)

    check(engine.recommend(1, k=k, filter=condition), best(scores, k, rows))
    check(engine.search(shop.user, k=k, filter=condition), best(scores, k, rows))
    everything: dict[str, Any] = {
        "exclude_seen": True,
        "exclude": [10 + row for row in excluded],
        "among": [10 + row for row in among],
        "filter": condition,
    }
    left = (rows & among) - excluded - shop.seen
    check(engine.recommend(1, k=k, **everything), best(scores, k, left))
    del everything["among"]
    check(engine.recommend(1, k=k, **everything), best(scores, k, rows - excluded - shop.seen))

    batch = engine.recommend([1, 2, 1] * 7, k=k, filter=condition)  # 2 is nobody
    single = engine.recommend(1, k=k, filter=condition)
    popular = engine.recommend(2, k=k, filter=condition)
    assert set((popular.ids - 10).tolist()) <= rows
    assert popular.counts == min(k, len(rows))
    for row, other in enumerate([single, popular, single] * 7):
        assert batch.ids[row, : other.counts].tolist() == other.ids.tolist()
        np.testing.assert_array_equal(batch.scores[row, : other.counts], other.scores)
    session = engine.recommend(history=[10 + row for row in list(shop.live)[:2]], k=k, filter=condition)
    assert session.counts == min(k, len(rows))

    angles = cosines(shop.user, shop.rows)
    check(engine.search(shop.user, k=k, metric="cosine", filter=condition), best(angles, k, rows), angles, exact=False)
    item = min(shop.live, default=None)
    if item is not None:
        angles = cosines(shop.rows[item], shop.rows)
        check(engine.similar_items(10 + item, k, filter=condition), best(angles, k, rows - {item}), angles, exact=False)
        left = (rows & among) - excluded - {item}
        similar = engine.similar_items(
            10 + item, k, filter=condition, exclude=[10 + row for row in excluded], among=[10 + row for row in among]
        )
        check(similar, best(angles, k, left), angles, exact=False)


ITEMS = range(150)
numbers = st.lists(st.sampled_from(ITEMS), max_size=60)
names = st.sampled_from(["x", "y", ""])
labels = st.integers(0, 3)


class FilterMachine(RuleBasedStateMachine):
    """Sets and groups that change, over items that come, go and come back, beside a model of Python sets."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(dim=1, history=0)
        self.items: set[int] = set()
        self.sets: dict[str, set[int]] = {}
        self.labels: dict[int, int] = {}
        self.conditions: dict[int, Filter] = {}  # made when the group was there

    @rule(items=numbers)
    def add(self, items: list[int]) -> None:
        self.engine.set_items(items, np.array(items, dtype=float).reshape(-1, 1))
        self.items |= set(items)

    @rule(items=numbers)
    def remove(self, items: list[int]) -> None:
        gone = [item for item in items if item in self.items]
        self.engine.remove_items(gone)
        self.items -= set(gone)
        for item in gone:
            self.labels.pop(item, None)
            for members in self.sets.values():
                members.discard(item)

    @rule(name=names, items=numbers)
    def set_filter(self, name: str, items: list[int]) -> None:
        known = [item for item in items if item in self.items]
        if known != items:
            with pytest.raises(KeyError, match="unknown item"):
                self.engine.set_filter(name, items)
        self.engine.set_filter(name, known)
        self.sets[name] = set(known)

    @rule(name=names, more=numbers, fewer=numbers)
    def update_filter(self, name: str, more: list[int], fewer: list[int]) -> None:
        more = [item for item in more if item in self.items]
        if name not in self.sets:
            with pytest.raises(KeyError, match="unknown filter"):
                self.engine.update_filter(name, add=more, remove=fewer)
            return
        ignored = self.engine.stats()["ignored_ids"]
        self.engine.update_filter(name, add=more, remove=fewer)
        assert self.engine.stats()["ignored_ids"] == ignored + sum(item not in self.items for item in fewer)
        self.sets[name] = (self.sets[name] | set(more)) - set(fewer)

    @rule(name=names)
    def remove_filter(self, name: str) -> None:
        if name in self.sets:
            self.engine.remove_filter(name)
            del self.sets[name]
        else:
            with pytest.raises(KeyError, match="unknown filter"):
                self.engine.remove_filter(name)

    @rule(items=numbers, given=st.lists(labels, min_size=60, max_size=60))
    def set_groups(self, items: list[int], given: list[int]) -> None:
        known = [item for item in items if item in self.items]
        own = given[: len(known)]
        self.engine.set_groups(known, own)
        last = dict(zip(known, own, strict=True))
        self.labels.update(last)
        for label in set(last.values()):
            self.conditions[label] = self.engine.group(label)

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            self.engine.save(Path(place) / "engine")
            self.engine = Engine.load(Path(place) / "engine")
            self.conditions = {label: self.engine.group(label) for label in set(self.labels.values())}
            self.engine.save(Path(place) / "again")
            assert (Path(place) / "again").read_bytes() == (Path(place) / "engine").read_bytes()

    @rule()
    def agree(self) -> None:
        assert self.engine.filters == sorted(self.sets)
        for name, members in self.sets.items():
            self.check(self.engine.filter(name), members)
            self.check(~self.engine.filter(name), self.items - members)
        for label in range(4):
            members = {item for item, own in self.labels.items() if own == label}
            if members:
                self.check(self.engine.group(label), members)
            else:
                with pytest.raises(KeyError, match=f"unknown group {label}"):
                    self.engine.group(label)
            if label in self.conditions:  # it may have gone since, and come back
                self.check(self.conditions[label], members)
                self.check(~self.conditions[label], self.items - members)

    def check(self, condition: Filter, expected: set[int]) -> None:
        found = self.engine.search([1.0], k=len(ITEMS), filter=condition)
        assert found.ids.tolist() == sorted(expected, reverse=True)


FilterMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestFilterMachine = FilterMachine.TestCase


def small() -> Engine:
    engine = Engine.from_factors(["u"], [[1.0]], ["a", "b", "c"], [[3.0], [2.0], [1.0]])
    engine.set_filter("some", ["a", "b"])
    engine.set_filter("none", [])
    return engine


def test_a_filter_is_taken_by_name_when_the_query_begins() -> None:
    engine = small()
    condition = engine.filter("some") & ~engine.filter("none")
    assert engine.recommend("u", filter=condition).ids.tolist() == ["a", "b"]
    engine.update_filter("some", add="c", remove=["a"])
    engine.set_filter("none", "b")
    assert engine.recommend("u", filter=condition).ids.tolist() == ["c"]
    engine.remove_filter("none")
    asks: list[Callable[[], object]] = [
        lambda: engine.recommend("u", filter=condition),
        lambda: engine.recommend(["u"], filter=condition),
        lambda: engine.recommend(history=["a"], filter=condition),
        lambda: engine.search([1.0], filter=condition),
        lambda: engine.similar_items("a", filter=condition),
    ]
    for ask in asks:
        with pytest.raises(KeyError, match="unknown filter 'none'"):
            ask()
    engine.set_filter("none", [])
    assert engine.recommend("u", filter=condition).ids.tolist() == ["b", "c"]


def test_empty_filters_give_empty_rankings() -> None:
    engine = small()
    nothing = engine.filter("none")
    for ranking in (
        engine.recommend("u", filter=nothing),
        engine.recommend("stranger", filter=nothing),
        engine.search([1.0], filter=nothing),
        engine.search([1.0], metric="cosine", filter=nothing),
        engine.similar_items("a", filter=nothing),
        engine.recommend("u", among=["a"], filter=nothing),
        engine.recommend("u", k=0, filter=engine.filter("some")),
    ):
        assert ranking.ids.shape == ranking.scores.shape == (0,)
    batch = engine.recommend(["u", "stranger"], k=2, filter=nothing)
    assert np.asarray(batch.counts).tolist() == [0, 0]
    assert Engine(dim=1).recommend("u").counts == 0
    empty = Engine(dim=1)
    empty.set_filter("none", [])
    assert empty.recommend("u", filter=~empty.filter("none")).counts == 0


def test_removed_items_and_all_of_a_filter_gone() -> None:
    engine = small()
    engine.remove_items(["a", "b"])
    assert engine.recommend("u", filter=engine.filter("some")).counts == 0
    assert engine.recommend("u", filter=~engine.filter("some")).ids.tolist() == ["c"]
    engine.set_items(["a"], [[5.0]])  # comes back as a new item
    assert engine.recommend("u", filter=engine.filter("some")).counts == 0


def test_long_expressions() -> None:
    engine = small()
    some, none = engine.filter("some"), engine.filter("none")
    left, right = some, some
    for _ in range(500):
        left, right = left | none, none | right
    assert engine.recommend("u", filter=left & right).ids.tolist() == ["a", "b"]
    assert repr(~(some | none) & some) == "(~(filter('some') | filter('none')) & filter('some'))"


def test_bad_input_changes_nothing() -> None:
    engine, other = small(), small()
    some = engine.filter("some")
    bad: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (KeyError, "unknown item 'z'", lambda: engine.set_filter("some", ["c", "z"])),
        (KeyError, "unknown item 'z'", lambda: engine.set_filter("fresh", ["z"])),
        (KeyError, "unknown item 'z'", lambda: engine.update_filter("some", add=["c", "z"])),
        (KeyError, "unknown filter 'nope'", lambda: engine.update_filter("nope", add=["z"])),
        (KeyError, "unknown filter 'nope'", lambda: engine.remove_filter("nope")),
        (KeyError, "unknown filter 'nope'", lambda: engine.filter("nope")),
        (KeyError, "unknown group 'nope'", lambda: engine.group("nope")),
        (KeyError, "unknown group 3", lambda: engine.group(3)),
        (KeyError, "unknown item 'z'", lambda: engine.set_groups(["a", "z"], ["g", "g"])),
        (ValueError, "equal length, not 2 and 1", lambda: engine.set_groups(["a", "b"], ["g"])),
        (ValueError, "at least one label", lambda: engine.group()),
        (ValueError, "bytes", lambda: engine.set_filter("x" * 513, ["a"])),
        (TypeError, "strings", lambda: engine.set_filter("some", [1])),
        (TypeError, "strings", lambda: engine.update_filter("some", remove=[1])),
        (TypeError, "name must be a str, not 7", lambda: engine.set_filter(7, ["a"])),  # type: ignore[arg-type]
        (TypeError, "str or int", lambda: engine.set_groups(["a"], [1.5])),
        (ValueError, "another engine", lambda: engine.recommend("u", filter=other.filter("some"))),
        (ValueError, "another engine", lambda: engine.search([1.0], filter=other.filter("some"))),
        (ValueError, "another engine", lambda: engine.similar_items("a", filter=other.filter("some"))),
        (ValueError, "another engine", lambda: some & other.filter("some")),
        (ValueError, "another engine", lambda: some | other.filter("some")),
        (TypeError, "not 'some'", lambda: engine.recommend("u", filter="some")),  # type: ignore[arg-type]
        (TypeError, "neither true nor false", lambda: bool(some)),
        (TypeError, "unsupported", lambda: some & "some"),  # type: ignore[operator]
    ]
    for error, match, ask in bad:
        with pytest.raises(error, match=match):
            ask()
    assert engine.filters == ["none", "some"]
    assert engine.recommend("u", filter=some).ids.tolist() == ["a", "b"]
    with pytest.raises(KeyError):
        engine.group("g")
    engine.set_groups(["a"], ["g"])
    with pytest.raises(TypeError, match="strings"):
        engine.set_groups(["a"], [1])


def test_files(tmp_path: Path) -> None:
    engine = small()
    engine.set_groups(["a", "b", "c"], ["é", "left", "left"])
    engine.set_groups(["b", "c"], ["é", "right"])
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    assert loaded.filters == ["none", "some"]
    assert loaded.recommend("u", filter=loaded.filter("some")).ids.tolist() == ["a", "b"]
    assert loaded.recommend("u", filter=loaded.group("é")).ids.tolist() == ["a", "b"]
    for each in (engine, loaded):  # nothing is left of a label that no item has
        with pytest.raises(KeyError, match="unknown group 'left'"):
            each.group("left")
    assert b"left" not in (tmp_path / "engine").read_bytes()
    loaded.set_groups("a", "left")  # leaves its old group
    assert loaded.recommend("u", filter=loaded.group("é")).ids.tolist() == ["b"]
    assert loaded.recommend("u", filter=loaded.group("left", "right")).ids.tolist() == ["a", "c"]
    with pytest.raises(ValueError, match="another engine"):
        loaded.recommend("u", filter=engine.filter("some"))


def test_rankings_beside_changes_are_of_whole_sets() -> None:
    """One thread replaces, one updates, one learns; a ranking is one of the sets there were, whatever its size."""
    count = 20_000
    engine = Engine.from_factors([1], [[1.0]], np.arange(count), -np.arange(count, dtype=float)[:, None])
    wholes = [np.arange(start, count, step) for start, step in ((0, 2), (1, 2), (2, 3000), (7, 1))]
    pairs = [np.array([n, count - 1 - n]) for n in range(20)]
    engine.set_filter("whole", wholes[0])
    engine.set_filter("pair", [])
    stop = threading.Event()
    failures: list[BaseException] = []

    def start(work: Callable[[int], object]) -> threading.Thread:
        def run() -> None:
            try:
                round = 0
                while not stop.is_set():
                    work(round)
                    round += 1
            except BaseException as error:
                failures.append(error)
                stop.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def update(round: int) -> None:
        engine.update_filter("pair", add=pairs[round % 20])
        engine.update_filter("pair", remove=pairs[round % 20])

    def ask(_: int) -> None:
        found = engine.recommend(1, k=count, filter=engine.filter("whole")).ids
        assert any(np.array_equal(found, whole) for whole in wholes)
        assert engine.recommend(1, k=3, filter=engine.filter("pair")).ids.tolist() in [[], *(p.tolist() for p in pairs)]

    threads = [
        start(lambda round: engine.set_filter("whole", wholes[round % 4])),
        start(update),
        start(lambda round: engine.learn_one(2, round % count, weight=0.0)),
        start(ask),
        start(ask),
    ]
    stop.wait(1.5)
    stop.set()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure

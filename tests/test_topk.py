"""Rankings against sorting everything: scores, order, ties, what a query leaves out, and every way to ask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recengine import Engine, _core
from recengine.ranking import Ranking
from reference.ranking import best, cosines, decayed_counts

Floats = NDArray[np.float32]

SEEDS = st.integers(0, 2**32 - 1)
DIMENSIONS = st.integers(1, 200)
# Blocks of 64 rows, chunks that double from 64 on: sizes next to their edges, and any others.
SIZES = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 5, 63, 64, 65, 127, 128, 129, 191, 192, 193, 447, 448, 449, 960, 961, 3000]),
    st.integers(0, 3000),
)
quick = settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])


@pytest.fixture(autouse=True)
def automatic_kernels() -> Iterator[None]:
    yield
    _core.select_kernels("")


def some_k(rng: np.random.Generator, count: int) -> int:
    return int(rng.choice([0, 1, 2, 10, count // 2, max(count - 1, 0), count, count + 1, 2 * count + 5]))


def whole_numbers(rng: np.random.Generator, *shape: int) -> Floats:
    """Small whole numbers, with which float32 makes no error: scores are exact, and many are equal."""
    return rng.integers(-2, 3, shape).astype(np.float32)


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded to float32, so that the engine takes them as they are."""
    return values.astype(np.float32).astype(np.float64)


def assert_ranks(ranking: Ranking, scores: NDArray[np.number], rows: list[int]) -> None:
    """Ids here are 10 more than rows, so that one is not taken for the other."""
    assert (ranking.ids - 10).tolist() == rows
    np.testing.assert_array_equal(ranking.scores, np.asarray(scores)[rows].astype(np.float32))
    assert ranking.counts == len(rows)


class Catalogue:
    """Items 10, 11, ... and users 0, 1, ... with whole numbers in their rows; some items were chosen, some removed."""

    def __init__(self, rng: np.random.Generator, dim: int, count: int, users: int = 1) -> None:
        self.user_rows, self.rows = whole_numbers(rng, users, dim), whole_numbers(rng, count, dim)
        self.biases = whole_numbers(rng, count)
        ids = 10 + np.arange(count)
        self.engine = Engine.from_factors(np.arange(users), self.user_rows, ids, self.rows, None, self.biases)
        self.seen: dict[int, set[int]] = {user: set() for user in range(users)}
        for _ in range(min(3 * users, count)):
            user, row = int(rng.integers(users)), int(rng.integers(count))
            self.engine.learn_one(user, 10 + row, weight=0.0)
            self.seen[user].add(row)
        gone = rng.permutation(count)[: int(rng.integers(0, count // 3 + 1))]
        if len(gone):
            self.engine.remove_items(10 + gone)
        self.live = set(range(count)) - set(gone.tolist())

    def scores(self, user: int) -> NDArray[np.float64]:
        exact: NDArray[np.float64] = self.rows.astype(np.float64) @ self.user_rows[user] + self.biases
        return exact


@quick
@given(dim=DIMENSIONS, count=SIZES, seed=SEEDS)
@example(dim=1, count=0, seed=0)
def test_recommend_sorts_everything(dim: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalogue = Catalogue(rng, dim, count)
    k, scores, live = some_k(rng, count), catalogue.scores(0), catalogue.live
    recommend = catalogue.engine.recommend
    assert_ranks(recommend(0, k=k), scores, best(scores, k, live))

    excluded = set(rng.integers(0, count + 3, count // 2 + 1).tolist())  # some unknown
    among = set(rng.integers(0, count + 3, count // 2 + 1).tolist())
    exclude_ids, among_ids = [10 + row for row in excluded], [10 + row for row in among] * 2
    seen = catalogue.seen[0]
    assert_ranks(recommend(0, k=k, exclude=exclude_ids), scores, best(scores, k, live - excluded))
    assert_ranks(recommend(0, k=k, among=among_ids), scores, best(scores, k, live & among))
    assert_ranks(recommend(0, k=k, exclude_seen=True), scores, best(scores, k, live - seen))
    everything = recommend(0, k=k, exclude_seen=True, exclude=exclude_ids, among=among_ids)
    assert_ranks(everything, scores, best(scores, k, (live & among) - excluded - seen))

    some = rng.permutation(sorted(live))[:20].tolist()
    assert_ranks(catalogue.engine.rank(0, [10 + row for row in some]), scores, best(scores, len(some), some))
    vector = catalogue.user_rows[0]
    search = catalogue.engine.search
    assert_ranks(search(vector, k=k, exclude=exclude_ids), scores, best(scores, k, live - excluded))
    assert_ranks(search(vector, k=k, among=among_ids), scores, best(scores, k, live & among))


@pytest.mark.parametrize("kernels", _core.available_kernels())
@settings(quick, max_examples=12)
@given(dim=DIMENSIONS, count=SIZES, users=st.integers(1, 40), seed=SEEDS)
def test_batches_equal_single_queries_bit_for_bit(kernels: str, dim: int, count: int, users: int, seed: int) -> None:
    _core.select_kernels(kernels)
    rng = np.random.default_rng(seed)
    engine = Engine(dim=dim, history=2, objective="bpr", threads=1)
    engine.set_users(np.arange(users), rng.normal(size=(users, dim)))
    engine.set_items(10 + np.arange(count), rng.normal(size=(count, dim)), rng.normal(size=count))
    for user in range(0, users if count else 0, 2):
        engine.learn_one(user, 10 + int(rng.integers(count)), weight=0.0)
    k = some_k(rng, count)
    asked = rng.permutation([*range(users), *range(users), -1])  # users twice, and a stranger
    exclude = (10 + rng.integers(0, max(count, 1), 5)).tolist()
    options: dict[str, Any]
    for options in ({}, {"exclude_seen": True, "exclude": exclude}, {"among": exclude}):
        singles = [engine.recommend(user, k=k, **options) for user in asked.tolist()]
        for threads in (1, 2, 3):
            engine.threads = threads
            batch = engine.recommend(asked, k=k, **options)
            assert batch.ids.shape == batch.scores.shape == (len(asked), k)
            sizes = np.asarray(batch.counts).tolist()
            for single, ids, scores, size in zip(singles, batch.ids, batch.scores, sizes, strict=True):
                assert size == single.counts
                np.testing.assert_array_equal(ids[:size], single.ids)
                np.testing.assert_array_equal(scores[:size], single.scores)
                assert np.all(ids[size:] == -1)
                assert np.all(scores[size:] == -np.inf)


@pytest.mark.parametrize("kernels", _core.available_kernels())
@settings(quick, max_examples=12)
@given(dim=DIMENSIONS, count=SIZES, seed=SEEDS)
def test_every_way_to_a_score_gives_the_same_bits(kernels: str, dim: int, count: int, seed: int) -> None:
    """`score`, a scan, a gather and a search; and all near the product in float64 (error bound: Higham 2002, 3.1)."""
    _core.select_kernels(kernels)
    rng = np.random.default_rng(seed)
    user, rows = rounded(rng.normal(size=(1, dim))), rounded(rng.normal(size=(count, dim)))
    biases, ids = rounded(rng.normal(size=count)), 10 + np.arange(count)
    engine = Engine.from_factors([0], user, ids, rows, None, biases)
    scores = engine.score(0, ids)
    exact = rows @ user[0] + biases
    magnitudes = np.abs(rows) @ np.abs(user[0]) + np.abs(biases)
    assert np.all(np.abs(scores - exact) <= (dim + 18) * 2.0**-24 * magnitudes)

    k = some_k(rng, count)
    expected = best(scores, k)
    assert_ranks(engine.recommend(0, k=k), scores, expected)
    assert_ranks(engine.recommend(0, k=k, among=ids), scores, expected)
    assert_ranks(engine.search(user[0], k=k), scores, expected)
    assert_ranks(engine.rank(0, ids), scores, best(scores, count))


@pytest.mark.parametrize("count", [1, 64, 65, 1000])
def test_equal_scores_come_in_the_order_of_the_items(count: int) -> None:
    engine = Engine.from_factors([0], [[1.0]], 10 + np.arange(count), np.ones((count, 1)))
    for k in (1, 3, count):
        assert_ranks(engine.recommend(0, k=k), np.ones(count), list(range(min(k, count))))
    engine.remove_items(10)
    engine.set_items([10], [[1.0]])  # came back last
    ids = engine.recommend(0, k=count).ids.tolist()
    assert ids == [*range(11, 10 + count), 10]


@pytest.mark.parametrize("order", ["falling", "rising"])
def test_scores_in_order(order: Literal["falling", "rising"]) -> None:
    """The worst and the best case of a running threshold."""
    values = np.arange(3000.0) if order == "rising" else np.arange(3000.0)[::-1]
    engine = Engine.from_factors([0], [[1.0]], 10 + np.arange(3000), values[:, np.newaxis])
    for k in (0, 1, 10, 2999, 3000, 3001):
        assert_ranks(engine.recommend(0, k=k), values, best(values, k))


@pytest.mark.parametrize("users", [["known", "unknown"], []])
def test_empty_rankings_keep_the_type_of_the_ids(users: list[str]) -> None:
    engine = Engine.from_factors(["known"], [[1.0]], ["i", "j"], [[1.0], [2.0]])
    for single in (
        engine.recommend("known", exclude=["i", "j"]),
        engine.recommend("known", k=0),
        engine.recommend("unknown", among=[]),
        engine.search([1.0], k=0),
        engine.similar_items("i", k=0),
    ):
        assert single.ids.dtype == object
        assert single.ids.shape == single.scores.shape == (0,)
    batch = engine.recommend(users, k=3, exclude=["i", "j"])
    assert batch.ids.shape == batch.scores.shape == (len(users), 3)
    assert batch.ids.dtype == object
    assert all(missing is None for missing in batch.ids.ravel())


def test_an_empty_engine_serves_empty_rankings() -> None:
    engine = Engine(dim=4)
    assert len(engine.recommend("anybody").ids) == 0
    assert len(engine.recommend(history=["anything"]).ids) == 0
    assert len(engine.search(np.ones(4)).ids) == 0
    np.testing.assert_array_equal(engine.recommend(["a", "b"], k=2).counts, [0, 0])


@quick
@given(
    count=st.integers(1, 200),
    events=st.integers(0, 300),
    half_life=st.sampled_from([0.5, 60.0, 86400.0, 1e9]),
    start=st.sampled_from([-1e9, 0.0, 1.7e9]),
    seed=SEEDS,
)
def test_strangers_get_what_is_popular(count: int, events: int, half_life: float, start: float, seed: int) -> None:
    """Events come in any order of time; an item's score is its decayed count at the latest of them."""
    rng = np.random.default_rng(seed)
    engine = Engine(dim=2, popularity_half_life=half_life, max_ahead=np.inf)
    engine.set_items(10 + np.arange(count), np.zeros((count, 2)))
    rows = rng.integers(0, count, events)
    times = start + np.round(rng.uniform(0, 20 * half_life, events), 1)
    engine.learn_many(np.zeros(events, int), 10 + rows, timestamps=times, weights=np.zeros(events))

    k = some_k(rng, count)
    excluded = set(rng.integers(0, count, 3).tolist())
    allowed = set(range(count)) - excluded
    counts = decayed_counts(rows.tolist(), times.tolist(), half_life, count)
    ranking = engine.recommend(-1, k=k, exclude=[10 + row for row in excluded])
    ranked = (ranking.ids - 10).tolist()
    assert len(ranked) == len(set(ranked)) == min(k, len(allowed))
    assert set(ranked) <= allowed
    # Levels are kept as logarithms in float64: with times of 1.7e9 and half a second to halve, within 1e-6.
    np.testing.assert_allclose(ranking.scores, counts[ranked], rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(ranking.scores, counts[best(counts, k, allowed)], rtol=2e-6, atol=1e-30)
    never_chosen = [row for row in ranked if counts[row] == 0]
    assert never_chosen == sorted(never_chosen)
    among = [10 + row for row in allowed]
    np.testing.assert_array_equal(engine.recommend(-1, k=k, among=among).ids, ranking.ids)


def test_popularity_without_forgetting_counts() -> None:
    rng = np.random.default_rng(0)
    rows = rng.zipf(1.5, 2000) % 50
    engine = Engine(dim=2, popularity_half_life=math.inf)
    engine.set_items(10 + np.arange(50), np.zeros((50, 2)))
    engine.learn_many(np.zeros(2000, int), 10 + rows, timestamps=rng.uniform(0, 1e9, 2000), weights=np.zeros(2000))
    counts = np.bincount(rows, minlength=50)
    assert_ranks(engine.recommend(-1, k=60), counts, best(counts, 60))


@pytest.mark.parametrize("timestamp", [0.0, -5.0, 1e9])
def test_one_event_counts_one(timestamp: float) -> None:
    engine = Engine(dim=2, popularity_half_life=10.0)
    engine.learn_one("u", "i", timestamp=timestamp)
    engine.learn_one("u", "j", timestamp=timestamp - 10.0)
    engine.learn_one("u", "j", timestamp=timestamp - 20.0)
    ids, counts = engine.recommend("stranger")
    assert ids.tolist() == ["i", "j"]
    assert counts.tolist() == [1.0, 0.75]


@pytest.mark.parametrize("half_life", [1e-300, 1e-6, 1.0, 1e300])
@pytest.mark.parametrize("timestamp", [-1e300, 1.7e9, 1e300])
def test_extreme_times_are_refused_or_ranked(half_life: float, timestamp: float) -> None:
    try:
        engine = Engine(dim=2, popularity_half_life=half_life)
        engine.learn_one("u", "i", timestamp=timestamp)
    except ValueError:
        return
    assert engine.recommend("stranger").scores.tolist() == [1.0]


def assert_ranked_by(ranking: Ranking, exact: NDArray[np.float64], allowed: set[int], k: int, error: float) -> None:
    """The ranking holds the best of the rows allowed, each with its score, up to the error of a score."""
    rows = (ranking.ids - 10).tolist()
    assert len(rows) == len(set(rows)) == min(k, len(allowed))
    assert set(rows) <= allowed
    np.testing.assert_allclose(ranking.scores, exact[rows], rtol=0, atol=error)
    np.testing.assert_allclose(ranking.scores, exact[best(exact, k, allowed)], rtol=0, atol=error)
    entries = list(zip((-ranking.scores).tolist(), rows, strict=True))
    assert entries == sorted(entries)


@quick
@given(dim=DIMENSIONS, count=SIZES.filter(bool), seed=SEEDS)
def test_cosines(dim: int, count: int, seed: int) -> None:
    """`similar_items` and `search`; lengths are of no account, a row without one scores zero, biases do not enter."""
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(count, dim)) * 10.0 ** rng.integers(-6, 7, (count, 1))).astype(np.float32)
    rows[rng.random(count) < 0.05] = 0
    vector = rng.normal(size=dim).astype(np.float32)
    engine = Engine.from_factors([0], [vector], 10 + np.arange(count), rows, None, rng.normal(size=count))
    gone = set(rng.integers(0, count, count // 4).tolist())
    engine.remove_items([10 + row for row in gone])
    live = sorted(set(range(count)) - gone)
    k, error = some_k(rng, count), (dim + 20) * 2.0**-23

    excluded, among = set(rng.integers(0, count, 9).tolist()), set(rng.integers(0, count, 9).tolist())
    exact = cosines(vector, rows)
    ranking = engine.search(vector, k=k, metric="cosine", exclude=[10 + row for row in excluded])
    assert_ranked_by(ranking, exact, set(live) - excluded, k, error)
    ranking = engine.search(vector, k=k, metric="cosine", among=[10 + row for row in among])
    assert_ranked_by(ranking, exact, set(live) & among, k, error)

    for row in live[:3]:
        ranking = engine.similar_items(10 + row, k=k)
        assert_ranked_by(ranking, cosines(rows[row], rows), set(live) - {row}, k, error)


def test_a_query_sees_what_was_just_learned() -> None:
    """Each event moves the very next query, of whatever kind."""
    rng = np.random.default_rng(0)
    engine = Engine(dim=8, history=2, history_decay=0.5, negatives=5, learning_rate=0.3, ranker=None)
    acts: dict[int, list[int]] = {}
    for event in range(200):
        user, item = int(rng.integers(10)), 10 + int(rng.integers(40))
        engine.learn_one(user, item)
        factors = engine.factors()
        assert item in engine.recommend(user, k=40).ids
        assert item not in engine.recommend(user, k=40, exclude_seen=True).ids
        weights = engine._core.context_weights()
        acts.setdefault(user, []).insert(0, item)
        scores = factors.item_vectors @ engine.user_vector(user) + factors.item_biases
        for place, chosen in reversed(list(enumerate(acts[user][:2]))):
            if chosen not in acts[user][:place]:  # the offset of its last occurrence, behind three times two weights
                scores[factors.item_ids.tolist().index(chosen)] += weights[6 + place]
        np.testing.assert_allclose(engine.score(user, factors.item_ids), scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(engine.recommend(user, k=1).scores, [scores.max()], rtol=1e-4, atol=1e-5)
        newest = engine.item_vector(item)
        composed = factors.user_vectors[factors.user_ids.tolist().index(user)] + weights[0] * newest
        if event == 0:
            np.testing.assert_allclose(engine.user_vector(user), composed, rtol=1e-5)


@quick
@given(history=st.lists(st.integers(10, 45), max_size=8), length=st.integers(0, 4), seed=SEEDS)
def test_a_session_is_scored_by_the_rows_of_its_items(history: list[int], length: int, seed: int) -> None:
    """Rows of whole numbers and weights 1/2^t: exact. Unknown items are ignored; a session of none gets the popular."""
    rng = np.random.default_rng(seed)
    rows, biases = whole_numbers(rng, 30, 5), whole_numbers(rng, 30)
    engine = Engine(dim=5, history=length, history_decay=0.5, ranker=None)
    engine.set_items(10 + np.arange(30), rows, biases)
    engine.learn_one(0, 25, weight=0.0)

    known = [item - 10 for item in history if item < 40]
    used = known[::-1][:length]
    x = sum((0.5**t * rows[row].astype(np.float64) for t, row in enumerate(used)), np.zeros(5))
    scores = rows @ x + biases if used else (np.arange(30) == 15).astype(float)
    assert_ranks(engine.recommend(history=history, k=12), scores, best(scores, 12))
    unseen = set(range(30)) - set(known)
    assert_ranks(engine.recommend(history=history, k=12, exclude_seen=True), scores, best(scores, 12, unseen))
    assert engine.stats()["ignored_ids"] == 2 * (len(history) - len(known))

"""What queries answer, against the slow way: every item's score in numpy, sorted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine, Ranking

DIM = 8


def vectors(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def catalogue(items: list[Any], **settings: Any) -> Engine:
    """An engine over random factors: what it should answer is a line of numpy."""
    biases = np.linspace(-1, 1, len(items), dtype=np.float32)
    users = ["ann", "bob"]
    return Engine.from_factors(users, vectors(2, 1), items, vectors(len(items), 2), None, biases, **settings)


def scores_of(engine: Engine, query: npt.NDArray[np.float32]) -> dict[Any, float]:
    """The slow way: every item's inner product and bias, in float64."""
    factors = engine.factors()
    scores = factors.item_vectors.astype(np.float64) @ query.astype(np.float64) + factors.item_biases
    return dict(zip(factors.item_ids.tolist(), scores.tolist(), strict=True))


def best_of(scores: dict[Any, float], k: int) -> list[Any]:
    return sorted(scores, key=lambda item: -scores[item])[:k]


def assert_is(ranking: Ranking, scores: dict[Any, float], k: int) -> None:
    """The ranking is the k best of these scores."""
    assert ranking.ids.tolist() == best_of(scores, k)
    np.testing.assert_allclose(ranking.scores, [scores[item] for item in ranking.ids.tolist()], rtol=1e-5, atol=1e-5)


def test_a_batch_is_its_single_queries() -> None:
    engine = Engine(dim=DIM, seed=3)
    random = np.random.default_rng(1)
    engine.learn_many(random.integers(0, 50, 2000), random.integers(0, 300, 2000))
    users = [*range(60), 3, 3]  # the last ten are unknown, one comes three times
    for options in (
        {},
        {"exclude_seen": True},
        {"exclude": [1, 2, 3]},
        {"among": list(range(40)), "exclude_seen": True},
    ):
        for threads in (1, 3):
            engine.threads = threads
            batch = engine.recommend(users, k=30, **options)
            assert isinstance(batch.counts, np.ndarray)
            for row, user in enumerate(users):
                one = engine.recommend(user, k=30, **options)
                assert batch.counts[row] == one.counts
                np.testing.assert_array_equal(batch.ids[row, : one.counts], one.ids)
                np.testing.assert_array_equal(batch.scores[row, : one.counts], one.scores)


def test_rankings_are_the_best_inner_products() -> None:
    items = list(range(300))
    engine = catalogue(items)
    query = engine.user_vector("ann")
    scores = scores_of(engine, query)
    assert_is(engine.recommend("ann", k=20), scores, 20)
    assert_is(engine.search(query, k=20), scores, 20)
    some = {item: scores[item] for item in range(0, 300, 7)}
    assert_is(engine.recommend("ann", k=20, among=list(some)), some, 20)
    assert_is(engine.search(query, k=20, among=list(some)), some, 20)
    assert_is(engine.rank("ann", list(some)), some, len(some))
    others = {item: score for item, score in scores.items() if item not in some}
    assert_is(engine.recommend("ann", k=20, exclude=list(some)), others, 20)
    assert_is(engine.search(query, k=20, exclude=list(some)), others, 20)
    both = {item: some[item] for item in some if item % 2}
    assert_is(engine.recommend("ann", k=99, among=list(some), exclude=list(range(0, 300, 2))), both, 99)
    np.testing.assert_allclose(engine.score("ann", [5, 2, 5]), [scores[5], scores[2], scores[5]], rtol=1e-5)


def test_score_agrees_with_recommend_to_the_bit() -> None:
    engine = catalogue(list(range(200)))
    ranking = engine.recommend("ann", k=200)
    np.testing.assert_array_equal(engine.score("ann", ranking.ids), ranking.scores)
    some = ranking.ids[::3]
    among = engine.recommend("ann", k=200, among=some)
    ranked = engine.rank("ann", some)
    for other in (among, ranked):
        np.testing.assert_array_equal(other.ids, some)
        np.testing.assert_array_equal(other.scores, ranking.scores[::3])


def test_cosines() -> None:
    engine = catalogue(list(range(100)))
    rows = engine.factors().item_vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    to_seven = dict(enumerate((rows @ rows[7]).tolist()))
    del to_seven[7]
    assert_is(engine.similar_items(7, k=30), to_seven, 30)
    query = vectors(1, 9)[0]
    cosines = dict(enumerate((rows @ (query / np.linalg.norm(query))).tolist()))
    assert_is(engine.search(query, k=30, metric="cosine"), cosines, 30)
    few = {item: cosines[item] for item in (3, 30, 60)}
    assert_is(engine.search(query, k=30, metric="cosine", among=list(few)), few, 3)
    others = {item: cosine for item, cosine in cosines.items() if item not in few}
    assert_is(engine.search(query, k=97, metric="cosine", exclude=list(few)), others, 97)


def test_the_cosine_to_nothing_is_zero() -> None:
    engine = Engine.from_factors(["ann"], [[1.0, 1.0]], ["zero", "one"], [[0.0, 0.0], [1.0, 2.0]])
    assert engine.similar_items("zero").scores.tolist() == [0.0]
    assert engine.similar_items("one").scores.tolist() == [0.0]
    assert engine.search([0.0, 0.0], metric="cosine").scores.tolist() == [0.0, 0.0]


def test_equal_scores_in_the_order_of_arrival() -> None:
    engine = Engine.from_factors(["ann"], [[1.0]], range(200), [[float(i % 2)] for i in range(200)])
    assert engine.recommend("ann", k=150).ids.tolist() == [*range(1, 200, 2), *range(0, 100, 2)]
    assert engine.recommend("nobody", k=3).ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("objective", "link"), [("logistic", lambda z: 1 / (1 + np.exp(-z))), ("squared", lambda z: z)]
)
def test_predict_is_the_linked_score_with_biases(objective: str, link: Any) -> None:
    users, items = vectors(2, 1), vectors(5, 2)
    engine = Engine.from_factors(
        ["ann", "bob"], users, range(5), items, [0.5, -0.25], np.arange(5) / 4, global_bias=0.75, objective=objective
    )
    expected = link((items @ users[1] + np.arange(5) / 4 - 0.25 + 0.75).astype(np.float64))
    predicted = engine.predict("bob", range(5))
    assert (predicted.dtype, predicted.shape) == (np.float32, (5,))
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)
    one = engine.predict("bob", 3)
    assert isinstance(one, float)
    assert one == predicted[3]
    assert engine.predict("nobody", 4) == pytest.approx(float(link(np.float64(1.75))), rel=1e-6)


def test_seen_items_are_left_out_on_request_only() -> None:
    engine = Engine(dim=DIM)
    engine.learn_many(["ann", "ann", "bob"], ["tea", "cup", "pen"])
    assert sorted(engine.recommend("ann").ids.tolist()) == ["cup", "pen", "tea"]
    assert engine.recommend("ann", exclude_seen=True).ids.tolist() == ["pen"]
    assert engine.recommend("ann", exclude_seen=True, exclude=["pen"]).counts == 0
    assert engine.recommend("ann", exclude_seen=True, among=["tea", "pen"]).ids.tolist() == ["pen"]
    batch = engine.recommend(["ann", "bob", "new"], k=3, exclude_seen=True)
    assert isinstance(batch.counts, np.ndarray)
    assert batch.counts.tolist() == [1, 2, 3]
    assert engine.recommend(history=["tea"], exclude_seen=True).counts == 2


def test_unknown_ids_are_ignored_and_counted() -> None:
    engine = catalogue(["tea", "cup"], history=3)

    def ignored() -> int:
        return int(engine.stats()["ignored_ids"])

    assert engine.recommend("ann", exclude=["x", "tea", "y"]).ids.tolist() == ["cup"]
    assert ignored() == 2
    assert engine.recommend("ann", among=["x", "tea"]).ids.tolist() == ["tea"]
    assert ignored() == 3
    known = engine.recommend(history=["tea", "cup"])
    mixed = engine.recommend(history=["x", "tea", "y", "cup", "z"])
    assert ignored() == 6
    np.testing.assert_array_equal(known.ids, mixed.ids)
    np.testing.assert_array_equal(known.scores, mixed.scores)
    engine.search(vectors(1)[0], exclude=["x"], among=["y", "z"])
    assert ignored() == 9
    assert engine.recommend("nobody").counts == 2  # an unknown user is no ignored id
    assert ignored() == 9


def test_user_vectors_hold_the_decayed_history() -> None:
    engine = Engine(dim=DIM, history=4, history_decay=0.5, ranker=None)
    events = ["a", "b", "c", "a", "d", "e"]
    engine.learn_many(["ann"] * len(events), events)
    own = engine.factors().user_vectors[0]
    learned = engine._core.context_weights()
    recent = learned[:4] @ engine.item_vector(["e", "d", "a", "c"])
    np.testing.assert_allclose(engine.user_vector("ann"), own + recent, rtol=1e-5, atol=1e-7)
    scores = scores_of(engine, recent)
    for item, kind in {"e": 0, "d": 1, "a": 1, "c": 2}.items():
        scores[item] += float(learned[12 + kind])
    assert_is(engine.recommend(history=events, k=5), scores, 5)
    assert_is(engine.recommend(history=events, k=2, exclude=["b"], exclude_seen=True), {}, 2)


def test_unknown_users_get_what_is_popular() -> None:
    half_life = 100.0
    engine = Engine(dim=DIM, popularity_half_life=half_life)
    random = np.random.default_rng(2)
    items, times = random.integers(0, 20, 500), np.sort(random.uniform(1e9, 1e9 + 1000, 500))
    engine.learn_many(np.arange(500), items, timestamps=times)
    counts = {
        item: float(np.sum(2.0 ** -((times[-1] - times[items == item]) / half_life)))
        for item in np.unique(items).tolist()
    }
    everyone = engine.recommend(-1, k=99)
    assert everyone.ids.tolist() == best_of(counts, 99)
    np.testing.assert_allclose(everyone.scores, [counts[item] for item in everyone.ids.tolist()], rtol=1e-3)
    np.testing.assert_array_equal(engine.recommend(history=[], k=99).ids, everyone.ids)
    np.testing.assert_array_equal(engine.recommend(history=[-5], k=99).ids, everyone.ids)
    some = everyone.ids[3:12:2]
    assert engine.recommend(-1, among=some).ids.tolist() == some.tolist()
    assert engine.recommend(-1, k=99, exclude=some).ids.tolist() == [i for i in everyone.ids if i not in some]
    np.testing.assert_array_equal(engine.rank(-1, some).scores, everyone.scores[3:12:2])
    biases = dict(zip(engine.items, engine.factors().item_biases.tolist(), strict=True))
    assert engine.score(-1, some).tolist() == [biases[item] for item in some.tolist()]  # the inner product, always


def test_popularity_without_forgetting_counts_events() -> None:
    engine = Engine(dim=DIM, popularity_half_life=math.inf, max_ahead=math.inf)
    engine.learn_many(["a"] * 6, ["x", "y", "x", "z", "x", "y"], timestamps=[0.0, 1e9, 5.0, -1e9, 3.0, 2e9])
    ranking = engine.recommend("nobody")
    assert ranking.ids.tolist() == ["x", "y", "z"]
    np.testing.assert_allclose(ranking.scores, [3, 2, 1], rtol=1e-4)

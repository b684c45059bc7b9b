"""Ways of retrieval from Python: all that are certified give the ranking of a plain float32 scan, whatever happens."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Cells, Engine, Flat, Graph
from recengine.retrieval import Retrieval

Floats = npt.NDArray[np.float32]
CERTIFIED: list[Retrieval] = ["auto", Flat(), Flat(codes=False), Cells()]


def made(items: int, dim: int = 16, seed: int = 0, **options: Any) -> Engine:
    """An engine of 50 users and items in clusters of very different lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, dim)) * rng.lognormal(size=(30, 1))
    vectors = centres[rng.integers(0, 30, items)] + rng.normal(size=(items, dim)) * 0.2
    users = rng.normal(size=(50, dim))
    biases = rng.normal(size=items)
    return Engine.from_factors(
        np.arange(50), users, np.arange(items), vectors, item_bias=biases, seed=seed, maintenance=False, **options
    )


def exact(engine: Engine, user: int, k: int, allowed: set[int] | None = None) -> list[int]:
    """The ranking by `score`, which scores item by item; ties go to the item that came first."""
    items = np.array(sorted(engine.items))
    if allowed is not None:
        items = np.array([item for item in items if item in allowed], dtype=np.int64)
    order = np.lexsort((items, -engine.score(user, items)))
    ranked: list[int] = items[order[:k]].tolist()
    return ranked


@pytest.mark.parametrize("items", [1, 100, 3_000, 9_000])
def test_certified_ways_agree_with_scores(items: int) -> None:
    engine = made(items)
    for maintained in (False, True):
        if maintained:
            engine.maintain()
        for user in range(10):
            expected = exact(engine, user, 20)
            for way in CERTIFIED:
                ranking = engine.recommend(user, 20, retrieval=way)
                assert ranking.certified
                assert ranking.ids.tolist() == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(0, 40), steps=st.lists(st.sampled_from("lrsam"), max_size=12))
def test_exact_while_rows_move(seed: int, k: int, steps: list[str]) -> None:
    """Learning, removing, setting and adding rows, and upkeep, in any order: every answer is that of the scores now."""
    engine = made(5_000, dim=8, seed=seed, objective="bpr", learning_rate=0.5)
    rng = np.random.default_rng(seed)
    fresh = 5_000
    for step in [*steps, "m"]:
        ids = np.array(list(engine.items))
        if step == "l":
            engine.learn_many(rng.integers(0, 50, 2_000), rng.choice(ids, 2_000))
        elif step == "r":
            engine.remove_items(rng.choice(ids, 100, replace=False))
        elif step == "s":
            some = rng.choice(ids, 300, replace=False)
            engine.set_items(some, rng.normal(size=(300, 8)) * 3)
        elif step == "a":
            engine.set_items(np.arange(fresh, fresh + 500), rng.normal(size=(500, 8)) * 2)
            fresh += 500
        else:
            engine.maintain()
        user = int(rng.integers(0, 50))
        expected = engine.score(user, exact(engine, user, k)).tolist()
        for way in CERTIFIED:
            assert engine.recommend(user, k, retrieval=way).scores.tolist() == expected


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.0005])
def test_filters_in_every_way(share: float) -> None:
    engine = made(9_000)
    engine.maintain()
    rng = np.random.default_rng(1)
    chosen = set(np.flatnonzero(rng.random(9_000) < share).tolist()) | {17}
    engine.set_filter("chosen", sorted(chosen))
    for user in range(5):
        expected = exact(engine, user, 10, chosen)
        for way in [*CERTIFIED, Graph(ef=200)]:
            ids = engine.recommend(user, 10, filter=engine.filter("chosen"), retrieval=way).ids.tolist()
            assert len(ids) == min(10, len(chosen))
            assert set(ids) <= chosen
            if not isinstance(way, Graph):
                assert ids == expected
        excluded = expected[::2]
        left = [item for item in exact(engine, user, 20, chosen) if item not in excluded][:10]
        assert engine.recommend(user, 10, filter=engine.filter("chosen"), exclude=excluded).ids.tolist() == left


def test_a_cap_on_cells_says_what_it_costs() -> None:
    engine = made(9_000)
    engine.maintain()
    capped = [engine.recommend(user, 20, retrieval=Cells(max_cells=1)) for user in range(50)]
    for user, ranking in enumerate(capped):
        assert len(ranking.ids) == 20
        assert ranking.ids.tolist() == exact(engine, user, 20) or not ranking.certified
    assert not all(ranking.certified for ranking in capped)
    assert engine.plan(0, 20, retrieval=Cells(max_cells=1))["cells_visited"] <= 1
    assert not engine.recommend(list(range(50)), 20, retrieval=Cells(max_cells=1)).certified
    assert 0 < engine.stats()["sampled_recall"] <= 1


def test_batches_are_the_single_rankings() -> None:
    engine = made(9_000)
    for maintained in (False, True):
        if maintained:
            engine.maintain()
        for way in [*CERTIFIED, Cells(max_cells=3)]:
            batch = engine.recommend(list(range(50)), 7, retrieval=way)
            for user in range(50):
                one = engine.recommend(user, 7, retrieval=way)
                assert batch.ids[user].tolist() == one.ids.tolist()
                assert batch.scores[user].tolist() == one.scores.tolist()


def test_search_takes_the_same_ways() -> None:
    engine = made(6_000)
    engine.maintain()
    vector = engine.user_vector(3)
    expected = exact(engine, 3, 10)
    for way in CERTIFIED:
        assert engine.search(vector, 10, retrieval=way).ids.tolist() == expected


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    dim=st.sampled_from([1, 8, 64, 70]),
    storage=st.sampled_from(["fp32", "fp16"]),
    steps=st.lists(st.sampled_from("lrsm"), max_size=5),
)
def test_cosines_by_codes(seed: int, dim: int, storage: str, steps: list[str]) -> None:
    """The fp32 scan's, bit for bit, over rows of very different lengths that move and go, with and without a filter."""
    engine = made(5_000, dim, seed, objective="bpr", learning_rate=0.5, storage=storage)
    rng = np.random.default_rng(seed)
    some = rng.choice(5_000, 600, replace=False)
    lengths = 10.0 ** (rng.integers(-30, 15, (600, 1)) if storage == "fp32" else rng.integers(-9, 4, (600, 1)))
    engine.set_items(some, rng.normal(size=(600, dim)) * lengths)
    engine.set_items(some[:50], np.zeros((50, dim)))
    for share in (0.9, 0.5, 0.002):
        engine.set_filter(str(share), rng.choice(5_000, int(share * 5_000), replace=False))
    for step in [*steps, "l", "m"]:
        ids = np.array(list(engine.items))
        if step == "l":
            engine.learn_many(rng.integers(0, 50, 30), rng.choice(ids, 30))
        elif step == "r":
            engine.remove_items(rng.choice(ids, 100, replace=False))
        elif step == "s":
            engine.set_items(rng.choice(ids, 40, replace=False), rng.normal(size=(40, dim)))
        else:
            engine.maintain()
        vector = rng.normal(size=dim)
        k = int(rng.integers(0, 40))
        for name in (None, "0.9", "0.5", "0.002"):
            chosen = None if name is None else engine.filter(name)
            exact = engine.search(vector, k, metric="cosine", filter=chosen, retrieval=Flat(codes=False))
            for way in (*CERTIFIED, Cells(max_cells=1), Graph(ef=20)):
                ranking = engine.search(vector, k, metric="cosine", filter=chosen, retrieval=way)
                assert ranking.certified
                assert ranking.ids.tolist() == exact.ids.tolist()
                assert ranking.scores.tolist() == exact.scores.tolist()
        item = int(rng.choice(np.array(list(engine.items))))
        similar = engine.similar_items(item, k, retrieval=Flat(codes=False))
        assert engine.similar_items(item, k).ids.tolist() == similar.ids.tolist()


def test_the_graph_finds_most_and_follows() -> None:
    engine = made(3_000)
    hits = 0
    for user in range(50):
        ranking = engine.recommend(user, 10, retrieval=Graph(ef=400))  # hnswlib on these rows: .94
        assert not ranking.certified
        hits += len(set(ranking.ids.tolist()) & set(exact(engine, user, 10)))
    assert hits >= 475
    best = np.asarray(engine.user_vector(0)) * 100
    engine.set_items([9_999], best[np.newaxis, :])
    assert engine.recommend(0, 1, retrieval=Graph()).ids.tolist() == [9_999]
    engine.maintain()
    assert engine.recommend(0, 1, retrieval=Graph()).ids.tolist() == [9_999]
    engine.remove_items([9_999])
    assert 9_999 not in engine.recommend(0, 10, retrieval=Graph()).ids
    engine.remove_items(np.arange(1_000))  # enough for their slots to be reused
    engine.set_items(np.arange(20_000, 20_800), np.random.default_rng(0).normal(size=(800, 16)))
    engine.maintain()
    for user in range(50):
        ranking = engine.recommend(user, 10, retrieval=Graph(ef=200))
        assert len(ranking.ids) == 10
        assert ranking.scores.tolist() == engine.score(user, ranking.ids).tolist()


def test_plan_says_what_was_done() -> None:
    engine = made(9_000)
    assert engine.plan(0)["cells"] == 0
    engine.maintain()
    plan = engine.plan(0)
    assert plan["retrieval"] == "cells"
    assert plan["certified"]
    assert 0 < plan["cells_visited"] <= plan["cells"] == engine.stats()["cells"]
    assert 10 <= plan["rows_scored"] <= plan["rows_screened"] <= 9_500
    assert plan["retrieve_us"] > 0
    assert engine.plan(0, among=[1, 2])["retrieval"] == "gather"
    engine.set_filter("few", [1, 2, 3])
    assert engine.plan(0, filter=engine.filter("few"))["retrieval"] == "gather"
    assert engine.plan(0, retrieval=Flat())["retrieval"] == "flat"
    assert engine.plan(0, retrieval=Flat(codes=False))["retrieval"] == "rows"
    assert engine.plan(0, retrieval=Graph())["certified"] is False
    assert engine.plan(0, 5, retrieval=Graph(ef=50))["rows_scored"] >= 50
    assert engine.plan(0, among=[1, 2])["rows_scored"] == 2
    assert engine.plan(0, filter=engine.filter("few"))["rows_scored"] == 3
    stranger = engine.plan(12_345)
    assert (stranger["retrieval"], stranger["rows_scored"]) == ("popular", 9_000)


def test_upkeep_in_the_background_builds_cells() -> None:
    rng = np.random.default_rng(0)
    engine = Engine.from_factors([0], rng.normal(size=(1, 8)), np.arange(9_000), rng.normal(size=(9_000, 8)))
    done = threading.Event()
    for _ in range(300):
        if engine.stats()["cells"] > 0:
            break
        done.wait(0.1)
    assert engine.stats()["cells"] > 0
    assert engine.recommend(0, 10).ids.tolist() == exact(engine, 0, 10)


@pytest.mark.parametrize("dim", [8, 64])
def test_upkeep_ends_where_a_few_rows_are_far_from_all_others(dim: int) -> None:
    """Split from them, a cluster would be merged with them again, and so on."""
    engine = made(5_000, dim)
    rng = np.random.default_rng(0)
    far = rng.normal(size=(600, dim)) * 10.0 ** rng.integers(-30, 15, (600, 1))
    engine.set_items(rng.choice(5_000, 600, replace=False), far)
    assert engine.maintain() < 100
    assert engine.recommend(0, 20).ids.tolist() == exact(engine, 0, 20)


@pytest.mark.parametrize("kind", ["27 points", "98 % zero", "a point"])
def test_upkeep_ends_where_few_rows_are_distinct(kind: str) -> None:
    """Clusters merged for being too small are no growth of the others, for which all would be trained again."""
    rng = np.random.default_rng(0)
    rows = rng.choice([-1.0, 0.0, 1.0], (9_000, 3))
    if kind == "98 % zero":
        rows = rng.normal(size=(9_000, 3)) * (rng.random((9_000, 1)) > 0.98)
    elif kind == "a point":
        rows = np.ones((9_000, 3))
    engine = Engine.from_factors([0], [[1.0, 0.5, -2.0]], np.arange(9_000), rows, maintenance=False)
    assert engine.maintain() < 100
    assert engine.maintain() == 0
    assert engine.recommend(0, 20).ids.tolist() == exact(engine, 0, 20)


def test_queries_beside_learners_and_upkeep() -> None:
    """Ids are distinct and known; scores are in order. When all is quiet, answers are exact."""
    engine = made(8_000, objective="bpr", learning_rate=0.1, threads=1)
    engine.maintenance = True
    stop = threading.Event()
    problems: list[str] = []

    def learn(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            engine.learn_many(rng.integers(0, 50, 1_000), rng.integers(0, 9_000, 1_000))

    def query() -> None:
        rng = np.random.default_rng(9)
        for _ in range(1_500):
            ranking = engine.recommend(int(rng.integers(0, 50)), 20)
            if len(set(ranking.ids.tolist())) != 20 or (np.diff(ranking.scores) > 0).any():
                problems.append(repr(ranking))

    learners = [threading.Thread(target=learn, args=(seed,)) for seed in range(2)]
    for thread in learners:
        thread.start()
    query()
    stop.set()
    for thread in learners:
        thread.join()
    assert not problems
    for user in range(20):
        assert engine.recommend(user, 20).ids.tolist() == exact(engine, user, 20)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "bpr", "history": 0},
        {"objective": "bpr", "history": 0, "optimizer": "sgd", "l2": 0.01},
        {"objective": "bpr", "history": 0, "storage": "fp16"},
        {"objective": "softmax"},
        {"objective": "logistic", "negatives": 2},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_exact_between_bursts_of_learning(options: dict[str, Any]) -> None:
    """Rows are written faster than codes can follow: rankings come from codes that lag behind, and are exact."""
    engine = made(6_000, **options)
    rng = np.random.default_rng(1)
    lagging = 0
    for burst in range(60):
        users, items = rng.integers(0, 50, 3_000), rng.integers(0, 6_000, 3_000)
        engine.learn_many(users, items, threads=1)
        if burst % 9 == 3:
            engine.set_items([7, 8, 10_000 + burst], rng.normal(size=(3, 16)))
            engine.remove_items([100 + burst])
        for user in range(3):
            ranking = engine.recommend(user, 20)
            expected = engine.recommend(user, 20, retrieval=Flat(codes=False))
            assert ranking.certified
            assert ranking.ids.tolist() == expected.ids.tolist()
            assert ranking.scores.tolist() == expected.scores.tolist()
        plan = engine.plan(0, 20)
        lagging += plan["retrieval"] == "flat" and plan["rows_screened"] > 0
    if options["objective"] == "bpr":  # fast enough on any machine
        assert lagging > 30


def test_rows_too_short_for_their_squares() -> None:
    """Squares of coordinates below 1e-19 lose digits, and below 1e-23 all of them; bounds and cosines know."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6_000, 2)) * 10.0 ** rng.uniform(-26, -18, (6_000, 1))
    engine = Engine.from_factors(np.arange(50), rng.normal(size=(50, 2)), np.arange(6_000), vectors, maintenance=False)
    engine.maintain()
    rows = np.asarray(engine.item_vector(list(range(6_000))), dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    for user in range(50):
        expected = engine.recommend(user, 20, retrieval=Flat(codes=False))
        for way in CERTIFIED:
            assert engine.recommend(user, 20, retrieval=way).ids.tolist() == expected.ids.tolist()
        query = np.asarray(engine.user_vector(user), dtype=np.float64)
        for scale in (1.0, 1e-24):
            found = engine.search(query * scale, 20, metric="cosine")
            cosines = rows @ query / lengths / np.linalg.norm(query)
            np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1][:20], rtol=1e-5)
            assert engine.search(query * scale, 20, metric="cosine", retrieval=Flat(codes=False)).ids.tolist() == (
                found.ids.tolist()
            )


def test_removals_beside_queries_leave_rankings_whole() -> None:
    engine = made(9_000)
    engine.maintain()
    stop = threading.Event()

    def churn() -> None:
        rng = np.random.default_rng(2)
        while not stop.is_set():
            gone = rng.choice(9_000, 200, replace=False)
            engine.remove_items(gone)
            engine.set_items(gone, rng.normal(size=(200, 16)) * 3)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        short = sum(len(engine.recommend(user % 50, 20).ids) < 20 for user in range(3_000))
        short += sum(int((np.asarray(engine.recommend(list(range(50)), 20).counts) < 20).sum()) for _ in range(60))
    finally:
        stop.set()
        thread.join()
    assert short == 0


def test_bad_input() -> None:
    engine = made(100)
    for wrong in (0, -1, 2**63):
        with pytest.raises(ValueError, match=str(wrong)):
            Cells(max_cells=wrong)
        with pytest.raises(ValueError, match=str(wrong)):
            Graph(ef=wrong)
    with pytest.raises(TypeError, match=r"1\.5"):
        Graph(ef=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="1"):
        Flat(codes=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="hnsw"):
        engine.recommend(0, retrieval="hnsw")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nan"):
        engine.search([float("nan")] * 16, retrieval=Cells())
    with pytest.raises(ValueError, match="3"):
        engine.search([1.0] * 3, retrieval=Graph())
    for wrong_k in (1.0, True, "3", None):
        with pytest.raises(TypeError, match=re.escape(f"k must be an int, not {wrong_k!r}")):
            engine.recommend(0, wrong_k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k must be at least 0, not -3"):
        engine.recommend(0, np.int64(-3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k must be at most 134217728 for 2 queries at once, not 1000000000"):
        engine.recommend([0, 1], 1_000_000_000)
    assert len(engine.recommend(0, 2**70).ids) == 100
    assert engine.recommend(0, 3, retrieval=Cells(max_cells=np.int64(4))).ids.shape == (3,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not 1e\+300"):
        engine.search([1e300] * 16)
    assert engine.recommend(0, 0, retrieval=Cells()).ids.tolist() == []
    assert len(engine.recommend(0, 1_000, retrieval=Cells()).ids) == 100
    empty = Engine(dim=4)
    ways: list[Retrieval] = [*CERTIFIED, Graph()]
    for way in ways:
        assert empty.search([1.0] * 4, retrieval=way).ids.tolist() == []

"""The graph as a way of an engine: whatever comes, goes and moves is found, as well as a graph built anew finds it."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine, Graph

Vectors = npt.NDArray[np.float64]

USERS = 300
USER = 0


def made(vectors: Vectors, maintenance: bool = False) -> Engine:
    users = np.random.default_rng(7).normal(size=(USERS, vectors.shape[1]))
    engine = Engine.from_factors(np.arange(USERS), users, np.arange(len(vectors)), vectors, maintenance=maintenance)
    engine.threads = 1
    return engine


def gaussian(items: int, dim: int = 16, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(items, dim))


def add_best(engine: Engine, item: int) -> None:
    engine.set_items([item], 100 * np.asarray(engine.user_vector(USER))[np.newaxis, :])


@pytest.mark.parametrize("maintenance", [False, True])
def test_new_items_are_found_however_many_rows_moved(maintenance: bool) -> None:
    engine = made(gaussian(9_000), maintenance)
    engine.recommend(USER, 1, retrieval=Graph())  # built, then all rows are coded
    add_best(engine, 50_000)
    assert engine.recommend(USER, 1, retrieval=Graph()).ids.tolist() == [50_000]
    engine.maintain()
    rng = np.random.default_rng(1)
    engine.learn_many(rng.integers(0, 100, 20_000), rng.permutation(20_000) % 9_000)
    add_best(engine, 50_001)
    engine.set_filter("it", [50_001])
    assert engine.recommend(USER, 5, retrieval=Graph(), filter=engine.filter("it")).ids.tolist() == [50_001]


def test_all_new_items_of_many_are_found() -> None:
    engine = made(gaussian(3_000))
    engine.recommend(USER, 1, retrieval=Graph())
    engine.set_items(np.arange(10_000, 16_000), gaussian(6_000, seed=2))
    engine.set_filter("new", np.arange(10_000, 16_000))
    found = engine.recommend(USER, 6_000, retrieval=Graph(), filter=engine.filter("new"))
    assert sorted(found.ids.tolist()) == list(range(10_000, 16_000))


@pytest.mark.parametrize("kind", ["grid", "zeros", "gaussian"])
def test_no_item_is_out_of_reach(kind: str) -> None:
    """Also among equal rows, whose links are full of each other, and after a third of the items has gone."""
    vectors = gaussian(3_000, 2)
    if kind == "grid":
        vectors = np.random.default_rng(3).integers(-1, 2, (3_000, 2)).astype(float)
    if kind == "zeros":
        vectors[::2] = 0
    engine = made(vectors)
    engine.recommend(USER, 1, retrieval=Graph())
    engine.remove_items(np.arange(0, 3_000, 3))
    engine.maintain()
    ranking = engine.recommend(USER, 2_000, retrieval=Graph())
    assert sorted(ranking.ids.tolist()) == [item for item in range(3_000) if item % 3]
    assert not ranking.certified  # by the graph alone


def test_fewer_than_were_asked_for_are_looked_for_everywhere() -> None:
    engine = made(gaussian(3_000))
    engine.recommend(USER, 1, retrieval=Graph())
    for item in range(0, 3_000, 150):
        engine.set_filter("one", [item])
        assert engine.recommend(USER, 3, retrieval=Graph(ef=3), filter=engine.filter("one")).ids.tolist() == [item]
    assert len(engine.recommend(USER, 5_000, retrieval=Graph()).ids) == 3_000
    assert engine.recommend(USER, 0, retrieval=Graph()).ids.tolist() == []


def test_batches_are_the_single_rankings() -> None:
    engine = made(gaussian(3_000))
    batch = engine.recommend(list(range(40)), 10, retrieval=Graph())
    for user in range(40):
        assert batch.ids[user].tolist() == engine.recommend(user, 10, retrieval=Graph()).ids.tolist()


def test_removed_while_it_is_built() -> None:
    """Items that go and come while another thread builds the graph: it holds those that there are, and no others."""
    engine = made(gaussian(20_000))
    builder = threading.Thread(target=lambda: engine.recommend(USER, 1, retrieval=Graph()))
    builder.start()
    for item in range(0, 20_000, 10):
        engine.remove_items([item])
    builder.join()
    engine.set_items(np.arange(30_000, 31_000), gaussian(1_000, seed=4))
    engine.maintain()
    ranking = engine.recommend(USER, len(engine.items), retrieval=Graph())
    assert sorted(ranking.ids.tolist()) == sorted(engine.items)


@pytest.mark.parametrize("kind", ["gaussian", "clusters"])
@pytest.mark.parametrize("ef", [50, 100])
def test_finds_as_many_as_hnswlib(kind: str, ef: int) -> None:
    """On vectors of length one, where inner products order items as distances do; M and both ef are equal."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(8_000, 24))
    if kind == "clusters":
        vectors = rng.normal(size=(60, 24))[rng.integers(0, 60, 8_000)] + 0.5 * vectors
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    engine = made(vectors)
    queries = np.asarray([engine.user_vector(user) for user in range(100)])
    peer: Any = importlib.import_module("hnswlib").Index(space="l2", dim=24)
    peer.init_index(len(vectors), M=16, ef_construction=100, random_seed=1)
    peer.add_items(vectors, num_threads=1)
    peer.set_ef(ef)
    theirs, _ = peer.knn_query(queries / np.linalg.norm(queries, axis=1, keepdims=True), 10, num_threads=1)
    best = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]
    hits = their_hits = 0
    for user in range(100):
        ours = engine.recommend(user, 10, retrieval=Graph(ef=ef)).ids
        hits += len(np.intersect1d(ours, best[user]))
        their_hits += len(np.intersect1d(theirs[user], best[user]))
    assert hits >= their_hits - 10  # of 1,000; single builds differ by more


def test_follows_what_moves_and_goes_as_well_as_a_graph_built_anew() -> None:
    rng = np.random.default_rng(6)
    engine = made(gaussian(6_000))
    engine.recommend(USER, 1, retrieval=Graph())
    for round_ in range(2):
        engine.remove_items(rng.choice(np.array(list(engine.items)), 1_500, replace=False))
        engine.set_items(np.arange(1_500) + 10_000 * (round_ + 1), gaussian(1_500, seed=8 + round_))
        moved = rng.choice(np.array(list(engine.items)), 2_000, replace=False)
        engine.set_items(moved, gaussian(2_000, seed=20 + round_))
        engine.maintain()
    ids = np.array(sorted(engine.items))
    users = np.asarray([engine.user_vector(user) for user in range(USERS)])
    fresh = Engine.from_factors(np.arange(USERS), users, ids, engine.item_vector(ids.tolist()), maintenance=False)
    fresh.threads = 1

    def recall(of: Engine) -> float:
        of.recommend(USER, 1, retrieval=Graph())
        of.maintain()  # nothing is left that would be scored beside the graph
        found = [of.recommend(user, 10, retrieval=Graph(ef=100)).ids for user in range(USERS)]
        best = [of.recommend(user, 10).ids for user in range(USERS)]
        return sum(len(np.intersect1d(ours, exact)) for ours, exact in zip(found, best, strict=True)) / (10 * USERS)

    assert recall(engine) >= recall(fresh) - 0.015  # .01, and what 3,000 answers may differ by

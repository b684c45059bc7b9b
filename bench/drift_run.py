"""Recall and time along a run of learning: recengine's ways follow the rows, an index of another library is stale.

An engine learns half of Gowalla's pairs, in random order, ten times over, and every peer indexes the rows as they are
then. The engine goes on with the other half, and then with all pairs. At every stop each side gets the users' vectors
as they are now, and what is true is computed from the rows as they are now. Peers see biases as a 65th coordinate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from bench import pairs as data
from bench import peers
from bench.bench_drift import median_drift
from bench.catalogues import found
from bench.factors import DIM
from bench.oracle import Truth, Vectors
from bench.side_by_side import each
from bench.turns import take_turns

from recengine import Cells, Engine, Graph

K = 20
N_QUERIES = 100
WAYS: dict[str, Any] = {
    "recengine cells": Cells(),
    "recengine cells, capped": Cells(max_cells=32),
    "recengine graph": Graph(ef=100),
}
EFFORTS = {"hnswlib": 400, "usearch": 400, "faiss HNSW": 400, "faiss IVF": 32}
MARKERS = "osD^v<>Px"


class Moment(NamedTuple):
    """One line of the table: one side at one stop."""

    events: int
    median_drift: float
    way: str
    recall: float
    p50_us: float


def pyplot() -> Any:
    """matplotlib's, drawing into files."""
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def style(way: str, n: int) -> dict[str, Any]:
    """Thick lines for recengine, thin dashed ones for the peers."""
    ours = way.startswith("recengine")
    return {
        "marker": MARKERS[n % len(MARKERS)],
        "color": f"C{n}",
        "linewidth": 2.2 if ours else 1.2,
        "linestyle": "-" if ours else "--",
        "markersize": 5,
    }


def augmented(engine: Engine) -> Vectors:
    """Rows whose inner product with ``(x, 1)`` is the score: the item's vector, its bias, and zeros up to 80."""
    learned = engine.factors()
    rows = np.zeros((len(learned.item_ids), DIM + 16), dtype=np.float32)
    order = np.argsort(learned.item_ids)  # the row of item i is row i
    rows[:, :DIM] = learned.item_vectors[order]
    rows[:, DIM] = learned.item_biases[order]
    return rows


def queries_of(engine: Engine, users: list[int]) -> Vectors:
    """``(x, 1)`` for the users' vectors as they are now."""
    queries = np.zeros((len(users), DIM + 16), dtype=np.float32)
    queries[:, :DIM] = engine.user_vector(users)
    queries[:, DIM] = 1
    return queries


def indexes(rows: Vectors) -> list[peers.Peer]:
    built = [peers.graph("hnswlib", rows), peers.graph("usearch", rows), peers.graph("faiss HNSW", rows)]
    built.append(peers.ivf(rows, min(256, len(rows) // 40)))
    for peer in built:
        peer.set_effort(EFFORTS.get(peer.name, EFFORTS["faiss IVF"]))
    return built


def run(folder: Path | None, small: bool) -> list[Moment]:
    """Stops when the peers are built, at every tenth of the other half, and after every pass over all pairs."""
    pairs = data.synthetic(0.02 if small else 1.0) if small or folder is None else data.gowalla(folder)
    engine = Engine(dim=DIM, objective="bpr", history=0, seed=0, threads=2)
    half, tenth = len(pairs) // 2, len(pairs) // 20
    # Every item is known from the start: the peers could not take it in later.
    _, first = np.unique(pairs.items, return_index=True)
    engine.learn_many(pairs.users[first], pairs.items[first])
    for _ in range(10):
        engine.learn_many(pairs.users[:half], pairs.items[:half], threads=2)
    engine.maintain()
    chunks = [slice(half + n * tenth, half + (n + 1) * tenth) for n in range(10)] + [slice(None)] * (2 if small else 8)

    engine.threads = 1
    before = augmented(engine)
    stale = indexes(before)
    users = np.unique(pairs.users[:half])[:N_QUERIES].tolist()
    moments = stop(engine, users, stale, before)
    engine.threads = 2
    for chunk in chunks:
        engine.learn_many(pairs.users[chunk], pairs.items[chunk], threads=2)
        moments += stop(engine, users, stale, before)
    return moments


def stop(engine: Engine, users: list[int], stale: list[peers.Peer], before: Vectors) -> list[Moment]:
    """Asks every side the same users, now."""
    threads, engine.threads = engine.threads, 1
    rows, queries = augmented(engine), queries_of(engine, users)
    truth = Truth(queries, rows, K)
    recalls = {name: truth.recall(found(engine, users, K, retrieval=way)) for name, way in WAYS.items()}
    sides = {
        name: each(lambda user, way=way: engine.recommend(user, k=K, retrieval=way), [(user,) for user in users])
        for name, way in WAYS.items()
    }
    for peer in stale:
        recalls[peer.name] = truth.recall(peer.search(queries, K))
        sides[peer.name] = each(
            lambda query, peer=peer: peer.search(query, K), [(query,) for query in queries[:, None]]
        )
    seconds = take_turns(sides, rounds=3)
    engine.threads = threads
    events, drift = engine.stats()["events"], median_drift(rows[:, :DIM], before[:, :DIM])
    return [
        Moment(events, drift, name, recall, float(np.median(seconds[name])) * 1e6) for name, recall in recalls.items()
    ]


def draw(moments: list[Moment], path: Path) -> None:
    """Recall above, time below, along the median drift since the peers were built."""
    figure, (recall, time) = pyplot().subplots(2, 1, figsize=(7, 8), sharex=True)
    for n, way in enumerate(dict.fromkeys(moment.way for moment in moments)):
        own = [moment for moment in moments if moment.way == way]
        drift = [moment.median_drift for moment in own]
        recall.plot(drift, [moment.recall for moment in own], label=way, **style(way, n))
        time.plot(drift, [moment.p50_us for moment in own], **style(way, n))
    recall.set(ylabel=f"recall@{K} of the rows as they are", title="while the engine learns (BPR, Gowalla)")
    time.set(ylabel="us a query, p50", xlabel="median drift of the rows, relative to their norm", yscale="log")
    for axis in (recall, time):
        axis.grid(alpha=0.3)
    recall.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)

"""Curves of recall against time, as a picture and as tables: recengine's ways of retrieval and other libraries.

    pip install ".[bench]"
    python bench/ann_curves.py --out docs/ann_curves.png --data DIR             # 41k rows, and a drift run
    python bench/ann_curves.py --out docs/ann_curves.png --data DIR --million   # and a million: an hour on two cores
    python bench/ann_curves.py --out docs/ann_curves.png --data DIR --million hnswlib  # with one graph there
    python bench/ann_curves.py --out /tmp/smoke.png --small                     # only checks that it all runs

DIR holds gowalla_train.parquet; without it the factors are made. One thread asks, one query a call, and all the points
of a panel take turns. The table lies beside the picture as .csv and .md; a second picture, *_drift, shows recall and
time while an engine learns, see `drift_run`.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when BLAS is loaded
sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script: bench.* are beside it

import numpy as np
from bench import drift_run, peers
from bench.catalogues import Catalogue, Catalogues, K
from bench.oracle import Vectors
from bench.side_by_side import each
from bench.turns import take_turns

from recengine import Cells, Engine, Flat, Graph

GRAPHS: tuple[peers.GraphName, ...] = ("hnswlib", "usearch", "faiss HNSW")
CAPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EFS = (20, 50, 100, 200, 400, 800)


class Point(NamedTuple):
    """One line of the table."""

    catalogue: str
    way: str
    effort: str
    recall: float
    p50_us: float
    p90_us: float


def ways_of(engine: Engine) -> Iterator[tuple[str, str, Any]]:
    """Name, effort and `retrieval` of recengine's own points."""
    yield "recengine flat", "exact", Flat()
    yield "recengine cells", "exact", Cells()
    for cap in CAPS:
        yield "recengine cells, capped", str(cap), Cells(max_cells=cap)
    for ef in EFS:
        yield "recengine graph", str(ef), Graph(ef=ef)


def indexes(catalogues: Catalogues, which: Catalogue, graphs: Sequence[peers.GraphName]) -> Iterator[peers.Peer]:
    items = catalogues.factors(which).items
    exact = catalogues.flat(which)
    yield peers.Peer("faiss flat", lambda q, k: exact.search(q, k)[1], lambda _: None, (0,))
    yield peers.ivf(items, min(len(items) // 40, 256 if which[1] == "gowalla" else 1_024))
    for name in graphs:
        yield catalogues.graph(name, which)


def curves(catalogues: Catalogues, which: Catalogue, graphs: Sequence[peers.GraphName], rounds: int) -> Iterator[Point]:
    """All points of one catalogue: recall over 100 queries, times over the same queries in every round."""
    engine, k, truth = catalogues.engine(which), K[which[1]], catalogues.truth(which)
    queries = catalogues.queries(which, 100)
    title = f"{which[0]}, {len(catalogues.factors(which).items):,} rows, k={k}"

    sides: dict[tuple[str, str], Any] = {}
    recalls: dict[tuple[str, str], float] = {}
    for way, effort, retrieval in ways_of(engine):

        def ask(query: Vectors, retrieval: Any = retrieval) -> Any:
            return engine.search(query, k, retrieval=retrieval)

        recalls[way, effort] = truth.recall(padded([ask(query).ids for query in queries], k))
        sides[way, effort] = each(ask, [(query,) for query in queries])
    for peer in indexes(catalogues, which, graphs):
        for number in peer.efforts:

            def run(peer: peers.Peer = peer, number: int = number) -> Any:
                peer.set_effort(number)
                return each(lambda query: peer.search(query, k), [(query,) for query in queries[:, None]])()

            peer.set_effort(number)
            key = peer.name, str(number) if number else "exact"
            recalls[key] = truth.recall(peer.search(queries, k))
            sides[key] = run
    seconds = take_turns({f"{way}\t{effort}": side for (way, effort), side in sides.items()}, rounds)
    for (way, effort), recall in recalls.items():
        p50, p90 = np.percentile(seconds[f"{way}\t{effort}"], [50, 90]) * 1e6
        yield Point(title, way, effort, recall, float(p50), float(p90))


def padded(found: list[Any], k: int) -> Any:
    """Ids of several queries as one array, -1 where there are fewer than k."""
    return np.stack([np.pad(ids, (0, k - len(ids)), constant_values=-1) for ids in found])


def draw(points: list[Point], path: Path) -> None:
    """A panel for each catalogue: time on a logarithmic axis, recall on one that spreads what is close to 1."""
    pyplot = drift_run.pyplot()
    titles = list(dict.fromkeys(point.catalogue for point in points))
    ways = list(dict.fromkeys(point.way for point in points))
    rows = (len(titles) + 1) // 2  # catalogues come in pairs, ALS and BPR
    figure, grid = pyplot.subplots(rows, 2, figsize=(13, 5.5 * rows), squeeze=False)
    axes = grid.flatten()
    for axis, title in zip(axes, titles, strict=True):
        for n, way in enumerate(ways):
            own = sorted((p for p in points if (p.catalogue, p.way) == (title, way)), key=lambda p: p.p50_us)
            style = drift_run.style(way, n)
            axis.plot([p.p50_us for p in own], [max(1 - p.recall, 1e-4) for p in own], label=way, **style)
        axis.set(xscale="log", yscale="log", ylim=(1, 0.8e-4), title=title, xlabel="us a query, p50")
        axis.xaxis.set_major_formatter(pyplot.FuncFormatter(lambda us, _: f"{us:g}"))
        axis.xaxis.set_minor_formatter(pyplot.NullFormatter())
        axis.set_yticks([1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-4])
        axis.set_yticklabels(["0", ".5", ".8", ".9", ".95", ".98", ".99", ".999", "1"])
        axis.grid(alpha=0.3)
    for axis in grid[:, 0]:
        axis.set_ylabel("recall")
    axes[-1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def write_table(rows: list[Any], path: Path) -> None:
    """The same rows as .csv and as a markdown table in .md."""
    names = rows[0]._fields
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    shown = [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    lines = [" | ".join(cells) for cells in (names, ["---"] * len(names), *shown)]
    path.with_suffix(".md").write_text("".join(f"| {line} |\n" for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser(description="Curves of recall against time.")
    parser.add_argument("--out", type=Path, required=True, help="the picture; its name is also that of the tables")
    parser.add_argument("--data", type=Path, help="folder of gowalla_train.parquet; without it the factors are made")
    parser.add_argument(
        "--million",
        nargs="*",
        choices=GRAPHS,
        metavar="GRAPH",
        help="also a million rows, with these graphs of others (default: hnswlib, usearch, faiss HNSW)",
    )
    parser.add_argument("--small", action="store_true", help="tiny data: only checks that it all runs")
    options = parser.parse_args()
    if options.data is not None and not (options.data / "gowalla_train.parquet").is_file():
        parser.error(f"no gowalla_train.parquet in {options.data}")

    catalogues = Catalogues(options.data, options.small)
    chosen: list[Catalogue] = [("als", "gowalla"), ("bpr", "gowalla")]
    if options.million is not None:
        chosen += [("als", "million"), ("bpr", "million")]
    points: list[Point] = []
    for which in chosen:
        graphs = GRAPHS if which[1] == "gowalla" else options.million or GRAPHS
        points += curves(catalogues, which, graphs, 2 if options.small else 5)
        print(f"{points[-1].catalogue}: done", flush=True)
    write_table(points, options.out)
    draw(points, options.out)

    moments = drift_run.run(options.data, options.small)
    drifted = options.out.with_name(f"{options.out.stem}_drift{options.out.suffix}")
    write_table(moments, drifted)
    drift_run.draw(moments, drifted)


if __name__ == "__main__":
    main()

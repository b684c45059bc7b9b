"""A catalogue of ten million items, or of any size: build, learn, answer, and what it takes of time and memory.

    pip install ".[bench]"
    python bench/ten_million.py                                     # 10,000,000 x 64, rows of floats
    python bench/ten_million.py --storage fp16                      # rows of halves
    python bench/ten_million.py --rows 100_000                      # only checks that it all runs

The rows are mixed from factors that are made, see `factors.made` and `factors.mixed`; a build is one `set_items` for
each 250,000 of them and then `maintain`. Queries are asked from Python by one thread, k=10, before and after learning.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when BLAS is loaded
sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script: bench.* are beside it

import numpy as np
from bench import factors, pairs

from recengine import Engine

BLOCK = 250_000
K = 10


def resident() -> int:
    """Bytes of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = perf_counter()
    yield
    print(f"{what}: {perf_counter() - start:.1f} s", flush=True)


def fill(engine: Engine, real: factors.Factors, rows: int) -> float:
    """Adds the items block by block; returns the seconds that the engine took of it, without making the rows."""
    seconds = 0.0
    for number, first in enumerate(range(0, rows, BLOCK)):
        size = min(BLOCK, rows - first)
        block = factors.mixed(real, size, seed=number).items
        start = perf_counter()
        engine.set_items(np.arange(first, first + size), block)
        seconds += perf_counter() - start
    return seconds


def ask(engine: Engine, users: int, what: str) -> None:
    """Asks for each of the users, twice, the first time to warm up."""
    times, certified = np.zeros(users), True
    for _ in range(2):
        for user in range(users):
            start = perf_counter()
            ranking = engine.recommend(user, k=K)
            times[user] = perf_counter() - start
            certified = certified and bool(ranking.certified)
    plans = [engine.plan(user, k=K) for user in range(min(users, 20))]
    scored, screened = (np.mean([plan[name] for plan in plans]) for name in ("rows_scored", "rows_screened"))
    print(
        f"{what}: p50 {np.median(times) * 1e6:.0f} us, p90 {np.quantile(times, 0.9) * 1e6:.0f} us, "
        f"{'certified' if certified else 'NOT certified'}, by {plans[0]['retrieval']}, "
        f"{screened:.0f} rows screened, {scored:.0f} scored",
        flush=True,
    )


def check(engine: Engine, rows: int, users: int) -> None:
    """Compares rankings with the scores of all items."""
    for user in range(users):
        scores = engine.score(user, np.arange(rows))
        best = np.argpartition(-scores, K - 1)[:K]
        ranking = engine.recommend(user, k=K)
        if not np.array_equal(np.sort(ranking.scores), np.sort(scores[best])):
            raise SystemExit(f"the ranking of user {user} is not that of the scores")
    print(f"{users} rankings are those of all scores")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build, learn and answer over millions of items.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--storage", choices=["fp32", "fp16"], default="fp32")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=1_000, help="that are asked for")
    options = parser.parse_args()

    real = factors.made("als", min(options.rows, pairs.GOWALLA_ITEMS))
    before = resident()
    engine = Engine(dim=factors.DIM, objective="bpr", history=0, threads=2, storage=options.storage, maintenance=False)
    engine.set_users(np.arange(len(real.users)), real.users)
    print(f"{options.rows} x {factors.DIM}, {options.storage}, {engine.stats()['kernels']}")
    with timed("made and filled"):
        seconds = fill(engine, real, options.rows)
    print(f"of which filled: {seconds:.1f} s, {(resident() - before) / options.rows:.0f} bytes an item resident")
    with timed("clusters"):
        engine.maintain()
    print(f"{engine.stats()['cells']} cells, {(resident() - before) / options.rows:.0f} bytes an item resident")
    users = min(options.users, len(real.users))
    ask(engine, users, "queries")
    rng = np.random.default_rng(0)
    events = rng.integers(len(real.users), size=options.events), rng.integers(options.rows, size=options.events)
    with timed(f"learned {options.events} events on two threads"):
        engine.learn_many(*events, threads=2)
    with timed("upkeep"):
        engine.maintain()
    ask(engine, users, "queries after learning")
    check(engine, options.rows, 3)
    print(f"peak resident {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()

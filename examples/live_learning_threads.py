"""One thread learns a stream of events while others ask for recommendations, on the same engine, without a lock.

python examples/live_learning_threads.py [--seconds N]
"""

from __future__ import annotations

import argparse
import threading
from time import monotonic, perf_counter

import numpy as np

from recengine import Engine

USERS, ITEMS = 10_000, 20_000


def stream(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Events of a shop in which each user buys within one of 100 departments, some items far more than others."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, USERS, size)
    return users, users % 100 + 100 * rng.geometric(0.03, size).clip(max=ITEMS // 100 - 1)


def learn(engine: Engine, stop: threading.Event, learned: list[int]) -> None:
    """Learn until told to stop, a thousand events at a time."""
    while not stop.is_set():
        users, items = stream(seed=len(learned), size=1_000)
        engine.learn_many(users, items)
        learned.append(len(users))


def query(engine: Engine, stop: threading.Event, seconds: list[float], hits: list[bool]) -> None:
    """Ask until told to stop; a hit is a first recommendation from the user's own department."""
    rng = np.random.default_rng(0)
    while not stop.is_set():
        user = int(rng.integers(0, USERS))
        start = perf_counter()
        ids, _ = engine.recommend(user, k=10)
        seconds.append(perf_counter() - start)
        hits.append(len(ids) > 0 and int(ids[0]) % 100 == user % 100)


def main() -> None:
    """Start the threads, and print once a second what they have done in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--queriers", type=int, default=2, help="threads that ask for recommendations")
    options = parser.parse_args()

    engine = Engine(dim=32, history=0, seed=0)
    stop = threading.Event()
    learned: list[int] = []
    seconds: list[float] = []
    hits: list[bool] = []
    threads = [threading.Thread(target=learn, args=(engine, stop, learned))]
    threads += [threading.Thread(target=query, args=(engine, stop, seconds, hits)) for _ in range(options.queriers)]
    for thread in threads:
        thread.start()

    try:
        end = monotonic() + options.seconds
        while monotonic() < end:
            events, queries = len(learned), len(seconds)
            stop.wait(1)
            new = seconds[queries:]
            print(
                f"{sum(learned[events:]):9,} events/s  {len(new):7,} queries/s"
                f"  p50 {np.median(new) * 1e6:7.1f} us  from the user's department: {np.mean(hits[queries:]):6.1%}"
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()

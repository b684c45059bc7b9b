"""One process learns and owns the folder, others ask: they map its newest snapshot and share its pages.

python examples/processes.py [--events N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from recengine import Engine


def learn(folder: Path, events: Queue[tuple[int, int] | None], ready: Event) -> None:
    """The one writer. What it delivers twice after a crash would be skipped: events are numbered."""
    with Engine.open(folder, dim=16, maintenance=False) as engine:
        number = engine.stats()["sources"].get("queue", -1) + 1
        for user, item in iter(events.get, None):
            engine.learn_one(user, item, source="queue", offset=number)
            number += 1
            if number % 1000 == 0:
                engine.checkpoint()  # by itself one comes once the log is long
                ready.set()


def serve(folder: Path, name: str, rounds: int, results: Queue[str]) -> None:
    """One of the readers: it goes on to newer snapshots without stopping its queries."""
    engine = Engine.load(folder, mmap=True)
    for _ in range(rounds):
        engine.reload()
        first = engine.recommend(4, k=3).ids.tolist()
    results.put(f"{name}: {len(engine.users)} users, first for customer 4: {first}")


def main() -> None:
    """Start the processes by "spawn": a forked child could ask its parent's engine, but neither learn nor maintain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=4000)
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shop"
        events: Queue[tuple[int, int] | None] = context.Queue()
        results: Queue[str] = context.Queue()
        ready = context.Event()
        writer = context.Process(target=learn, args=(folder, events, ready))
        writer.start()
        for number in range(options.events):  # even customers buy even products
            customer = number % 200
            events.put((customer, number * 7 % 50 * 2 + customer % 2))
        ready.wait()
        readers = [context.Process(target=serve, args=(folder, f"reader {n}", 5, results)) for n in range(2)]
        for reader in readers:
            reader.start()
        for _ in readers:
            print(results.get())
        events.put(None)
        for process in [*readers, writer]:
            process.join()


if __name__ == "__main__":
    main()

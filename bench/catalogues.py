"""Catalogues, and the engines and indexes over them, each made once in a session, when a benchmark asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from bench import factors, pairs, peers
from bench.factors import Factors, Model
from bench.oracle import Found, Truth, Vectors

from recengine import Engine

Size = Literal["gowalla", "million"]
Catalogue = tuple[Model, Size]

K = {"gowalla": 20, "million": 10}


def engine_over(of: Factors, **settings: Any) -> Engine:
    """An engine over these rows, ids 0, 1, ..., built and then left to itself; queries use one thread."""
    engine = Engine.from_factors(
        np.arange(len(of.users)),
        of.users,
        np.arange(len(of.items)),
        of.items,
        **{"threads": peers.BUILD_THREADS, "maintenance": False, **settings},
    )
    engine.maintain()
    engine.threads = 1
    return engine


def found(engine: Engine, users: Any, k: int, **options: Any) -> Found:
    """What `recommend` finds for each of these users, asked one by one: shape (n, k), filled up with -1."""
    rows = np.full((len(users), k), -1, dtype=np.int64)
    for row, user in zip(rows, users, strict=True):
        ids = engine.recommend(user, k=k, **options).ids
        row[: len(ids)] = ids
    return rows


class Catalogues:
    """What is shared by the benchmarks of a session; nobody may change it.

    Every method takes a catalogue: ``("als", "gowalla")`` are the factors of ALS, ``("als", "million")`` a million
    rows mixed from them; ``"bpr"`` likewise. Without data the smaller ones are made, see `factors.made`.
    """

    def __init__(self, folder: Path | None, small: bool) -> None:
        self._folder = folder
        self._small = small
        self.n_users = 100 if small else 1_000
        self.factors: Callable[[Catalogue], Factors] = cache(self._factors)
        self.engine: Callable[[Catalogue], Engine] = cache(lambda which: engine_over(self.factors(which)))
        self.flat: Callable[[Catalogue], Any] = cache(lambda which: peers.flat(self.factors(which).items))
        self.graph: Callable[[peers.GraphName, Catalogue], peers.Peer] = cache(
            lambda name, which: peers.graph(name, self.factors(which).items)
        )
        self.truth: Callable[[Catalogue], Truth] = cache(self._truth)

    def users(self, n: int) -> list[int]:
        """The first n users."""
        return list(range(min(n, self.n_users)))

    def queries(self, which: Catalogue, n: int) -> Vectors:
        """Their vectors, shape (n, 64)."""
        return self.factors(which).users[: min(n, self.n_users)]

    def _factors(self, which: Catalogue) -> Factors:
        model, size = which
        if size == "million":
            return factors.mixed(self.factors((model, "gowalla")), 5_000 if self._small else 1_000_000)
        if self._folder is None or self._small:
            return factors.made(model, 2_000 if self._small else pairs.GOWALLA_ITEMS)
        trained = pairs.gowalla(self._folder)
        return factors.als(trained) if model == "als" else factors.bpr(trained)

    def _truth(self, which: Catalogue) -> Truth:
        """Of the first 100 users."""
        return Truth(self.queries(which, 100), self.factors(which).items, K[which[1]])

    def check(self, report: Any, which: Catalogue, **options: Any) -> float:
        """Reports, and returns, the recall of the engine's answers to the first 100 users, asked in this way."""
        recall = self.truth(which).recall(found(self.engine(which), self.users(100), K[which[1]], **options))
        report("recall", recall)
        return recall


def require_million(config: pytest.Config) -> None:
    """Skips what builds a graph over a million rows, which takes minutes, unless it is asked for."""
    if not config.getoption("--million") and not config.getoption("--small"):
        pytest.skip("a graph over a million rows takes minutes to build: ask for it with --million")

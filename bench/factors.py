"""Factors of real models, ALS and BPR trained on Gowalla's pairs, and larger catalogues mixed from them.

Nothing is kept on disk: to train both takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from bench.pairs import Pairs

from recengine import Engine

DIM = 64

Vectors = npt.NDArray[np.float32]
Model = Literal["als", "bpr"]


@dataclass(frozen=True)
class Factors:
    """Rows of a catalogue, shape (m, 64), and users to query it with, shape (n, 64), in random order."""

    model: Model
    users: Vectors
    items: Vectors


def als(pairs: Pairs) -> Factors:
    """Alternating least squares for implicit feedback, by implicit: norms differ by a factor of ten and more."""
    implicit = pytest.importorskip("implicit.cpu.als", reason="implicit is not installed")
    model = implicit.AlternatingLeastSquares(factors=DIM, alpha=10, iterations=10, num_threads=2, random_state=0)
    model.fit(pairs.matrix(), show_progress=False)
    return shuffled("als", model.user_factors, model.item_factors)


def bpr(pairs: Pairs) -> Factors:
    """Bayesian personalised ranking, by recengine: nearly equal norms.

    The biases are left out, so that peers, which have none, do the same work.
    """
    engine = Engine(dim=DIM, objective="bpr", history=0, seed=0)
    for _ in range(20):
        engine.learn_many(pairs.users, pairs.items, threads=2)
    learned = engine.factors()
    return shuffled("bpr", learned.user_vectors, learned.item_vectors)


def shuffled(model: Model, users: npt.ArrayLike, items: npt.ArrayLike) -> Factors:
    """The users in random order, without those that have no factors."""
    users = np.ascontiguousarray(users, dtype=np.float32)
    users = users[np.linalg.norm(users, axis=1) > 0]
    return Factors(model, np.random.default_rng(0).permutation(users), np.ascontiguousarray(items, dtype=np.float32))


def made(model: Model, n_items: int, n_users: int = 2_000, seed: int = 0) -> Factors:
    """A likeness for where there is no data: clustered rows of falling spectrum, log-normal norms as the model has."""
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(DIM) + 1) ** -0.5
    centres = rng.standard_normal((max(8, n_items // 200), DIM))

    def rows(n: int, sigma: float) -> Vectors:
        rows = (centres[rng.integers(len(centres), size=n)] + 0.5 * rng.standard_normal((n, DIM))) * spectrum
        return with_norms(rows, rng.lognormal(sigma=sigma, size=n))

    return Factors(model, rows(n_users, 0.5), rows(n_items, 0.6 if model == "als" else 0.1))


def mixed(real: Factors, n_items: int, seed: int = 0) -> Factors:
    """A larger catalogue: each row is a weighted mean of three rows of the model, plus noise, with a norm of the model.

    The weights are uniform over the simplex (Dirichlet), and the noise is a tenth of the mean's length. The norms are
    drawn from the model's, the longest for the longest mean and so on, which keeps both their distribution and their
    bond with the direction. Norms given at random would make graphs find what they do not find among real rows:
    hnswlib's recall@10 (M=16, ef=800) is .72 among the 40,981 rows of ALS, .75 among 100,000 made in this way, and .84
    if the norms are shuffled. Lists of k-means, too, hold as much of the top 10 as real ones do (64 lists of 160 to
    250 rows: .99). The users are the model's own.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet((1, 1, 1), size=n_items).astype(np.float32)
    parents = rng.integers(len(real.items), size=(n_items, 3))
    rows = np.zeros((n_items, DIM), dtype=np.float32)
    for n in range(3):  # one at a time, for the sake of memory
        rows += weights[:, n, np.newaxis] * real.items[parents[:, n]]
    norms = np.empty(n_items, dtype=np.float32)
    order = np.argsort(np.linalg.norm(rows, axis=1))
    norms[order] = np.sort(rng.choice(np.linalg.norm(real.items, axis=1), size=n_items))
    rows = with_norms(rows, np.ones(n_items))
    rows += 0.1 / np.sqrt(DIM).astype(np.float32) * rng.standard_normal(rows.shape, dtype=np.float32)
    return Factors(real.model, real.users, with_norms(rows, norms))


def with_norms(rows: npt.NDArray[np.floating], norms: npt.NDArray[np.floating]) -> Vectors:
    """The rows, each stretched to its norm."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float32).tiny)
    stretched: Vectors = (rows * (norms / lengths)[:, np.newaxis].astype(np.float32)).astype(np.float32)
    return stretched

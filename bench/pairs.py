"""User-item pairs to learn from: Gowalla's check-ins where they are at hand, and a seeded likeness of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

GOWALLA_USERS = 29_858
GOWALLA_ITEMS = 40_981
GOWALLA_PAIRS = 810_128


@dataclass(frozen=True)
class Pairs:
    """Distinct (user, item) pairs in random order, with ids from 0 to ``n_users - 1`` and ``n_items - 1``."""

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    n_users: int
    n_items: int
    test: dict[int, set[int]] | None = None
    """The items of each user that were held out, where there are any."""

    def __len__(self) -> int:
        return len(self.users)

    def matrix(self) -> Any:
        """The pairs as a scipy CSR matrix of ones, shape (n_users, n_items), which implicit and LightFM train on."""
        sparse = pytest.importorskip("scipy.sparse")
        ones = np.ones(len(self), dtype=np.float32)
        return sparse.csr_matrix((ones, (self.users, self.items)), shape=(self.n_users, self.n_items))


def synthetic(scale: float = 1.0, seed: int = 0) -> Pairs:
    """As many users, items and pairs as Gowalla has, with its skew, times ``scale``.

    The r-th most popular item is drawn in proportion to ``(r + 10) ** -0.6``, and a user's number of items is
    8 plus a log-normal: both follow the counts of the real data from the first rank to the last.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items, n_pairs = (round(n * scale) for n in (GOWALLA_USERS, GOWALLA_ITEMS, GOWALLA_PAIRS))
    activity = 8 + rng.lognormal(mean=2.15, sigma=1.3, size=n_users).clip(max=800)
    popularity = rng.permutation((np.arange(n_items) + 10.0) ** -0.6)

    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < n_pairs:
        users = rng.choice(n_users, size=n_pairs, p=activity / activity.sum())
        items = rng.choice(n_items, size=n_pairs, p=popularity / popularity.sum())
        pairs = np.unique(np.concatenate([pairs, users * n_items + items]))
    pairs = rng.permutation(pairs)[:n_pairs]
    return Pairs(pairs // n_items, pairs % n_items, n_users, n_items)


def gowalla(folder: Path, scale: float = 1.0, seed: int = 0) -> Pairs:
    """The train pairs of Gowalla in the split of the LightGCN papers; ``scale`` keeps the first part of the users."""

    def read(name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        table = pytest.importorskip("pyarrow.parquet").read_table(folder / name)
        return table["user_id"].to_numpy().astype(np.int64), table["item_id"].to_numpy().astype(np.int64)

    users, items = read("gowalla_train.parquet")
    test: dict[int, set[int]] = {}
    if (folder / "gowalla_test.parquet").is_file():
        for user, item in zip(*read("gowalla_test.parquet"), strict=True):
            if user < GOWALLA_USERS * scale:
                test.setdefault(int(user), set()).add(int(item))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(users < GOWALLA_USERS * scale))
    return Pairs(users[order], items[order], round(GOWALLA_USERS * scale), GOWALLA_ITEMS, test or None)

"""What the examples on Gowalla's check-ins share: the data, and how it is judged.

The split of the LightGCN line of papers: gowalla_train.parquet and gowalla_test.parquet, columns user_id and item_id.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as parquet

from recengine import Engine

K = 20
Ids = npt.NDArray[np.int64]


def read(path: Path) -> tuple[Ids, Ids]:
    table = parquet.read_table(path, columns=["user_id", "item_id"])
    return table["user_id"].to_numpy().astype(np.int64), table["item_id"].to_numpy().astype(np.int64)


def evaluate(engine: Engine, test_users: Ids, test_items: Ids) -> tuple[float, float]:
    """Recall@20 and NDCG@20, means over the users of the test set, train items excluded, as LightGCN defines them.

    Recall divides a user's hits by the number of all their test items; NDCG's ideal is min(20, that number) hits.
    """
    users, n_relevant = np.unique(test_users, return_counts=True)
    ids = engine.recommend(users, k=K, exclude_seen=True).ids
    stride = max(test_items.max(), ids.max()) + 2  # a missing id is -1, and must not reach the user before
    hits = np.isin(users[:, None] * stride + ids, test_users * stride + test_items)

    discount = 1 / np.log2(np.arange(K) + 2)
    ideal = np.cumsum(discount)[np.minimum(n_relevant, K) - 1]
    return float((hits.sum(axis=1) / n_relevant).mean()), float((hits @ discount / ideal).mean())

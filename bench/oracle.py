"""What the right answer is: inner products by numpy in float32, and how much of the true top k an answer holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Found = npt.NDArray[np.int64]

# Two float32 sums of 64 products in different orders differ by less than this, relative to the product of the norms.
ROUNDING = 2e-6


class Truth:
    """The k-th best score of every query. A found row counts if its score reaches that, up to rounding.

    So rows of equal score are as good as each other, and an answer that is exact has a recall of 1.
    """

    def __init__(self, queries: Vectors, items: Vectors, k: int, matching: npt.NDArray[np.bool_] | None = None) -> None:
        self._queries, self._items = queries, items
        self._matching = np.ones(len(items), dtype=np.bool_) if matching is None else matching
        candidates = items if matching is None else items[matching]
        self.k = min(k, len(candidates))
        kth = [
            np.partition(queries[n : n + 8] @ candidates.T, -self.k, axis=1)[:, -self.k]
            for n in range(0, len(queries), 8)
        ]
        slack = ROUNDING * np.linalg.norm(queries, axis=1) * np.linalg.norm(candidates, axis=1).max()
        self._least = np.concatenate(kth) - slack

    def recall(self, found: Found) -> float:
        """The share of the true top k, over all queries, in ``found``, shape (n, any); -1 is no result."""
        scores = np.einsum("nd,nkd->nk", self._queries, self._items[found])
        good = (found >= 0) & self._matching[found] & (scores >= self._least[:, np.newaxis])
        hits = [len(np.unique(row[kept][: self.k])) for row, kept in zip(found, good, strict=True)]
        return float(np.mean(hits)) / self.k

"""Streaming metrics of what is shown, whoever asked: coverage, exposure, novelty and diversity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .metric import Mean, check_k
from .ranking import Ranking, first_distinct


class Exposure:
    """How often each item was among the first k of a ranking.

    ``catalogue`` is the set of items that could have been shown, asked for its length and membership only when the
    value is read: a set, a dict, or ``engine.items``, which may grow and shrink meanwhile. Memory: one counter per item
    shown.
    """

    def __init__(self, catalogue: Collection[Hashable], k: int = 10) -> None:
        self.catalogue = catalogue
        self.k = check_k(k)
        self._shown: Counter[Hashable] = Counter()

    def update(self, ranking: Ranking) -> None:
        """Count one ranking: ids, best first; ValueError if an id comes twice within the first k."""
        self._shown.update(first_distinct(ranking, self.k))

    def _counts(self) -> list[int]:
        """Exposures of the items that are still in the catalogue and were shown."""
        return [count for item, count in self._shown.items() if item in self.catalogue]


class Coverage(Exposure):
    """Catalogue coverage: the share of the catalogue shown at least once. nan for an empty catalogue or before the
    first ranking.

    >>> metric = Coverage({"a", "b", "c", "d"}, k=2)
    >>> metric.update(["a", "b", "c"])
    >>> metric.value
    0.5
    """

    @property
    def value(self) -> float:
        """The share of the catalogue shown so far."""
        size = len(self.catalogue)
        return len(self._counts()) / size if size and self._shown else math.nan


class Gini(Exposure):
    """Gini coefficient of exposure over the whole catalogue, items never shown included: 0 if all are shown equally
    often, (n - 1) / n if one of n takes everything. nan if nothing of the catalogue was shown.

    >>> metric = Gini({"a", "b", "c", "d"}, k=2)
    >>> metric.update(["a", "b"])
    >>> metric.value
    0.5
    """

    @property
    def value(self) -> float:
        """The Gini coefficient of the exposures so far."""
        return gini(self._counts(), len(self.catalogue))


def gini(counts: Iterable[int], size: int) -> float:
    """Gini coefficient of ``counts``, padded with zeros to ``size`` entries; nan if they sum to 0.

    With x sorted ascending, at places j = 1..n: sum of (2j - n - 1) x_j over n sum of x (Gini, 1912, in the form of
    Damgaard and Weiner, 2000). The zeros come first and add nothing.
    """
    exposures = np.sort(np.fromiter(counts, dtype=np.float64))
    total = float(exposures.sum())
    if total == 0:
        return math.nan
    places = np.arange(size - len(exposures) + 1, size + 1)
    return float(((2 * places - size - 1) * exposures).sum() / (size * total))


class Novelty(Mean):
    """Mean self-information of the items shown, in bits: -log2 of the share of interactions that each item has (Zhou et
    al., 2010, "Solving the apparent diversity-accuracy dilemma"). A popular item says little, a rare one much.

    ``share(item)`` gives an item's share at the time of the call, in (0, 1]; how an item without interactions is
    smoothed is its decision. The value is the mean over rankings of the mean over a ranking's first k items; empty
    rankings are not counted.

    >>> counts = {"hit": 6, "rare": 2}
    >>> metric = Novelty(lambda item: counts[item] / 8, k=10)
    >>> metric.update(["rare"])
    >>> metric.value
    2.0
    """

    def __init__(self, share: Callable[[Any], float], k: int = 10) -> None:
        super().__init__()
        self.share = share
        self.k = check_k(k)

    def update(self, ranking: Ranking) -> None:
        """Count one ranking: ids, best first; ValueError for an id that comes twice or a share outside (0, 1]."""
        bits = [self._information(item) for item in first_distinct(ranking, self.k)]
        if bits:
            self._add(sum(bits) / len(bits))

    def _information(self, item: Hashable) -> float:
        share = self.share(item)
        if not 0 < share <= 1:
            raise ValueError(f"the share of an item must be in (0, 1], got {share!r} for {item!r}")
        return -math.log2(share)


class Calibration(Mean):
    """Miscalibration of lists, in nats: how far the groups shown are from the groups a user has chosen, as the
    Kullback-Leibler divergence of the list's shares q, mixed with `alpha` of the history's shares p, from p (Steck,
    2018, "Calibrated recommendations", equations 6 and 7). 0: the list mirrors the user's history.

    ``group(item)`` gives an item's group. The value is the mean over rankings; those without items, or of users without
    a history, are not counted.

    >>> metric = Calibration({"a": "rock", "b": "rock", "c": "jazz"}.get, k=10)
    >>> metric.update(["a", "c"], history=["b", "c"])
    >>> metric.value
    0.0
    """

    def __init__(self, group: Callable[[Any], Hashable], k: int = 10, alpha: float = 0.01) -> None:
        super().__init__()
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
        self.group = group
        self.k = check_k(k)
        self.alpha = alpha

    def update(self, ranking: Ranking, history: Iterable[Any]) -> None:
        """Count one ranking and the items its user chose before, as often as that was; ValueError for an id that comes
        twice in the ranking."""
        shown = Counter(self.group(item) for item in first_distinct(ranking, self.k))
        chosen = Counter(self.group(item) for item in history)
        if not shown or not chosen:
            return
        divergence = 0.0
        for group, count in chosen.items():
            wanted = count / chosen.total()
            found = (1 - self.alpha) * shown[group] / shown.total() + self.alpha * wanted
            divergence += wanted * math.log(wanted / found)
        self._add(max(divergence, 0.0))


class Diversity(Mean):
    """Intra-list diversity: the mean of 1 - cosine over all pairs of items of a list (Smyth and McClave, 2001),
    averaged over lists. A zero vector has cosine 0 with everything. A list of fewer than two items has no pair and is
    not counted.

    >>> metric = Diversity()
    >>> metric.update([[1.0, 0.0], [0.0, 2.0]])
    >>> metric.value
    1.0
    """

    def update(self, vectors: ArrayLike) -> None:
        """Count one list, given as the vectors of its items: finite, (items, dim); ValueError if they are not."""
        rows = np.asarray(vectors, dtype=np.float64)
        if rows.ndim != 2:
            raise ValueError(f"vectors must have shape (items, dim), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("vectors must be finite")
        count = len(rows)
        if count < 2:
            return
        # Scaled by the largest entry first, so that squares neither overflow nor vanish.
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
        rows = rows / np.where(largest > 0, largest, 1.0)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        units = rows / np.where(norms > 0, norms, 1.0)
        # The cosines of all ordered pairs sum to |sum u|^2 - sum |u|^2: O(items * dim), no matrix of pairs.
        total = units.sum(axis=0)
        cosines = float(total @ total - (units * units).sum())
        self._add(1.0 - cosines / (count * (count - 1)))

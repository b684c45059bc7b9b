"""What a stream has shown so far: the baselines, and who and what has come before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Set
from typing import Any

from recengine.baselines import WEEK, Popularity


class History:
    """Everything a prequential run remembers of the events before the present one.

    ``codes`` number the distinct items of the stream. Without times there is no 7-day popularity; what each user has
    seen is kept only for ``exclude_seen``, and is empty otherwise.
    """

    def __init__(self, codes: int, *, has_times: bool, exclude_seen: bool) -> None:
        self.popularity = Popularity()
        self.popularity_7d = Popularity(half_life=WEEK) if has_times else None
        self.users: set[Any] = set()
        self.items: set[Any] = set()
        self._seen: defaultdict[Any, set[int]] | None = defaultdict(set) if exclude_seen else None
        self._counts = [0] * codes
        self._log2_counts: dict[Any, float] = {}
        self._positives = 0

    def learn(self, user: Any, item: Any, code: int, value: float, age: float) -> None:
        """Add an event; ``age`` is its time, in seconds after the first one of the stream."""
        self.users.add(user)
        self.items.add(item)
        if self._seen is not None:
            self._seen[user].add(code)
        # Popularity is the same for everybody: to it all users are user 0.
        self.popularity.learn(0, code, value, age)
        if self.popularity_7d is not None:
            self.popularity_7d.learn(0, code, value, age)
        if value > 0:
            self._positives += 1
            self._counts[code] += 1
            self._log2_counts[item] = math.log2(self._counts[code])

    def seen(self, user: Any) -> Set[int]:
        """Codes of the items of the user's events, if they are excluded."""
        return self._seen.get(user, frozenset()) if self._seen is not None else frozenset()

    def novelty(self, shown: list[Any]) -> float:
        """Mean self-information of these items in bits, by their share of the positive events; an item without any
        counts as having one. nan if none is shown."""
        if not shown:
            return math.nan
        known = self._log2_counts
        bits = sum([known.get(item, 0.0) for item in shown])
        return math.log2(max(self._positives, 1)) - bits / len(shown)

"""The tables of users and items."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.columns import id_column, number_column
from recengine.engine.arguments import id_or_column, is_id
from recengine.engine.base import Base
from recengine.tables import Factors


class Rows(Base):
    """Rows of users and items, read, set and removed."""

    __slots__ = ()

    def user_vector(self, user: Any) -> npt.NDArray[np.float32]:
        """The vector a query of this user would use now: (dim,) for an id, (n, dim) for a column. A copy. KeyError if
        unknown.

        >>> engine = Engine.from_factors(["ann"], [[1.0, 2.0]], ["tea"], [[0.5, 0.5]], history=1, learning_rate=0.0)
        >>> engine.learn_one("ann", "tea")
        >>> engine.user_vector("ann").tolist()
        [1.5, 2.5]
        """
        if is_id(user):
            return self._core.user_vectors([user]).reshape(-1)
        return self._core.user_vectors(id_column(user))

    def item_vector(self, item: Any) -> npt.NDArray[np.float32]:
        """The row of an item: (dim,) for an id, (n, dim) for a column. A copy. KeyError if unknown.

        >>> Engine.from_factors([1], [[0.0, 0.0]], [10], [[1.0, 2.0]]).item_vector(10).tolist()
        [1.0, 2.0]
        """
        if is_id(item):
            return self._core.item_vectors([item]).reshape(-1)
        return self._core.item_vectors(id_column(item))

    def set_users(self, ids: Any, vectors: npt.ArrayLike, biases: npt.ArrayLike | None = None) -> None:
        """Sets the learned rows (n, dim) of n users, and their biases (n,) if given; new users are added.

        Raises ValueError, before anything changes, for another shape or a value that is not finite; OSError and
        KeyboardInterrupt in the middle, as `set_items` says.

        >>> engine = Engine(dim=2)
        >>> engine.set_users(["ann"], [[1.0, 2.0]])
        >>> engine.user_vector("ann").tolist()
        [1.0, 2.0]
        """
        self._core.set_users(id_column(ids), np.asarray(vectors, dtype=np.float32), number_column(biases))

    def set_items(self, ids: Any, vectors: npt.ArrayLike, biases: npt.ArrayLike | None = None) -> None:
        """Sets the rows (n, dim) of n items, and their biases (n,) if given; new items are added.

        Raises ValueError, before anything changes, for another shape or a value that is not finite. Rows are set, and
        logged, some hundred at a time: where that ends half-way, by a log that cannot be written (OSError) or by Ctrl-C
        (KeyboardInterrupt), the first ones are set, and the message says how many.

        >>> engine = Engine(dim=2)
        >>> engine.set_items(["tea"], [[1.0, 2.0]])
        >>> "tea" in engine.items
        True
        """
        self._core.set_items(id_column(ids), np.asarray(vectors, dtype=np.float32), number_column(biases))

    def remove_users(self, ids: Any) -> None:
        """Forgets users, and those who were only shown something so far (`impression`). KeyError naming the first one
        of whom nothing is known, before anything changes.

        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea"], [[1.0]])
        >>> engine.remove_users("ann")
        >>> "ann" in engine.users
        False
        """
        self._core.remove_users(id_or_column(ids))

    def remove_items(self, ids: Any) -> None:
        """Removes items: no ranking that starts later holds them. KeyError naming the first unknown one, before
        anything changes.

        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
        >>> engine.remove_items(11)
        >>> engine.recommend(1).ids.tolist()
        [10]
        """
        self._core.remove_items(id_or_column(ids))

    def factors(self) -> Factors:
        """Everything learned: ids, vectors (n, dim) and biases (n,) of users and items, and the global bias. Copies.

        User vectors are the learned rows alone; `user_vector` adds the history.

        >>> Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]]).factors().item_ids.tolist()
        [10, 11]
        """
        return Factors(*self._core.user_factors(), *self._core.item_factors(), self._core.global_bias)

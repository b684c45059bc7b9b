"""What the caller knows of the items: features, sets and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recengine import _core
from recengine.engine.arguments import Id, id_or_column
from recengine.engine.base import Base
from recengine.filters import Filter


class Catalogue(Base):
    """Features, filters and groups of items."""

    __slots__ = ()

    def set_item_features(self, items: Any, values: npt.ArrayLike) -> None:
        """Gives n items their `item_features`: values (n, m) in the order of the names, or (n,) for one name.

        They count from the next ranking on. Items that were given none have zeros; removed ones lose theirs.

        Raises ValueError, before anything changes, for another shape or for values that are not finite or beyond 1e15,
        KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine(dim=4, seed=0, item_features=["margin"])
        >>> engine.learn_many(["ann", "bob", "bob"], ["tea", "tea", "cup"])
        >>> engine.set_item_features(["tea", "cup"], [0.0, 1.0])
        >>> engine.recommend("ann", context={"margin": 50.0}, k=1).ids.tolist()
        ['cup']
        """
        table = np.asarray(values, dtype=np.float32)
        self._core.set_item_features(id_or_column(items), table[:, np.newaxis] if table.ndim == 1 else table)

    def set_filter(self, name: str, items: Any) -> None:
        """Creates or replaces a named set of items. A query sees the old set or the new one, never a part.

        Removed items leave every set; an item that comes back is in none.

        Raises KeyError naming the first unknown item, before anything changes.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> engine.set_filter("in_stock", ["tea"])
        >>> engine.filters
        ['in_stock']
        >>> engine.recommend("ann", filter=engine.filter("in_stock")).ids.tolist()
        ['tea']
        """
        self._core.set_filter(name, id_or_column(items))

    def update_filter(self, name: str, add: Any = (), remove: Any = ()) -> None:
        """Adds items to a named set, then removes others, in one step for whoever queries meanwhile.

        Raises KeyError, before anything changes, for an unknown name or an unknown item in `add`; unknown items in
        `remove` are ignored and counted in `stats`.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> engine.set_filter("in_stock", ["tea"])
        >>> engine.update_filter("in_stock", add=["cup"], remove=["tea"])
        >>> engine.recommend("ann", filter=engine.filter("in_stock")).ids.tolist()
        ['cup']
        """
        self._core.update_filter(name, id_or_column(add), id_or_column(remove))

    def remove_filter(self, name: str) -> None:
        """Forgets a named set. KeyError if there is none of that name.

        >>> engine = Engine()
        >>> engine.set_filter("in_stock", [])
        >>> engine.remove_filter("in_stock")
        >>> engine.filters
        []
        """
        self._core.remove_filter(name)

    def filter(self, name: str) -> Filter:
        """Items of a named set, as a filter. KeyError if there is none of that name.

        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
        >>> engine.set_filter("new", [11])
        >>> engine.recommend(1, filter=~engine.filter("new")).ids.tolist()
        [10]
        """
        return self._known(_core.Filter.named(name), f"filter({name!r})")

    def set_groups(self, items: Any, values: Any) -> None:
        """Puts n items into groups: n labels, ``str`` or ``int``, one kind an engine. An item is in one group; a new
        label takes the place of the old one. A label stays known when its last item has left.

        Raises KeyError naming the first unknown item and ValueError for columns of unequal length, before anything
        changes.

        Examples
        --------
        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11, 12], [[1.0], [2.0], [3.0]])
        >>> engine.set_groups([10, 11, 12], ["toys", "games", "books"])
        >>> engine.recommend(1, filter=engine.group("toys", "games")).ids.tolist()
        [11, 10]
        """
        self._core.set_groups(id_or_column(items), id_or_column(values))

    def group(self, *labels: Id) -> Filter:
        """Items of any of these groups, as a filter. A group is there as long as an item is in it: KeyError for a label
        that no item has. In a filter that was made before, such a group matches nothing.

        >>> engine = Engine.from_factors([1], [[1.0]], [10, 11], [[1.0], [2.0]])
        >>> engine.set_groups([10], [1950])
        >>> engine.recommend(1, filter=engine.group(1950)).ids.tolist()
        [10]
        """
        return self._known(_core.Filter.groups(labels), f"group({', '.join(map(repr, labels))})")

    @property
    def filters(self) -> list[str]:
        """The names of the filters, sorted.

        >>> engine = Engine()
        >>> engine.set_filter("in_stock", [])
        >>> engine.filters
        ['in_stock']
        """
        return self._core.filter_names()

    def _known(self, core: _core.Filter, text: str) -> Filter:
        self._core.check_filter(core)
        return Filter(self._core, core, text)

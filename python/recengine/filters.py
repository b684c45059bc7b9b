"""Filters: which items a query may return, combined from the engine's named sets and groups."""

from __future__ import annotations

from typing import Any

from recengine import _core

__all__ = ["Filter"]


class Filter:
    """A condition on items, made by `Engine.filter` and `Engine.group` and combined with ``&``, ``|`` and ``~``.

    It refers to sets and groups by name and never changes itself: each query takes the sets as they are when it begins,
    all at one moment.

    Examples
    --------
    >>> from recengine import Engine
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup", "gin"], [[1.0], [2.0], [3.0]])
    >>> engine.set_filter("in_stock", ["tea", "gin"])
    >>> engine.set_filter("adult", ["gin"])
    >>> allowed = engine.filter("in_stock") & ~engine.filter("adult")
    >>> allowed
    (filter('in_stock') & ~filter('adult'))
    >>> engine.recommend("ann", filter=allowed).ids.tolist()
    ['tea']
    >>> engine.update_filter("in_stock", add=["cup"])
    >>> engine.recommend("ann", filter=allowed).ids.tolist()
    ['cup', 'tea']
    """

    __slots__ = ("_core", "_engine", "_text")

    def __init__(self, engine: _core.Engine, core: _core.Filter, text: str) -> None:
        self._engine = engine
        self._core = core
        self._text = text

    def __and__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(self._engine, self._core & other._for(self._engine), f"({self._text} & {other._text})")

    def __or__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(self._engine, self._core | other._for(self._engine), f"({self._text} | {other._text})")

    def __invert__(self) -> Filter:
        return Filter(self._engine, ~self._core, f"~{self._text}")

    def __bool__(self) -> bool:
        raise TypeError("a filter is neither true nor false: combine filters with & | ~, not with and, or, not")

    def __repr__(self) -> str:
        return self._text

    def __copy__(self) -> Filter:
        return self  # it never changes

    def __deepcopy__(self, memo: object) -> Filter:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self._text} cannot be pickled: a filter is of one engine; make it where it is needed, by that engine's "
            "filter and group"
        )

    def _for(self, engine: _core.Engine) -> _core.Filter:
        if engine is not self._engine:
            raise ValueError(f"{self._text} is a filter of another engine")
        return self._core


def core_filter(engine: _core.Engine, filter: Filter | None) -> _core.Filter | None:
    """What the core takes for the `filter` of a query to this engine.

    Raises TypeError if it is no filter, ValueError if it is one of another engine.
    """
    if filter is None:
        return None
    if not isinstance(filter, Filter):
        raise TypeError(f"filter must be made by Engine.filter or Engine.group, not {filter!r}")
    return filter._for(engine)

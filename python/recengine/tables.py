"""Views of what an engine holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recengine import _core

__all__ = ["Factors", "Ids"]


class Factors(NamedTuple):
    """Everything learned, as plain arrays: see `Engine.factors`."""

    user_ids: npt.NDArray[Any]
    user_vectors: npt.NDArray[np.float32]
    user_biases: npt.NDArray[np.float32]
    item_ids: npt.NDArray[Any]
    item_vectors: npt.NDArray[np.float32]
    item_biases: npt.NDArray[np.float32]
    global_bias: float


class Ids:
    """The users or the items of an engine, as a sized container of ids."""

    def __init__(self, core: _core.Engine, kind: Literal["user", "item"]) -> None:
        self._has = core.has_user if kind == "user" else core.has_item
        self._count = core.num_users if kind == "user" else core.num_items
        self._all = core.user_ids if kind == "user" else core.item_ids
        self._kind = kind

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (str, int, np.integer)) or isinstance(key, bool):
            return False
        try:
            return self._has(key)
        except _core.FormatError:  # a mapped file turned out to be damaged
            raise
        except ValueError:  # no 64-bit int, or no UTF-8: nothing that could be in here
            return False

    def __len__(self) -> int:
        return self._count()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all().tolist())

    def __repr__(self) -> str:
        return f"<{len(self)} {self._kind}s>"

    def __reduce__(self) -> Any:
        raise TypeError(f"a view of an engine's {self._kind}s cannot be pickled or copied: take a list of it")

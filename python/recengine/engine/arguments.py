"""What callers pass, checked and turned into what the core takes."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.columns import id_column, seconds

Id = str | int

_SNAPSHOT = re.compile(rb"snapshot-[0-9]{20}")  # of a folder; others are somebody else's


def is_id(value: object) -> bool:
    return isinstance(value, (str, int, np.integer))


def names_of(names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"item_features must be a sequence of str, not {names!r}")
    return list(names)


def shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 0.1 rather than 0.10000000149."""
    return float(str(np.float32(value)))


def finite_seconds(timestamp: Any) -> float:
    moment = seconds(timestamp)
    if moment - moment != 0.0:  # NaN or infinity; NaN would mean "omitted" to the core
        raise ValueError(f"timestamp must be a number of seconds within 1e15, not {timestamp}")
    return moment


def seed_of(seed: Any) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an int, not {seed!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be between 0 and 2**63 - 1, not {seed}")
    return int(seed)


def vector_of(vector: npt.ArrayLike) -> npt.NDArray[np.float32]:
    given = np.asarray(vector)
    with np.errstate(over="ignore"):
        cast = given.astype(np.float32)
    lost = np.isfinite(given) & ~np.isfinite(cast) if given.dtype.kind == "f" else np.zeros(given.shape, bool)
    if lost.any():
        raise ValueError(f"vector must be finite and at most 1e15, not {given[lost][0]}")
    return cast


def file_name(path: str | os.PathLike[str]) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError(f"path must not hold a null character: {path!r}")
    return name


def newest_snapshot(folder: bytes) -> bytes:
    snapshots = [name for name in os.listdir(folder) if _SNAPSHOT.fullmatch(name)]
    if not snapshots:
        raise IsADirectoryError(errno.EISDIR, f"no file and no engine's folder: {os.fsdecode(folder)}")
    return os.path.join(folder, max(snapshots))


def plain(value: Any) -> Any:
    """A Python int in place of numpy's."""
    return value.item() if isinstance(value, np.integer) else value


def source_of(source: str | None, offset: Any) -> tuple[str, Any]:
    if source is None or offset is None:
        raise ValueError("source and offset belong together")
    return source, offset


def offsets_of(offset: Any, events: int) -> npt.NDArray[np.int64]:
    """One for each event; of a single number, that and those that follow."""
    if isinstance(offset, (int, np.integer)) and not isinstance(offset, bool):
        if not -(2**63) <= offset <= 2**63 - 1 - events:
            raise ValueError(f"offset must be a 64-bit number, not {offset}")
        return np.arange(offset, int(offset) + events, dtype=np.int64)
    column = np.asarray(offset)
    if column.dtype.kind not in "iu" or not np.can_cast(column.dtype, np.int64):
        raise TypeError(f"offset must be an int or a column of ints, not {column.dtype}")
    return column.astype(np.int64)


def id_or_column(ids: Any) -> Sequence[Any] | Any:
    return [ids] if is_id(ids) else id_column(ids)


def positive_or_none(name: str, value: Any) -> Any:
    """A limit as the core takes it, 0 for none. Its type is checked there."""
    if value is None:
        return 0
    if isinstance(value, (int, float, np.integer, np.floating)) and not value > 0:
        raise ValueError(f"{name} must be positive, or None for no limit, not {value!r}")
    return value

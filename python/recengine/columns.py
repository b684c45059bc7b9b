"""Columns as callers have them (lists, numpy, pandas, polars, Arrow) to columns as the core takes them."""

from __future__ import annotations

import math
from datetime import timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine import _core

__all__ = ["id_column", "number_column", "seconds", "seconds_column"]


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError('Arrow columns need pyarrow: pip install "recengine[arrow]"') from error
    return pyarrow


def _is_text(kind: Any) -> bool:
    types = _arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _plain(chunk: Any) -> Any:
    """A chunk without dictionary and string views, for both of which Arrow lacks some functions."""
    pa = _arrow()
    if pa.types.is_dictionary(chunk.type):
        return _plain(chunk.dictionary).take(chunk.indices)
    return chunk.cast(pa.large_string()) if _is_text(chunk.type) else chunk


def _arrow_ids(column: Any, gaps: bool) -> Any:
    pa = _arrow()
    chunks = [column] if isinstance(column, pa.Array) else pa.chunked_array(column).chunks
    chunks = [_plain(chunk) for chunk in chunks if len(chunk)]
    if not chunks:
        return []
    array = pa.concat_arrays(chunks)
    if array.null_count and gaps:
        return array.to_pylist()
    if array.null_count:
        raise ValueError(f"ids must not be missing, but {array.null_count} of {len(array)} are")
    if pa.types.is_integer(array.type):
        return array.to_numpy(zero_copy_only=False)
    if not _is_text(array.type):
        raise TypeError(f"ids must be str or int, not {array.type}")
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return _core.Utf8Column(np.frombuffer(data if data is not None else b"", dtype=np.uint8), starts)


def id_column(column: Any, gaps: bool = False) -> Any:
    """A list, tuple, numpy array or `_core.Utf8Column` of ids, from any column of str or int. Never casts an id.

    Raises TypeError for ids that are neither, ValueError for missing ones unless there may be `gaps`, ImportError if an
    Arrow column comes without pyarrow.
    """
    if isinstance(column, (list, tuple, np.ndarray)):
        return column
    if hasattr(column, "to_numpy") and isinstance(getattr(column, "dtype", None), np.dtype):
        return column.to_numpy()  # pandas: numpy inside
    if hasattr(column, "__arrow_c_stream__"):
        return _arrow_ids(column, gaps)
    if hasattr(column, "__arrow_c_array__"):
        return _arrow_ids(_arrow().array(column), gaps)
    if hasattr(column, "to_numpy"):
        return column.to_numpy()
    return column


def _holds_anything(column: Any) -> bool:
    return isinstance(column, (list, tuple)) or getattr(getattr(column, "dtype", None), "kind", "") == "O"


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def number_column(column: Any, gaps: bool = False) -> Any:
    """A column of numbers as something numpy reads; None stays None. With `gaps` what is no number becomes NaN.

    >>> number_column([1.0, None, "2"], gaps=True)
    array([ 1., nan, nan], dtype=float32)
    """
    if gaps and column is not None:
        if _holds_anything(column):
            column = np.array([_number(value) for value in column], dtype=np.float64)
        array = np.asarray(number_column(column))
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite there, and no number either
            return array.astype(np.float32) if array.dtype.kind == "f" else array
    if column is None or isinstance(column, (list, tuple, np.ndarray)):
        return column
    if hasattr(column, "to_numpy"):
        return column.to_numpy()
    if hasattr(column, "__arrow_c_stream__"):
        return _arrow().chunked_array(column).to_numpy()
    return column


def seconds(timestamp: Any) -> float:
    """Seconds since 1970 of a number, a `datetime64`, or a `datetime` (a naive one counts as UTC).

    >>> seconds(np.datetime64("1970-01-02"))
    86400.0
    """
    if isinstance(timestamp, (int, float, np.integer, np.floating)) and not isinstance(timestamp, bool):
        return float(timestamp)
    return float(seconds_column([timestamp])[0])


def _seconds_or_nan(timestamp: Any) -> float:
    try:
        return math.nan if isinstance(timestamp, (str, bytes)) else seconds(timestamp)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def seconds_column(column: Any, gaps: bool = False) -> npt.NDArray[np.float64]:
    """Seconds since 1970, float64 (n,), of a column of numbers, `datetime64` or `datetime`.

    A missing time (NaT) becomes NaN, which the engine refuses. Raises TypeError for other types; with `gaps`, of a list
    or an array of objects, they become NaN too.

    >>> seconds_column([0, None, np.datetime64("1970-01-02")], gaps=True)
    array([    0.,    nan, 86400.])
    """
    if gaps and _holds_anything(column):
        return np.array([_seconds_or_nan(timestamp) for timestamp in column], dtype=np.float64)
    array = np.asarray(number_column(column))
    if array.dtype == object and len(array) > 0:
        if any(getattr(moment, "tzinfo", None) is not None for moment in array):
            moments = [moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc) for moment in array]
            return np.array([moment.timestamp() for moment in moments], dtype=np.float64)
        if hasattr(array[0], "isoformat") or isinstance(array[0], np.datetime64):
            array = array.astype("datetime64[us]")
    if array.dtype.kind == "M":
        whole = array.astype("datetime64[us]")
        out = whole.astype(np.int64) / 1e6
        out[np.isnat(whole)] = np.nan
        return np.asarray(out, dtype=np.float64)
    if array.dtype.kind not in "iuf" and array.size > 0:
        raise TypeError(f"timestamps must be numbers of seconds or datetime64, not {array.dtype}")
    return array.astype(np.float64)

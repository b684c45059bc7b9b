"""Interaction events as columns, and readers for the common file formats."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

Ids: TypeAlias = "list[str] | list[int] | NDArray[np.int64]"
Float = TypeVar("Float", np.float32, np.float64)
TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns"]

UNTYPED = (".csv", ".tsv")
SUFFIXES = (*UNTYPED, ".jsonl", ".ndjson", ".parquet")
UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class Events:
    """Who met which item, when, and how it went: one row an event.

    Parameters
    ----------
    users, items
        Ids, (n,): a list of ``str``, a list of ``int`` or an int64 array; one kind a column.
    timestamps
        float64 (n,), seconds, or ``None`` when the events have an order but no clock.
    values
        float32 (n,), what the objective learns (a label, a rating), or ``None`` for 1 throughout.

    Raises
    ------
    ValueError
        When the columns differ in length.

    Examples
    --------
    >>> events = Events(["ann", "bob"], [7, 9], np.array([20.0, 10.0]))
    >>> len(events), events.is_sorted()
    (2, False)
    >>> events.sorted().users
    ['bob', 'ann']
    """

    users: Ids
    items: Ids
    timestamps: NDArray[np.float64] | None = None
    values: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in ("items", "timestamps", "values"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.users):
                raise ValueError(f"{name} has {len(column)} rows, users has {len(self.users)}")

    def __len__(self) -> int:
        return len(self.users)

    def is_sorted(self) -> bool:
        """Whether no event is older than the one before it; events without a clock count as sorted."""
        return self.timestamps is None or not bool(np.any(np.diff(self.timestamps) < 0))

    def sorted(self) -> Events:
        """The events in time order; those of one instant keep the order they had."""
        if self.timestamps is None or self.is_sorted():
            return self
        return self.take(np.argsort(self.timestamps, kind="stable"))

    def take(self, rows: NDArray[np.intp]) -> Events:
        """The events at these row numbers, in that order.

        >>> Events([1, 2, 3], ["a", "b", "c"]).take(np.array([2, 0])).items
        ['c', 'a']
        """
        return Events(
            _take_ids(self.users, rows),
            _take_ids(self.items, rows),
            None if self.timestamps is None else self.timestamps[rows],
            None if self.values is None else self.values[rows],
        )


def read_events(
    path: str | PathLike[str],
    *,
    user: str,
    item: str,
    time: str | None = None,
    value: str | None = None,
    time_unit: TimeUnit = "s",
) -> Events:
    """Read events from a file, in the order of the file.

    CSV (``.csv``), TSV (``.tsv``), JSON lines (``.jsonl``, ``.ndjson``) and Parquet (``.parquet``), by extension.
    In CSV and TSV, whose columns have no types, ids are integers when every one of them is written as Python
    would write it, and strings otherwise: ``007`` stays what it is.

    Parameters
    ----------
    path
        The file.
    user, item, time, value
        Names of the columns. Times are numbers, dates, datetimes or ISO 8601 text; without a zone they are UTC.
    time_unit
        What a numeric time counts: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"`` since 1970.

    Returns
    -------
    Events
        Integer ids as int64 arrays, others as lists of ``str``; timestamps in seconds.

    Raises
    ------
    ImportError
        Without polars: ``pip install "recengine[cli]"``.
    OSError
        When the file cannot be read.
    ValueError
        For an unknown extension, a broken or empty file, a missing column, and a missing, unparsable or non-finite
        value, naming its row: 1 is the first after the header, and blank lines don't count.
    TypeError
        For ids that are neither integers nor text: ids are never cast.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "events.csv")
    ...     _ = path.write_text("who,what,when\\nann,7,2024-01-01\\nbob,9,2024-01-02T12:00\\n")
    ...     events = read_events(path, user="who", item="what", time="when")
    >>> events.users, events.items, events.timestamps
    (['ann', 'bob'], array([7, 9]), array([1.7040672e+09, 1.7041968e+09]))
    """
    if time_unit not in UNITS_PER_SECOND:
        raise ValueError(f"time_unit is {time_unit!r}, not one of {', '.join(UNITS_PER_SECOND)}")
    columns = [name for name in (user, item, time, value) if name is not None]
    frame = _read_frame(Path(path), columns)
    ids = _untyped_ids if Path(path).suffix.lower() in UNTYPED else _ids
    return Events(
        ids(frame[user]),
        ids(frame[item]),
        None if time is None else _seconds(frame[time], time_unit),
        None if value is None else _floats(frame[value], np.float32),
    )


def _take_ids(ids: Ids, rows: NDArray[np.intp]) -> Ids:
    if isinstance(ids, np.ndarray):
        return ids[rows]
    picked: Ids = np.array(ids, dtype=object)[rows].tolist()
    return picked


def _read_frame(path: Path, columns: list[str]) -> pl.DataFrame:
    """The named columns; those of CSV and TSV as text, so that no reader guesses what an id is."""
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise ImportError('reading event files needs polars: pip install "recengine[cli]"') from error
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: unknown extension {suffix!r}; known are {', '.join(SUFFIXES)}")
    with path.open("rb") as file:  # says why a path cannot be opened better than the readers do
        if not file.read(1):
            raise ValueError(f"{path}: the file is empty")
    try:
        if suffix == ".parquet":
            lazy = pl.scan_parquet(path, glob=False)
        elif suffix in (".jsonl", ".ndjson"):
            lazy = pl.scan_ndjson(path.read_bytes(), infer_schema_length=None)
        else:
            lazy = pl.scan_csv(path, separator="\t" if suffix == ".tsv" else ",", infer_schema=False, glob=False)
            lazy = lazy.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines are no events
        present = lazy.collect_schema().names()
        missing = [name for name in columns if name not in present]
        if missing:
            raise ValueError(f"{path}: no column {missing[0]!r}; there are {', '.join(present)}")
        frame = lazy.select(*dict.fromkeys(columns)).collect()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: not readable as {suffix[1:]}: {str(error).splitlines()[0]}") from error
    if frame.is_empty():
        raise ValueError(f"{path}: the file holds no events")
    return frame


def _refuse(column: pl.Series, bad: pl.Series, problem: str) -> None:
    """Raise for the first row that ``bad`` marks, saying how many more there are."""
    rows = bad.arg_true()
    if len(rows):
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        shown = "" if column[rows[0]] is None else f" {column[rows[0]]!r}"
        raise ValueError(f"column {column.name!r}: {problem}{shown} in row {rows[0] + 1}{more}")


def _ids(column: pl.Series) -> Ids:
    import polars as pl

    _refuse(column, column.is_null(), "missing value")
    if column.dtype.is_integer():
        _refuse(column, column.cast(pl.Int64, strict=False).is_null(), "beyond 64-bit integers:")
        return _numpy(column.cast(pl.Int64))
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String)
        _refuse(text, text == "", "missing value")
        return text.to_list()
    raise TypeError(
        f"column {column.name!r}: ids are integers or text, not {column.dtype} ({column[0]!r} in row 1); "
        "they are never cast, so convert them first"
    )


def _untyped_ids(column: pl.Series) -> Ids:
    """Ids of a text file: integers if that loses nothing. Decimals are floats that another tool wrote: refused."""
    import polars as pl

    if column.str.contains(r"^(0|-?[1-9][0-9]*)$").all():
        numbers = column.cast(pl.Int64, strict=False)
        return _ids(column if numbers.has_nulls() else numbers)
    return _ids(column.cast(pl.Float64) if column.str.contains(r"^-?[0-9]+\.[0-9]*$").all() else column)


def _floats(column: pl.Series, dtype: type[Float]) -> NDArray[Float]:
    import polars as pl

    _refuse(column, column.is_null(), "missing value")
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean)):
        raise ValueError(f"column {column.name!r}: {column.dtype} is no number ({column[0]!r} in row 1)")
    numbers = column.cast(pl.Float64, strict=False)
    _refuse(column, numbers.is_null(), "not a number:")
    limit = float(np.finfo(dtype).max)
    _refuse(column, ~numbers.is_between(-limit, limit), f"not finite as a {dtype.__name__}:")
    return _numpy(numbers).astype(dtype)


def _seconds(column: pl.Series, unit: TimeUnit) -> NDArray[np.float64]:
    import polars as pl

    _refuse(column, column.is_null(), "missing value")
    if column.dtype == pl.String and column[:1].cast(pl.Float64, strict=False).has_nulls():
        problem = "not a time (seconds, or ISO 8601 in one form throughout):"
        # polars would also read 03/04/2011, by a guess at which of them is the month
        _refuse(column, ~column.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"), problem)
        try:
            times = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        except pl.exceptions.ComputeError:  # polars 1, when it finds no format that fits the first row
            times = column.clear(len(column))
        _refuse(column, times.is_null(), problem)
        column = times
    if column.dtype in (pl.Date, pl.Datetime):
        return _numpy(column.dt.epoch("us")) / 1e6
    return _floats(column, np.float64) / UNITS_PER_SECOND[unit]


def _numpy(column: pl.Series) -> NDArray[Any]:
    return column.to_numpy(writable=True)

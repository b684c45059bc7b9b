"""Events as columns, and what the readers accept and refuse."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recengine.events import Events, read_events

INT_IDS = st.integers(-(2**63), 2**63 - 1)
TEXT_IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=8).filter(
    lambda text: not text.strip().lstrip("-").replace(".", "").isdigit()
)
TIMES = st.floats(0, 2e9, width=64)
COLUMNS: dict[str, Any] = {"user": "u", "item": "i", "time": "t"}


def write_delimited(path: Path, columns: dict[str, list[Any]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_jsonl(path: Path, columns: dict[str, list[Any]]) -> None:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    """The slow, obvious writers that the readers are compared with."""
    match path.suffix:
        case ".csv":
            write_delimited(path, columns, ",")
        case ".tsv":
            write_delimited(path, columns, "\t")
        case ".jsonl" | ".ndjson":
            write_jsonl(path, columns)
        case ".parquet":
            pl.DataFrame(columns).write_parquet(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(TEXT_IDS, INT_IDS, TIMES, st.floats(-100, 100, width=32)), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path: Path, suffix: str, rows: list[tuple[str, int, float, float]]) -> None:
    users, items, times, values = (list(column) for column in zip(*rows, strict=True))
    path = tmp_path / f"events{suffix}"
    write(path, {"other": ["x"] * len(rows), "i": items, "u": users, "t": times, "v": values})
    events = read_events(path, user="u", item="i", time="t", value="v")
    assert events.users == users
    assert isinstance(events.items, np.ndarray)
    assert events.items.dtype == np.int64
    assert events.items.tolist() == items
    assert events.timestamps is not None
    assert events.timestamps.tolist() == times
    assert events.values is not None
    assert events.values.dtype == np.float32
    assert events.values.tolist() == values


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 1.0, 2.0])), max_size=30), st.booleans())
def test_sorting_is_by_time_and_stable(rows: list[tuple[int, float]], text: bool) -> None:
    users: Any = [str(user) for user, _ in rows] if text else np.array([user for user, _ in rows], dtype=np.int64)
    times = np.array([time for _, time in rows])
    rank = np.arange(len(rows), dtype=np.int64)
    events = Events(users, rank, times, rank.astype(np.float32)).sorted()
    expected = sorted(range(len(rows)), key=lambda row: rows[row][1])
    assert list(events.items) == expected
    assert list(events.users) == [users[row] for row in expected]
    assert events.values is not None
    assert events.values.tolist() == expected
    assert events.is_sorted()


def test_events_without_a_clock_are_in_order() -> None:
    events = Events(["a"], [1])
    assert events.is_sorted()
    assert events.sorted() is events


@pytest.mark.parametrize("column", ["items", "timestamps", "values"])
def test_columns_of_unlike_length_are_refused(column: str) -> None:
    columns: dict[str, Any] = {"users": ["a", "b"], "items": [1, 2], column: np.zeros(3)}
    with pytest.raises(ValueError, match=f"{column} has 3 rows, users has 2"):
        Events(**columns)


def read_text(tmp_path: Path, text: str | bytes, name: str = "events.csv", **options: Any) -> Events:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_events(path, **(COLUMNS | options))


def read_times(tmp_path: Path, *times: str, **options: Any) -> list[float]:
    events = read_text(tmp_path, "u,i,t\n" + "".join(f"a,b,{time}\n" for time in times), **options)
    assert events.timestamps is not None
    return list(events.timestamps)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["7", "08"], ["7", "08"]),
        (["7", "-0"], ["7", "-0"]),
        (["7", "+8"], ["7", "+8"]),
        (["7", "85123A"], ["7", "85123A"]),
        (["7", "9223372036854775808"], ["7", "9223372036854775808"]),
        (["1.5", "x"], ["1.5", "x"]),
        (["7", "-9223372036854775808"], [7, -(2**63)]),
    ],
)
def test_text_ids_become_integers_only_if_nothing_is_lost(tmp_path: Path, written: list[str], read: list[Any]) -> None:
    events = read_text(tmp_path, "u,i,t\n" + "".join(f"a,{item},0\n" for item in written))
    assert list(events.items) == read


def test_typed_text_stays_text(tmp_path: Path) -> None:
    pl.DataFrame({"u": ["1", "2"], "i": pl.Series(["3", "4"], dtype=pl.Categorical)}).write_parquet(
        tmp_path / "e.parquet"
    )
    events = read_events(tmp_path / "e.parquet", user="u", item="i")
    assert (events.users, events.items, events.timestamps, events.values) == (["1", "2"], ["3", "4"], None, None)


def test_blank_lines_and_a_byte_order_mark_are_no_events(tmp_path: Path) -> None:
    assert list(read_text(tmp_path, "\ufeffu,i,t\r\n1,2,3\r\n\r\n4,5,6\r\n\r\n").users) == [1, 4]


@pytest.mark.parametrize("name", ["a[1].csv", "a*.jsonl", "EVENTS.CSV"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str) -> None:
    text = '{"u": 1, "i": 2, "t": 3}\n' if name.endswith("jsonl") else "u,i,t\n1,2,3\n"
    assert len(read_text(tmp_path, text, name)) == 1


def test_written_times(tmp_path: Path) -> None:
    noon = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc).timestamp()
    assert read_times(tmp_path, "1.5", "-2", "1e3") == [1.5, -2, 1000]
    assert read_times(tmp_path, "2024-02-29T12:00:00", "2024-02-29T12:00:00.25") == [noon, noon + 0.25]
    assert read_times(tmp_path, "2024-02-29 12:00", "2024-03-01 12:00") == [noon, noon + 86400]
    assert read_times(tmp_path, "2024-02-29T12:00:00Z", "2024-02-29T12:00:00+02:00") == [noon, noon - 7200]
    assert read_times(tmp_path, "2024-02-29") == [noon - 43200]


@pytest.mark.parametrize(("unit", "seconds"), [("s", 5e9), ("ms", 5e6), ("us", 5e3), ("ns", 5.0)])
def test_units_of_numeric_times(tmp_path: Path, unit: str, seconds: float) -> None:
    assert read_times(tmp_path, "5000000000", time_unit=unit) == [seconds]


@pytest.mark.parametrize(
    "time",
    [
        dt.datetime(2024, 2, 29),
        dt.date(2024, 2, 29),
        dt.datetime(2024, 2, 29, 9, tzinfo=ZoneInfo("Asia/Tokyo")),
        "2024-02-29T00:00:00",
        1_709_164_800,
        1_709_164_800.0,
    ],
)
def test_typed_times(tmp_path: Path, time: Any) -> None:
    pl.DataFrame({"u": [1], "i": [2], "t": [time]}).write_parquet(tmp_path / "e.parquet")
    events = read_events(tmp_path / "e.parquet", **COLUMNS)
    assert events.timestamps is not None
    assert events.timestamps.tolist() == [1_709_164_800.0]
    events.timestamps[0] = 0  # the caller's own, not a view into the reader's memory


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("u,i,t\n", "holds no events"),
        ("u,x,t\n1,2,3\n", "no column 'i'; there are u, x, t"),
        ("u;i;t\n1;2;3\n", "no column 'u'; there are u;i;t"),
        ("u,i,t\n1,2,3,4\n", "not readable as csv: found more fields"),
        (b"u,i,t\n\xff\xfe,2,3\n", "not readable as csv: invalid utf-8"),
        ("u,i,t\n1,2,3\n,3,3\n4,5,6\n,6,6\n", r"column 'u': missing value in row 2 \(and 1 more\)"),
        ('u,i,t\n1,2,3\n"",3,3\n', "column 'u': missing value '' in row 2"),
        ("u,i,t\n1,2,3\n1,2\n", "column 't': missing value in row 2"),
        ("u,i,t\n1,2,3\n1,2,soon\n", "column 't': not a number: 'soon' in row 2"),
        ("u,i,t\n1,2,3\n1,2,nan\n", "column 't': not finite as a float64: 'nan' in row 2"),
        ("u,i,t\n1,2,2024-01-01\n1,2,2024-13-01\n", "column 't': not a time .*: '2024-13-01' in row 2"),
        ("u,i,t\n1,2,2024-01-01T00:00:00Z\n1,2,2024-01-01T00:00:00\n", "column 't': not a time .* in row 2"),
        ("u,i,t\n1,2,2024-13-01\n1,2,2024-01-01\n", "column 't': not a time .*: '2024-13-01' in row 1"),
        ("u,i,t\n1,2,03/04/2024\n", "column 't': not a time .*: '03/04/2024' in row 1"),
    ],
)
def test_broken_text_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_text(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "message"), [("good", "not a number: 'good'"), ("1e39", "not finite as a float32")])
def test_broken_values(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"column 'v': {message}.* in row 1"):
        read_text(tmp_path, f"u,i,t,v\n1,2,3,{value}\n", value="v")


@pytest.mark.parametrize("text", ['{"u": 1', "[1, 2]", "1,2,3"])
def test_broken_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="not readable as jsonl"):
        read_text(tmp_path, text, "events.jsonl")


def test_broken_parquet_and_unknown_extensions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not readable as parquet"):
        read_text(tmp_path, "garbage that is long enough", "events.parquet")
    with pytest.raises(ValueError, match=r"unknown extension '\.xlsx'; known are \.csv, \.tsv"):
        read_text(tmp_path, "garbage", "events.xlsx")
    with pytest.raises(ValueError, match="time_unit is 'h'"):
        read_text(tmp_path, "u,i,t\n1,2,3\n", time_unit="h")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        read_events(tmp_path / "gone.csv", **COLUMNS)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        read_events(tmp_path / "folder.csv", **COLUMNS)


@pytest.mark.parametrize(
    "ids", [[1.0, 2.0], [True, False], [dt.date(2024, 1, 1)] * 2, [[1], [2]], ["1.0", "2.0"]], ids=str
)
def test_other_ids_are_refused(tmp_path: Path, ids: list[Any]) -> None:
    if ids == ["1.0", "2.0"]:
        write(tmp_path / "e.csv", {"u": ids, "i": ids})
        path = tmp_path / "e.csv"
    else:
        path = tmp_path / "e.parquet"
        write(path, {"u": ids, "i": ids})
    with pytest.raises(TypeError, match="column 'u': ids are integers or text"):
        read_events(path, user="u", item="i")


def test_integers_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"u": pl.Series([1, 2**64 - 1], dtype=pl.UInt64)}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(ValueError, match="column 'u': beyond 64-bit integers: 18446744073709551615 in row 2"):
        read_events(tmp_path / "e.parquet", user="u", item="u")


def test_without_polars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r'pip install "recengine\[cli\]"'):
        read_text(tmp_path, "u,i,t\n1,2,3\n")

"""Columns of every make: ids arrive as they are, never cast, never through a loop in Python."""

from __future__ import annotations

import builtins
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recengine import Engine
from recengine.columns import id_column, number_column, seconds, seconds_column

DIM = 2
STRINGS = ["tea", "", "日本語", "tea", "😀" * 128]
INTS = [3, 0, 2**63 - 1, 3, -(2**63)]


def ids_of(column: Any) -> list[Any]:
    """What the engine makes of a column of ids: learned one by one, so that order and repeats show."""
    engine = Engine(dim=DIM, history=0)
    engine.learn_many(np.arange(len(column)), column, timestamps=np.arange(len(column)))
    by_user = [engine.recommend(user, k=1 << 20, exclude_seen=True).ids.tolist() for user in range(len(column))]
    everything = set(engine.items)
    found: list[Any] = []
    for left in by_user:
        (seen,) = everything - set(left)
        found.append(seen)
    return found


def test_lists_and_tuples() -> None:
    for make in (list, tuple):
        assert ids_of(make(STRINGS)) == STRINGS
        assert ids_of(make(INTS)) == INTS


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["i", "u"])
def test_numpy_ints_of_all_widths(kind: str, width: int) -> None:
    limits = np.iinfo(f"{kind}{width}")
    most = min(limits.max, 2**63 - 1)
    for order in "<>":
        column = np.array([0, most, limits.min, 7], dtype=f"{order}{kind}{width}")
        assert ids_of(column) == [0, most, int(limits.min), 7]
        assert ids_of(column[::-1]) == [7, int(limits.min), most, 0]  # not contiguous


def test_unsigned_ids_beyond_64_bits_signed() -> None:
    for bad in (2**63, 2**64 - 1):
        with pytest.raises(ValueError, match=str(bad)):
            ids_of(np.array([1, bad], dtype=np.uint64))
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=str(2**63)):
        ids_of(pa.array([1, 2**63], pa.uint64()))


def test_numpy_strings() -> None:
    assert ids_of(np.array(STRINGS)) == STRINGS  # '<U128'
    assert ids_of(np.array(STRINGS, dtype=object)) == STRINGS
    assert ids_of(np.array(STRINGS)[::2]) == STRINGS[::2]
    assert ids_of(np.array(INTS, dtype=object)) == INTS
    assert ids_of(np.array([np.str_("a"), "b"], dtype=object)) == ["a", "b"]


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy before 2.0 has no StringDType")
def test_numpy_variable_strings() -> None:
    assert ids_of(np.array(STRINGS, dtype=np.dtypes.StringDType())) == STRINGS


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    for dtype in ("int64", "Int64", "int64[pyarrow]", "category", "object"):
        assert ids_of(pd.Series(INTS, dtype=dtype)) == INTS, dtype
    assert ids_of(pd.Series(STRINGS)) == STRINGS  # object, or since pandas 3 str
    for dtype in ("object", "string[python]", "string[pyarrow]", "category"):
        assert ids_of(pd.Series(STRINGS, dtype=dtype)) == STRINGS, dtype
        assert ids_of(pd.Index(STRINGS, dtype=dtype)) == STRINGS, dtype
    frame = pd.DataFrame({"user": STRINGS}, index=[9, 9, 1, 0, 2])  # positions count, labels don't
    assert ids_of(frame["user"]) == STRINGS
    assert ids_of(frame["user"][::-1]) == STRINGS[::-1]


def test_polars() -> None:
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    assert ids_of(pl.Series(STRINGS)) == STRINGS
    assert ids_of(pl.Series(INTS)) == INTS
    assert ids_of(pl.Series([1, 2, 1], dtype=pl.UInt8)) == [1, 2, 1]
    assert ids_of(pl.Series(STRINGS, dtype=pl.Categorical)) == STRINGS
    assert ids_of(pl.Series(["a", "b", "a"], dtype=pl.Enum(["b", "a"]))) == ["a", "b", "a"]
    assert ids_of(pl.Series(STRINGS)[1:4]) == STRINGS[1:4]
    assert ids_of(pl.concat([pl.Series(STRINGS), pl.Series(STRINGS)], rechunk=False)) == STRINGS * 2


def test_arrow() -> None:
    pa = pytest.importorskip("pyarrow")
    encoded = pa.array(STRINGS).dictionary_encode()
    viewed = pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(pa.string_view()))
    plain = [pa.array(STRINGS).cast(kind) for kind in (pa.string(), pa.large_string(), pa.string_view())]
    for column in (*plain, encoded, viewed):
        kind = column.type
        assert ids_of(column) == STRINGS, kind
        assert ids_of(column[1:]) == STRINGS[1:], kind
        assert ids_of(column[1:4]) == STRINGS[1:4], kind
        assert ids_of(pa.chunked_array([column, column[2:], column[:0]])) == STRINGS + STRINGS[2:], kind
    for column in (pa.array(INTS), pa.array(INTS).dictionary_encode()):
        assert ids_of(column) == INTS
        assert ids_of(pa.chunked_array([column, column[1:]])) == INTS + INTS[1:]
    assert ids_of(pa.array([1, 2, 255], pa.uint8())) == [1, 2, 255]
    batch = pa.record_batch({"user": STRINGS, "item": INTS})
    assert ids_of(batch.column("user")) == STRINGS
    assert ids_of(batch["item"]) == INTS
    assert ids_of(pa.table(batch)["user"]) == STRINGS
    twice = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "a"]).dictionary_encode()])
    assert ids_of(twice) == ["a", "b", "c", "a"]  # each chunk with a dictionary of its own


def test_empty_columns() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    columns = [[], (), np.array([]), np.array([], np.int64), np.array([], "U1")]
    columns += [pd.Series([], dtype=object), pl.Series([])]
    columns += [pa.array([], kind) for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.int64())]
    columns += [pa.chunked_array([], kind) for kind in (pa.string(), pa.int32())]
    for column in columns:
        engine = Engine(dim=DIM)
        engine.learn_many(column, column)
        assert engine.stats()["events"] == 0


def test_missing_ids_are_refused() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    columns = [
        pd.Series(["a", None], dtype="string[pyarrow]"),
        pd.Series(["a", None], dtype="string[python]"),
        pd.Series(["a", None], dtype="category"),
        pd.Series([1, None], dtype="Int64"),
        pl.Series(["a", None]),
        pl.Series([1, None]),
        pl.Series(["a", None], dtype=pl.Categorical),
        pa.array(["a", None]),
        pa.array([1, None]),
        pa.nulls(2),
        pa.array(["a", None]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["a", None])),
        pa.chunked_array([["a"], [None]]),
    ]
    for column in columns:
        with pytest.raises(ValueError, match="missing"):
            ids_of(column)
    lists = [["a", None], [1, None], [1, np.nan]]
    for objects in (*lists, np.array(["a", None]), pd.Series(["a", None], dtype=object), pd.Series([1, None])):
        with pytest.raises((TypeError, ValueError)):
            ids_of(objects)


def test_what_is_no_id_is_never_cast() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    moments = [dt.datetime(2020, 1, 1)]
    columns = [
        pd.Series([1.0]),
        pd.Series([True]),
        pd.Series(moments),
        pd.Series([1.0], dtype="category"),
        pd.Series([True], dtype="boolean"),
        pl.Series([1.0]),
        pl.Series([True]),
        pl.Series(moments),
        pl.Series([b"a"]),
        pa.array([1.0]),
        pa.array([True]),
        pa.array(moments),
        pa.array([b"a"]),
        pa.array([1.0]).dictionary_encode(),
        np.array([1 + 1j]),
        [b"a"],
        [1.0],
        5,
        None,
        object(),
    ]
    for column in columns:
        with pytest.raises(TypeError, match=r"str or int|ids must be"):
            Engine(dim=DIM).learn_many(["u"], column)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pa, pl = (pytest.importorskip(name) for name in ("pyarrow", "polars"))
    columns = [pl.Series(["a"]), pa.chunked_array([["a"]]), pa.array(["a"])]
    real: Callable[..., Any] = builtins.__import__

    def without_pyarrow(name: str, *rest: Any, **options: Any) -> Any:
        if name == "pyarrow" or name.startswith("pyarrow."):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    for column in columns:
        with pytest.raises(ImportError, match=r'pip install "recengine\[arrow\]"'):
            id_column(column)
    assert id_column(["a"]) == ["a"]


def test_a_million_strings_without_a_loop_in_python() -> None:
    pa = pytest.importorskip("pyarrow")
    texts = [f"user-{n:07}" for n in range(1_000_000)]
    column = pa.array(texts)
    engine = Engine(dim=DIM)

    def duration(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    converted = min(duration(lambda: engine.recommend(history=column, k=0)) for _ in range(3))
    looped = duration(lambda: [str(each) for each in column])
    assert converted < looped / 2


# ---- numbers


def test_number_columns() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    values = [1.5, 2.0, 4.25]
    expected = Engine(dim=DIM, objective="squared")
    expected.learn_many([1, 2, 3], [1, 2, 1], values, weights=values)
    columns = [
        tuple(values),
        np.array(values, np.float32),
        np.array(values, ">f8"),
        np.array([0.0, *values])[1:],
        np.array([[v, 0.0] for v in values])[:, 0],
        pd.Series(values),
        pd.Series(values, dtype="Float64"),
        pd.Series(values, dtype="float32[pyarrow]"),
        pl.Series(values),
        pa.array(values),
        pa.chunked_array([values[:1], values[1:]]),
        pa.array(values, pa.float32()),
    ]
    for column in columns:
        engine = Engine(dim=DIM, objective="squared")
        engine.learn_many([1, 2, 3], [1, 2, 1], column, weights=column)
        np.testing.assert_array_equal(engine.factors().item_vectors, expected.factors().item_vectors)
        assert engine.factors().global_bias == expected.factors().global_bias
    assert number_column(None) is None


def test_missing_numbers_are_refused() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    columns = [pd.Series([1.0, None]), pd.Series([1, None], dtype="Int64")]
    columns += [pl.Series([1.0, None]), pl.Series([1, None])]
    columns += [pa.array([1.0, None]), pa.chunked_array([[1], [None]]), [1.0, None], np.array([1.0, None])]
    for column in columns:
        engine = Engine(dim=DIM, objective="squared")
        with pytest.raises((TypeError, ValueError)):
            engine.learn_many([1, 2], [1, 2], column)
        with pytest.raises((TypeError, ValueError)):
            engine.learn_many([1, 2], [1, 2], timestamps=column)
        assert engine.stats()["events"] == 0


# ---- time


def test_seconds() -> None:
    moment = dt.datetime(2021, 3, 4, 5, 6, 7, 250000)
    utc = moment.replace(tzinfo=dt.timezone.utc)
    expected = utc.timestamp()
    east = utc.astimezone(dt.timezone(dt.timedelta(hours=5)))
    for same in (expected, np.float64(expected), moment, utc, east, np.datetime64(moment), np.datetime64(moment, "ns")):
        assert seconds(same) == expected
    assert seconds(7) == 7.0
    assert seconds(np.int32(-7)) == -7.0
    assert seconds(np.datetime64("1969-12-31T23:59:59.5")) == -0.5
    assert seconds(dt.date(1970, 1, 2)) == 86400.0
    for bad in ("2021", True, None, object(), [1.0, 2.0][:0]):
        with pytest.raises((TypeError, ValueError, IndexError)):
            seconds(bad)


def test_columns_of_seconds() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    moments = [dt.datetime(2021, 3, 4, 5, 6, 7), dt.datetime(1969, 12, 31), dt.datetime(2200, 1, 1)]
    aware = [moment.replace(tzinfo=dt.timezone.utc) for moment in moments]
    expected = [moment.timestamp() for moment in aware]
    columns = [
        expected,
        np.array(expected),
        np.array(expected, np.int64),
        moments,
        aware,
        [aware[0], *moments[1:]],  # naive ones count as UTC beside others too
        [moments[0], *aware[1:]],
        [np.datetime64(moment) for moment in moments],
        *(np.array(moments, f"M8[{unit}]") for unit in ("s", "ms", "us", "ns")),
        np.array(moments, dtype=object),
        pd.Series(moments),
        pd.Series(aware),
        pd.DatetimeIndex(moments),
        pd.Series(moments).astype("timestamp[us][pyarrow]"),
        pl.Series(moments),
        pl.Series(moments, dtype=pl.Datetime("ms")),
        pl.Series(aware),
        pa.array(moments),
        pa.array(moments, pa.timestamp("s")),
        pa.chunked_array([moments[:2], moments[2:]]),
        pa.array(expected),
    ]
    for column in columns:
        result = seconds_column(column)
        assert result.dtype == np.float64
        assert result.tolist() == expected, column
    missing = seconds_column(np.array(["2021", "NaT"], "M8[s]"))
    assert np.isnan(missing).tolist() == [False, True]
    for bad in (["2021"], [True], np.array(["x"]), [b"1"], [None]):
        with pytest.raises((TypeError, ValueError)):
            seconds_column(bad)

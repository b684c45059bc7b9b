"""hnswlib's index files: read as written, refused when damaged."""

from __future__ import annotations

import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recengine.interop import engine_from_hnswlib, read_hnswlib

DIM = 3
M = 2
COUNT = 5
LEVELS = [0, 2, 0, 1, 0]  # of each element
LABELS = [7, 0, 2**40, 3, 9]
ELEMENT = 4 + 4 * 2 * M + 4 * DIM + 8
HEADER = 96


def vectors_by_hand() -> npt.NDArray[np.float32]:
    return (np.arange(COUNT * DIM).reshape(COUNT, DIM) / 8 + 1).astype(np.float32)


def file_by_hand(vectors: npt.NDArray[np.float32], deleted: tuple[int, ...] = ()) -> bytes:
    """An index as save_index writes it: each element linked to its successor, above level 0 to element 1."""
    out = struct.pack("<6Q", 0, 10, COUNT, ELEMENT, ELEMENT - 8, 4 + 4 * 2 * M)
    out += struct.pack("<iI3QdQ", max(LEVELS), 1, M, 2 * M, M, 1 / math.log(M), 200)
    for i in range(COUNT):
        out += struct.pack("<HBB", 1, i in deleted, 0) + struct.pack("<4I", (i + 1) % COUNT, 0, 0, 0)
        out += vectors[i].tobytes() + struct.pack("<Q", LABELS[i])
    for level in LEVELS:
        out += struct.pack("<I", level * (4 + 4 * M)) + struct.pack("<3I", 1, 1, 0) * level
    return out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items.index"


def test_a_file_written_by_hand(path: Path) -> None:
    path.write_bytes(file_by_hand(vectors_by_hand()))
    labels, vectors = read_hnswlib(path, DIM)
    assert labels.dtype == np.int64
    assert vectors.dtype == np.float32
    assert labels.tolist() == LABELS
    np.testing.assert_array_equal(vectors, vectors_by_hand())
    again, _ = read_hnswlib(str(path), np.int64(DIM), "ip")  # type: ignore[arg-type]
    assert again.tolist() == LABELS


def test_deleted_elements_are_left_out(path: Path) -> None:
    vectors = vectors_by_hand()
    vectors[1] = np.nan  # nobody asks for it any more
    path.write_bytes(file_by_hand(vectors, deleted=(1, 4)))
    labels, kept = read_hnswlib(path, DIM)
    assert labels.tolist() == [7, 2**40, 3]
    np.testing.assert_array_equal(kept, vectors[[0, 2, 3]])


def test_an_engine_ranks_by_distance_for_l2(path: Path) -> None:
    path.write_bytes(file_by_hand(vectors_by_hand()))
    x = vectors_by_hand()
    engine = engine_from_hnswlib(path, DIM, objective="squared")
    assert sorted(engine.items) == sorted(LABELS)
    assert len(engine.users) == 0
    query = x[2] + 0.01
    engine.set_users(["me"], [query])
    assert engine.recommend("me", k=COUNT).ids.tolist() == [
        LABELS[i] for i in np.argsort(((x - query) ** 2).sum(axis=1), kind="stable")
    ]
    engine = engine_from_hnswlib(path, DIM, "ip")
    engine.set_users(["me"], [query])
    assert engine.recommend("me", k=COUNT).ids.tolist() == [LABELS[i] for i in np.argsort(-(x @ query))]
    np.testing.assert_array_equal(engine.item_vector(LABELS), x)


def test_an_empty_index(path: Path) -> None:
    sizes = struct.pack("<6Q", 0, 10, 0, ELEMENT, ELEMENT - 8, 4 + 4 * 2 * M)
    path.write_bytes(sizes + struct.pack("<iI3QdQ", -1, 2**32 - 1, M, 2 * M, M, 1 / math.log(M), 200))
    labels, vectors = read_hnswlib(path, DIM)
    assert labels.shape == (0,)
    assert vectors.shape == (0, DIM)
    assert len(engine_from_hnswlib(path, DIM).items) == 0


def patched(position: int, value: bytes) -> bytes:
    data = bytearray(file_by_hand(vectors_by_hand()))
    data[position : position + len(value)] = value
    return bytes(data)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


UPPER = HEADER + COUNT * ELEMENT


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated: 0 bytes"),
        (file_by_hand(vectors_by_hand())[:-1], "truncated|bytes left"),
        (file_by_hand(vectors_by_hand()) + b"\0", "1 bytes follow"),
        (patched(0, u64(1)), "start at 0"),
        (patched(8, u64(COUNT - 1)), "room for 4"),
        (patched(16, u64(2**60)), str(2**60)),
        (patched(16, u64(COUNT + 1)), "truncated"),
        (patched(16, u64(COUNT - 1)), "link to element 4 of 4"),
        (patched(24, u64(ELEMENT + 1)), "an element has"),
        (patched(32, u64(ELEMENT)), "a vector has"),
        (patched(40, u64(2**63)), str(2**63)),
        (patched(48, struct.pack("<i", 3)), "highest level is 3"),
        (patched(48, struct.pack("<i", -1)), "level -1"),
        (patched(52, struct.pack("<I", COUNT)), "entry is element 5"),
        (patched(56, u64(M + 1)), "M 2, but room for 3"),
        (patched(64, u64(2**62)), str(2**62)),
        (patched(72, u64(0)), "M 0"),
        (patched(80, struct.pack("<d", math.nan)), "nan"),
        (patched(HEADER, struct.pack("<H", 2 * M + 1)), "5 links"),
        (patched(HEADER + 4, struct.pack("<I", COUNT)), "link to element 5"),
        (patched(HEADER + 20, struct.pack("<f", math.inf)), "label 7 is not finite"),
        (patched(HEADER + ELEMENT - 8, u64(2**63)), str(2**63)),
        (patched(HEADER + ELEMENT - 8, u64(9)), "label 9 belongs to two"),
        (patched(UPPER, struct.pack("<I", 2**31)), "element 0 have 2147483648 bytes"),
        (patched(UPPER + 8, struct.pack("<I", M + 1)), "3 links in the upper links of element 1"),
        (patched(UPPER + 12, struct.pack("<I", COUNT)), "link to element 5"),
    ],
)
def test_damage_is_named(path: Path, data: bytes, says: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says) as refusal:
        read_hnswlib(path, DIM)
    assert str(refusal.value).startswith(str(path))
    with pytest.raises(ValueError, match=says):
        engine_from_hnswlib(path, DIM)


def test_bad_arguments(path: Path) -> None:
    path.write_bytes(file_by_hand(vectors_by_hand()))
    with pytest.raises(ValueError, match="a vector has 12 bytes, but dim 4 takes 16"):
        read_hnswlib(path, 4)
    with pytest.raises(ValueError, match="dim must be at least 1, not 0"):
        read_hnswlib(path, 0)
    for bad in (3.0, "3", True):
        with pytest.raises(TypeError, match="dim must be an int"):
            read_hnswlib(path, bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'dot'"):
        read_hnswlib(path, DIM, "dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not 1 as for cosine"):
        read_hnswlib(path, DIM, "cosine")
    with pytest.raises(FileNotFoundError):
        read_hnswlib(path.with_name("none"), DIM)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, UPPER + 43), st.integers(0, 255)), max_size=4),
    length=st.integers(0, UPPER + 43) | st.none(),
    extra=st.binary(max_size=3),
)
def test_damaged_bytes(path: Path, changes: list[tuple[int, int]], length: int | None, extra: bytes) -> None:
    whole = file_by_hand(vectors_by_hand())
    data = bytearray(whole)
    for position, value in changes:
        data[position % len(data)] = value
    path.write_bytes(bytes(data[:length]) + extra)
    tracemalloc.start()
    try:
        labels, vectors = read_hnswlib(path, DIM)
    except ValueError:
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000  # a count that was believed would be millions
    assert length is None or bytes(data[:length]) + extra == bytes(data)
    assert len(labels) == len(set(labels.tolist())) <= COUNT
    assert vectors.shape == (len(labels), DIM)
    assert np.isfinite(vectors).all()


# ---- beside the library itself


def saved(path: Path, space: str, vectors: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> Any:
    hnswlib = pytest.importorskip("hnswlib")
    index = hnswlib.Index(space, vectors.shape[1])
    index.init_index(len(vectors) + 50, M=5, ef_construction=30, random_seed=1)
    index.add_items(vectors, labels, num_threads=1)  # in this order
    index.save_index(str(path))
    return index


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("count", [1, 2, 700])
def test_indexes_of_hnswlib(path: Path, space: Any, count: int) -> None:
    random = np.random.default_rng(count)
    vectors = random.normal(size=(count, 17)).astype(np.float32)
    labels = random.permutation(10 * count)[:count] + 2**33
    index = saved(path, space, vectors, labels)
    found, read = read_hnswlib(path, 17, space)
    order = np.argsort(found)
    assert found[order].tolist() == np.sort(labels).tolist()
    np.testing.assert_array_equal(read, np.asarray(index.get_items(found), np.float32))
    expected = vectors[np.argsort(labels)]
    if space == "cosine":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(read[order], expected, rtol=1e-5)


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_rankings_are_those_of_hnswlib(path: Path, space: Any) -> None:
    random = np.random.default_rng(3)
    index = saved(path, space, random.normal(size=(200, 8)).astype(np.float32), np.arange(200))
    engine = engine_from_hnswlib(path, 8, space)
    queries = random.normal(size=(20, 8)).astype(np.float32)
    index.set_ef(200)
    truth = index.knn_query(queries, 5)[0]
    engine.set_users(np.arange(20), queries)
    assert sum(engine.recommend(u, k=5).ids.tolist() == truth[u].tolist() for u in range(20)) >= 19  # rounding


def test_deletions_of_hnswlib(path: Path) -> None:
    vectors = np.random.default_rng(4).normal(size=(100, 4)).astype(np.float32)
    index = saved(path, "l2", vectors, np.arange(100))
    for label in range(0, 100, 3):
        index.mark_deleted(label)
    index.save_index(str(path))
    labels, read = read_hnswlib(path, 4)
    assert labels.tolist() == [label for label in range(100) if label % 3]
    np.testing.assert_array_equal(read, vectors[labels])


def test_truncations_of_an_index_of_hnswlib(path: Path) -> None:
    saved(path, "l2", np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32), np.arange(40))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated|bytes"):
            read_hnswlib(path, 4)

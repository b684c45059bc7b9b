"""Saving and loading: engines go on from files bit for bit, damaged files are refused, saves are all or nothing."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine, FormatError

OBJECTIVES = ["softmax", "bpr", "logistic", "squared"]


def events(objective: str, strings: bool, size: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 40, size), random.integers(0, 160, size)
    values = np.ones(size)
    if objective == "squared":
        values = random.integers(1, 6, size).astype(float)
    if objective == "logistic":
        values = random.integers(0, 2, size).astype(float)
    return {
        "users": [f"user {n}" for n in users] if strings else users,
        "items": [f"ítem {n}" for n in items] if strings else items,
        "values": values,
        "timestamps": 1e9 + np.arange(size) * 60.0 + seed * 1e6,
        "weights": random.choice([0.0, 0.5, 1.0], size),
    }


def lived_in(objective: str, strings: bool, **options: Any) -> Engine:
    """Everything a file must hold: learned rows, sums, biases, histories, holes swept and not yet swept."""
    settings = {"dim": 6, "objective": objective, "history": 4, "popularity_half_life": 3600.0, "seed": 9}
    engine = Engine(**{**settings, **options})
    engine.learn_many(**events(objective, strings, 900, 1))
    engine.remove_items(list(engine.items)[:80])  # swept
    engine.learn_many(**events(objective, strings, 200, 2))  # some come again, into the holes
    engine.remove_items(list(engine.items)[::9])  # not swept
    engine.remove_users(list(engine.users)[::7])
    engine.learn_many(**events(objective, strings, 50, 3))
    first = "ítem 1" if strings else 1
    engine.set_items([first], np.full((1, 6), 0.25), [0.5])
    engine.set_users(["far away"] if strings else [-(2**63)], np.full((1, 6), -0.5), [2.0])
    items = list(engine.items)
    engine.set_filter("half", items[::2])
    engine.set_filter("ünïcode", items[:3])
    engine.set_groups(items[::3], [f"group {n % 5}" for n in range(len(items[::3]))])
    engine.remove_items(items[-4:])
    items = list(engine.items)
    engine.set_filter("half", items[::2])
    engine.set_filter("ünïcode", items[:3])
    engine.set_groups(items[::3], [f"group {n % 5}" for n in range(len(items[::3]))])
    engine.remove_items(items[-4:])
    engine.recommend(history=[first, "unknown" if strings else -7])
    return engine


def saved(engine: Engine, folder: Path) -> bytes:
    engine.save(folder / "state")
    return (folder / "state").read_bytes()


def everything(engine: Engine) -> list[Any]:
    """All that can be asked without changing the answer to the next question."""
    users, items = list(engine.users), list(engine.items)
    factors = engine.factors()
    nobody = "nobody" if isinstance(users[0], str) else -99
    batch = engine.recommend([*users, nobody], k=30, exclude_seen=True)
    out: list[Any] = [engine.settings, *factors, batch.ids, batch.scores, batch.counts, engine.user_vector(users)]
    session, popular = engine.recommend(history=items[:7], k=50), engine.recommend(history=[], k=999)
    filters = [engine.filter(name) for name in engine.filters]
    if filters:
        filters.append(engine.group("group 0", "group 3"))
    filtered = [engine.recommend(history=[], k=999, filter=condition) for condition in filters]
    for ranking in (session, popular, engine.similar_items(items[0], k=50), *filtered):
        out += [ranking.ids, ranking.scores]
    return [*out, {key: engine.stats()[key] for key in ("users", "items", "events", "latest_timestamp", "ignored_ids")}]


def assert_same(one: list[Any], other: list[Any]) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("strings", [False, True], ids=["int", "str"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_loaded_engine_goes_on_bit_for_bit(objective: str, strings: bool, tmp_path: Path) -> None:
    engine = lived_in(objective, strings)
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    assert_same(everything(loaded), everything(engine))
    for each in (engine, loaded):  # new users and items, into the same holes; the same negatives are drawn
        each.learn_many(**events(objective, strings, 300, 4))
        each.remove_items(list(each.items)[:70])
        each.learn_many(**events(objective, strings, 100, 5))
    assert_same(everything(loaded), everything(engine))
    assert saved(loaded, tmp_path) == saved(engine, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd"},
        {"history": 0},
        {"popularity_half_life": float("inf")},
        {"dim": 1},
        {"storage": "fp16"},
    ],
    ids=str,
)
def test_other_settings_go_round(options: dict[str, Any], tmp_path: Path) -> None:
    engine = Engine(**{"dim": 6, "seed": 3, **options})
    engine.learn_many(**events("softmax", True, 500, 1))
    engine.learning_rate = 0.03125
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    assert loaded.learning_rate == 0.03125
    for each in (engine, loaded):
        each.learn_many(**events("softmax", True, 200, 2))
    assert_same(everything(loaded), everything(engine))


def test_saving_again_writes_the_same_file(tmp_path: Path) -> None:
    engine = lived_in("softmax", True)
    first = saved(engine, tmp_path)
    assert saved(engine, tmp_path) == first
    assert saved(Engine.load(tmp_path / "state"), tmp_path) == first


def test_an_engine_without_events_goes_round(tmp_path: Path) -> None:
    engine = Engine(dim=3)
    engine.set_items(["a"], [[1.0, 2.0, 3.0]])
    engine.remove_items(["a"])
    engine.save(str(tmp_path / "engine"))
    loaded = Engine.load(str(tmp_path / "engine"))
    assert (len(loaded.items), len(loaded.users), loaded.stats()["latest_timestamp"]) == (0, 0, None)
    with pytest.raises(TypeError, match="strings"):  # the kind outlives the ids
        loaded.learn_one("u", 1)


def test_a_file_from_before_there_were_filters(tmp_path: Path) -> None:
    engine = lived_in("bpr", False)
    parts = parts_of(saved(engine, tmp_path))
    older = {name: part for name, part in parts.items() if not name.startswith(("filters.", "groups."))}
    assert len(older) == len(parts) - 9
    (tmp_path / "older").write_bytes(file_of(older))
    loaded = Engine.load(tmp_path / "older")
    assert loaded.filters == []
    np.testing.assert_array_equal(loaded.factors().item_vectors, engine.factors().item_vectors)
    with pytest.raises(KeyError, match="unknown group"):
        loaded.group("group 0")


def test_names_of_files(tmp_path: Path) -> None:
    engine = Engine(dim=2)
    for name in ("x" * 255, "naïve 日本.rec", "with space"):
        engine.save(tmp_path / name)
        Engine.load(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 3
    for use in (engine.save, Engine.load):
        with pytest.raises(ValueError, match="null"):
            use(str(tmp_path / "cut") + "\0short")
    assert not (tmp_path / "cut").exists()


# ---- files that are not whole


@pytest.fixture(scope="module")
def by_storage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small file with each storage of rows."""
    files = {}
    for storage in ("fp32", "fp16"):
        engine = Engine(dim=2, history=2, neighbors=2, storage=storage, ranker=None)
        engine.learn_many(["a", "b", "a"], [1, 2, 3], timestamps=[1.0, 2.0, 3.0])
        engine.remove_items([2])
        files[storage] = saved(engine, tmp_path_factory.mktemp("small"))
    return files


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def small(request: pytest.FixtureRequest, by_storage: dict[str, bytes]) -> bytes:
    return by_storage[request.param]


def refused(path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        Engine.load(path)
    assert isinstance(caught.value, ValueError)
    assert str(path) in str(caught.value)


def test_a_cut_file_is_refused(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for length in sorted({*range(200), *range(200, len(small), 97), *range(len(small) - 50, len(small))}):
        path.write_bytes(small[:length])
        refused(path)
    path.write_bytes(small + b"\0")
    refused(path)


def test_a_flipped_bit_anywhere_is_noticed(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flipped"
    path.write_bytes(small)
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(small):
            os.pwrite(file.fileno(), bytes([byte ^ (1 << position % 8)]), position)
            try:
                Engine.load(path)
            except FormatError:
                os.pwrite(file.fileno(), bytes([byte]), position)
            else:
                pytest.fail(f"bit {position % 8} of byte {position} is not noticed")
    Engine.load(path)


def test_what_is_no_engine_file(tmp_path: Path) -> None:
    for name, content in [
        ("empty", b""),
        ("text", b"user,item\n" * 1000),
        ("zip", b"PK\3\4" + bytes(5000)),
        ("magic", b"RECENGIN"),
    ]:
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Engine.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        Engine.load(tmp_path)
    with pytest.raises(NotADirectoryError):
        Engine.load(tmp_path / "text" / "below")


# ---- files that are whole and wrong

_CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC_TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


_TYPES = ["u1", "<i8", "<u4", "<u8", "<f4", "<f8", "<f2"]  # by the element type of docs/file-format.md


class Part(NamedTuple):
    kind: int
    values: Any


def parts_of(file: bytes) -> dict[str, Part]:
    count, table = struct.unpack_from("<IQ", file, 12)
    parts = {}
    for entry in range(count):
        name, kind, _, offset, length = struct.unpack_from("<16sIIQQ", file, table + 40 * entry)
        parts[name.rstrip(b"\0").decode()] = Part(
            kind, np.frombuffer(file[offset : offset + length], _TYPES[kind]).copy()
        )
    return parts


_known_crcs: dict[bytes, int] = {}


def file_of(parts: dict[str, Part], version: int = 4) -> bytes:
    """A file of these sections with all checksums right."""
    body, table = bytearray(64), b""
    for name, part in parts.items():
        data = part.values.tobytes()
        crc = _known_crcs.setdefault(data, -1)
        if crc < 0:
            crc = _known_crcs[data] = crc32c(data)
        table += struct.pack("<16sIIQQ", name.encode(), part.kind, crc, len(body), len(data))
        body += data + bytes(-len(data) % 64)
    header = struct.pack(
        "<8sIIQQI24x", b"RECENGIN", version, len(parts), len(body), len(body) + len(table), crc32c(table)
    )
    return bytes(header + struct.pack("<I", crc32c(header)) + body[64:] + table)


def changed(file: bytes, name: str, position: int, value: Any) -> bytes:
    parts = parts_of(file)
    parts[name].values[position] = value
    return file_of(parts)


def test_the_tests_write_files_as_the_engine_does(small: bytes) -> None:
    assert file_of(parts_of(small)) == small


def test_wrong_contents_are_refused(tmp_path: Path) -> None:
    engine = Engine(dim=2, history=3, neighbors=3, neighbors_window=2, ranker=None)
    engine.learn_many([1, 2, 1, 2, 1], ["é", "b", "c", "a", "b"], timestamps=[1.0, 2.0, 3.0, 4.0, 4.0])
    engine.remove_items(["c"])
    engine.set_filter("x", ["é", "a"])
    engine.set_filter("y", ["b"])
    engine.set_groups(["é", "a"], ["g", "h"])
    good = saved(engine, tmp_path)
    nan, inf = float("nan"), float("inf")
    changes: list[tuple[str, int, Any]] = [
        *(("settings.ints", 0, dim) for dim in (0, 17, 65537, 2**64 - 1)),
        *(("settings.ints", 1, objective) for objective in (4, 2**32)),
        ("settings.ints", 2, 2),
        *(("settings.ints", 4, negatives) for negatives in (0, 65537, 2**32 + 1)),
        *(("settings.ints", 5, history) for history in (1025, 2**32)),
        *(("settings.reals", position, value) for position in range(8) for value in (nan, -1.0)),
        *(("settings.reals", position, inf) for position in range(7)),
        ("counters", 3, 3),
        ("counters", 3, 2),
        ("counters", 4, 0),
        ("counters", 4, 1),
        ("clock", 0, inf),
        *(("globals", position, value) for position in (0, 1) for value in (nan, inf)),
        ("globals", 1, -1.0),
        *((f"{side}.live", 0, bits) for side in ("users", "items") for bits in (0, 1, 0b1111, 2**63)),
        ("items.free", 0, 0),
        ("items.free", 0, 2**31),
        *((f"{side}.vectors", 1, value) for side in ("users", "items") for value in (nan, inf, 1e16)),
        *((f"{side}.vectors", 2, 0.5) for side in ("users", "items")),  # beyond the end of a row
        ("items.vectors", 2 * 16, 0.5),  # of a free slot
        *(
            (f"{side}.{name}", position, value)
            for side in ("users", "items")
            for name, position in (("biases", 0), ("sums", 0), ("sums", 1))
            for value in (nan, inf)
        ),
        ("items.sums", 0, -1.0),
        ("items.biases", 2, 1.0),  # of a free slot, as what follows
        ("popularity", 2, 1.0),
        ("groups.items", 2, 1),
        ("neighbors.window", 2, 1),
        *(("users.index", position, word) for position in (0, 1, 2) for word in (1, 2**64 - 1)),
        ("items.index", int(np.flatnonzero(parts_of(good)["items.index"].values)[0]), 0),
        ("users.ints", 0, 2),  # an id twice
        ("items.text", 0, 0xFF),  # not UTF-8
        ("items.text", 2, ord("a")),  # an id twice
        *(("items.offsets", position, value) for position, value in ((0, 1), (1, 9), (4, 3), (3, 2**63))),
        ("popularity", 0, nan),
        ("popularity", 0, inf),
        ("recent", 0, 99),
        ("recent", 0, 2),  # removed
        ("history", 0, 3),  # removed: entries are rows plus one
        ("history", 0, 2**32 - 1),
        *(("history.ends", position, value) for position, value in ((0, 4), (1, 3), (1, 2**63))),
        ("seen", 0, 2),
        ("seen", 0, 2**32 - 1),
        *(("seen.ends", position, value) for position, value in ((0, 9), (1, 1))),
        *(("filters.rows", position, slot) for position, slot in ((0, 2), (1, 99), (2, 2**32 - 1))),
        *(("filters.ends", position, value) for position, value in ((0, 9), (1, 2), (1, 2**63))),
        *(("filters.text", position, value) for position, value in ((1, ord("x")), (0, 0xFF))),
        *(("filters.offsets", position, value) for position, value in ((0, 1), (1, 9))),
        *(("groups.kind", 0, kind) for kind in (0, 1, 3)),
        *(("groups.text", position, value) for position, value in ((1, ord("g")), (0, 0xFF))),
        *(("groups.offsets", position, value) for position, value in ((0, 1), (1, 9))),
        ("groups.items", 0, 3),
        *(("neighbors.ints", 0, slots) for slots in (0, 1, 257, 2**63)),
        *(("neighbors.ints", 1, window) for window in (0, 65, 2**63)),
        *(("neighbors.reals", 0, value) for value in (0.0, nan, -1.0)),
        *(("neighbors", 0, entry) for entry in (1, 3, 99, 2**32 - 1)),  # the item itself, removed, no slot
        ("neighbors", 3, 4),  # twice
        *(("neighbors.ends", position, value) for position, value in ((0, 9), (2, 1), (2, 2**63))),
        *((f"neighbors.{side}", 0, value) for side in ("after", "before") for value in (nan, inf, -1.0)),
        *(("neighbors.window", 0, window) for window in (0, 2, 2**62 + 1, -(2**62) - 1)),
        *(("neighbors.levels", 0, value) for value in (nan, inf)),
    ]
    path = tmp_path / "wrong"
    for name, position, value in changes:
        path.write_bytes(changed(good, name, position, value))
        try:
            Engine.load(path)
        except FormatError:
            continue
        pytest.fail(f"{name}[{position}] = {value} is accepted")


def test_missing_short_and_mistyped_sections_are_refused(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong"
    for name, part in parts_of(small).items():
        for other in (
            None,
            Part(part.kind, part.values[:-1]),
            Part(part.kind, np.append(part.values, part.values[:1])),
            Part((part.kind + 1) % len(_TYPES), part.values),
        ):
            if other is None and name == "settings.limits":
                continue  # a file from before there were limits
            if other is not None and len(other.values) == len(part.values) and other.kind == part.kind:
                continue  # an empty section cannot get shorter
            parts = parts_of(small)
            del parts[name]
            if other is not None:
                parts[name] = other
            path.write_bytes(file_of(parts))
            refused(path)


def some_float(random: Random, dtype: np.dtype[Any]) -> Any:
    """Ordinary, special, or any bits at all."""
    limits = np.finfo(dtype)
    special = [0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, limits.max, limits.min, limits.tiny]
    bits = np.frombuffer(random.randbytes(dtype.itemsize), dtype)[0]
    return random.choice([random.choice(special), random.gauss(0, 100), bits])


def some_integer(random: Random, dtype: np.dtype[Any]) -> int:
    limits = np.iinfo(dtype)
    return random.choice([random.randint(max(int(limits.min), -3), 9), random.randint(limits.min, limits.max)])


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
@settings(max_examples=300, deadline=None)
@given(random=st.randoms(use_true_random=True))
def test_any_contents_are_refused_or_work(
    by_storage: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, storage: str, random: Random
) -> None:
    """Checksums right, contents random: a clean refusal, or an engine that answers."""
    parts = parts_of(by_storage[storage])
    for _ in range(random.randint(1, 3)):
        name = random.choice(sorted(name for name, part in parts.items() if len(part.values)))
        values = parts[name].values
        position = random.randrange(len(values) if name != "recent" else 4)
        some = some_float if values.dtype.kind == "f" else some_integer
        values[position] = some(random, values.dtype)
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(file_of(parts))
    try:
        engine = Engine.load(path)
    except FormatError:
        return
    engine.recommend("a", exclude_seen=True)
    engine.recommend("nobody")
    engine.learn_many(["a", "new"], [1, 77])
    assert np.all(np.isfinite(engine.similar_items(77, by="behaviour").scores))
    engine.remove_items([77])
    engine.save(path)
    Engine.load(path)


# ---- saving that fails


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    engine = lived_in("bpr", False)
    before = saved(engine, tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        engine.save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        engine.save(tmp_path / "missing" / "engine")
    with pytest.raises(NotADirectoryError):
        engine.save(tmp_path / "state" / "engine")
    with pytest.raises(OSError, match="File name too long"):
        engine.save(tmp_path / ("x" * 256))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "state"]
    assert saved(engine, tmp_path) == before


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from recengine import Engine
        engine = Engine(dim=64, history=0)
        engine.set_items(range(2000), [[1.0] * 64] * 2000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            engine.save(sys.argv[1])
        except OSError as error:
            print(type(error).__name__, error.errno)
        print(len(engine.items), engine.recommend("a", k=1).ids)
    """
    path = tmp_path / "engine"
    Engine(dim=2).save(path)
    before = path.read_bytes()
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True, check=True
    )
    assert result.stdout == "OSError 27\n2000 [0]\n"  # EFBIG
    assert result.stderr == ""
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_while_others_learn(tmp_path: Path) -> None:
    """Each file is one moment: the events it counts are those its items count."""
    engine = Engine(dim=8, negatives=2, popularity_half_life=float("inf"))
    engine.learn_one(0, 0)
    stop = threading.Event()
    failures: list[BaseException] = []

    def learn(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            while not stop.is_set():
                engine.learn_many(random.integers(0, 50, 2000), random.integers(0, 60, 2000), threads=2)
                for _ in range(50):
                    engine.learn_one(int(random.integers(50)), int(random.integers(60)))
        except BaseException as error:
            failures.append(error)

    learners = [threading.Thread(target=learn, args=(seed,)) for seed in range(3)]
    for learner in learners:
        learner.start()
    last = 0
    try:
        for _ in range(12):
            engine.save(tmp_path / "engine")
            loaded = Engine.load(tmp_path / "engine")
            counted = float(loaded.recommend(history=[], k=100).scores.sum())
            assert counted == pytest.approx(loaded.stats()["events"], rel=1e-3)
            assert loaded.stats()["events"] >= last
            last = loaded.stats()["events"]
            factors = loaded.factors()
            assert all(np.isfinite(array).all() for array in (factors.item_vectors, factors.user_vectors))
    finally:
        stop.set()
        for learner in learners:
            learner.join()
    assert failures == []
    assert last > 1
    assert list(tmp_path.iterdir()) == [tmp_path / "engine"]

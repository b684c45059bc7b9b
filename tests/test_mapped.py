"""Engines that are mapped: they answer as loaded ones do, refuse changes, survive damage, and go on to newer files."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recengine import Engine, FormatError, Ials
from recengine.explore import ThompsonSampling
from test_save_load import (
    OBJECTIVES,
    assert_same,
    changed,
    everything,
    file_of,
    lived_in,
    parts_of,
    saved,
    some_float,
    some_integer,
)


def verified(engine: Engine) -> Engine:
    """Once the background is done with it."""
    deadline = time.monotonic() + 60
    while not engine.stats()["mapping"]["verified"]:
        assert engine.stats()["mapping"]["damage"] is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return engine


def wide(rows: int = 5000, **options: Any) -> Engine:
    """So many items that retrieval goes by codes and cells, some of them removed."""
    random = np.random.default_rng(4)
    engine = Engine(**{"dim": 20, "history": 6, "objective": "bpr", "maintenance": False, **options})
    engine.set_items(range(rows), random.normal(size=(rows, 20)), random.normal(size=rows))
    engine.learn_many(random.integers(0, 300, 4000), random.integers(0, rows, 4000), timestamps=np.arange(4000.0))
    engine.remove_items(list(range(0, rows, 17)))
    engine.remove_users(list(engine.users)[::9])
    return engine


@pytest.mark.parametrize("strings", [False, True], ids=["int", "str"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_mapped_engine_answers_as_a_loaded_one(objective: str, strings: bool, tmp_path: Path) -> None:
    lived_in(objective, strings).save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    for verify in (False, True):
        mapped = Engine.load(tmp_path / "engine", mmap=True, verify=verify)
        assert_same(everything(mapped), everything(loaded))
        assert_same(everything(verified(mapped)), everything(loaded))


@pytest.mark.parametrize(
    "options",
    [
        {"storage": "fp16"},
        {"ranker": "mlp", "item_features": ("price", "age")},
        {"ranker": None, "neighbors": 4},
        {"history": 0},
        {"user_model": "als"},
        {"dim": 16},
    ],
    ids=str,
)
def test_so_do_engines_of_other_settings(options: dict[str, Any], tmp_path: Path) -> None:
    engine = lived_in("softmax", True, **{"neighbors": 6, **options} if "dim" not in options else {})
    items = list(engine.items)
    if "item_features" in options:
        engine.set_item_features(items[:9], np.arange(18.0).reshape(9, 2))
    engine.save(tmp_path / "engine")
    mapped, loaded = Engine.load(tmp_path / "engine", mmap=True), Engine.load(tmp_path / "engine")
    assert_same(everything(mapped), everything(loaded))
    if engine.settings["neighbors"] > 0:
        for item in items:
            ours, theirs = (each.similar_items(item, by="behaviour") for each in (mapped, loaded))
            assert_same([ours.ids, ours.scores], [theirs.ids, theirs.scores])
    for user in list(engine.users)[:9]:
        assert repr(mapped.explain(user, items[0])) == repr(loaded.explain(user, items[0]))
        assert_same([mapped.rank(user, items).scores], [loaded.rank(user, items).scores])
    drawn = [
        each.recommend(next(iter(engine.users)), k=5, explore=ThompsonSampling(), seed=3) for each in (mapped, loaded)
    ]
    assert_same([drawn[0].ids], [drawn[1].ids])


def test_before_and_after_it_is_verified_answers_are_certified_and_the_same(tmp_path: Path) -> None:
    wide(60_000).save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    mapped = Engine.load(tmp_path / "engine", mmap=True)
    users = list(loaded.users)[:40]
    expected = loaded.recommend(users, k=20, exclude_seen=True)
    ways = set()
    for _ in range(2):
        answer = mapped.recommend(users, k=20, exclude_seen=True)
        assert answer.certified
        assert_same([answer.ids, answer.scores], [expected.ids, expected.scores])
        alone = mapped.recommend(users[0], k=20, exclude_seen=True)
        assert_same([alone.ids, alone.scores], [expected.ids[0], expected.scores[0]])
        alike = [each.similar_items(5, k=20) for each in (mapped, loaded)]
        assert_same([alike[0].ids, alike[0].scores], [alike[1].ids, alike[1].scores])
        ways.add(mapped.plan(users[0])["retrieval"])
        mapped.maintain()  # waits for the verification
        assert mapped.stats()["mapping"]["verified"]
    assert "cells" in ways, ways  # and "rows" before, unless the machine is fast
    assert mapped.stats()["cells"] > 0


CHANGES: dict[str, Callable[[Engine, Path], object]] = {
    "learn_one": lambda engine, _: engine.learn_one(1, 2),
    "learn_many": lambda engine, _: engine.learn_many([1], [2]),
    "set_users": lambda engine, _: engine.set_users([1], np.ones((1, 20))),
    "set_items": lambda engine, _: engine.set_items([1], np.ones((1, 20))),
    "remove_users": lambda engine, _: engine.remove_users([next(iter(engine.users))]),
    "remove_items": lambda engine, _: engine.remove_items([1]),
    "set_filter": lambda engine, _: engine.set_filter("new", [1]),
    "update_filter": lambda engine, _: engine.update_filter("odd", add=[2]),
    "remove_filter": lambda engine, _: engine.remove_filter("odd"),
    "set_groups": lambda engine, _: engine.set_groups([1], ["g"]),
    "set_item_features": lambda engine, _: engine.set_item_features([1], [[1.0]]),
    "learning_rate": lambda engine, _: setattr(engine, "learning_rate", 0.5),
    "fit": lambda engine, _: engine.fit([1, 2], [1, 2], method=Ials()),
    "save": lambda engine, path: engine.save(path / "other"),
    "impression": lambda engine, _: engine.impression(engine.recommend(1, k=3, explore=ThompsonSampling())),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_refused(change: str, tmp_path: Path) -> None:
    engine = wide(300, ranker="linear", item_features=("price",), objective="softmax")
    engine.set_filter("odd", [1, 3])
    engine.save(tmp_path / "engine")
    before = (tmp_path / "engine").read_bytes()
    mapped = Engine.load(tmp_path / "engine", mmap=True)
    answers = everything_asked(mapped)
    with pytest.raises(RuntimeError, match=r"read-only, mapped from .*engine"):
        CHANGES[change](mapped, tmp_path)
    assert_same(everything_asked(mapped), answers)
    assert (tmp_path / "engine").read_bytes() == before


def everything_asked(engine: Engine) -> list[Any]:
    batch = engine.recommend(list(engine.users)[:20], k=9)
    return [batch.ids, batch.scores, *engine.factors(), engine.filters]


def test_a_folder_is_what_checkpoint_and_sync_are_for(tmp_path: Path) -> None:
    Engine(dim=2).save(tmp_path / "engine")
    mapped = Engine.load(tmp_path / "engine", mmap=True)
    for use in (mapped.checkpoint, mapped.sync, mapped.close):
        with pytest.raises(ValueError, match="with a folder"):
            use()
    with pytest.raises(ValueError, match="mmap=True"):
        Engine.load(tmp_path / "engine").reload()


def test_an_empty_engine_is_mapped(tmp_path: Path) -> None:
    Engine(dim=2).save(tmp_path / "engine")
    mapped = verified(Engine.load(tmp_path / "engine", mmap=True))
    assert (len(mapped.users), len(mapped.recommend("ann").ids), mapped.maintain()) == (0, 0, 0)


# ---- damage


def ask(engine: Engine) -> None:
    """Everything that reads what may be wrong. Answers may be of any kind, but nothing is read out of bounds."""
    for user in (*list(engine.users), "nobody"):
        engine.recommend(user, k=5, exclude_seen=True)
        engine.user_vector([user] if user in engine.users else [])
        if user in engine.users:
            for item in list(engine.items)[:2]:
                engine.explain(user, item)
    engine.recommend(["a", "b", "nobody"], k=9, exclude_seen=True)
    engine.recommend(history=[1, 2, 3], k=5)
    engine.recommend(history=[], k=5)
    for item in list(engine.items):
        if item in engine.items:
            engine.similar_items(item, k=5)
            engine.similar_items(item, k=5, by="behaviour")
            engine.recommend("a", k=3, filter=engine.group("g") | engine.filter("f"))
    engine.factors()
    engine.stats()


def damaged() -> Engine:
    engine = Engine(dim=2, history=2, neighbors=2, ranker="linear", item_features=("price",))
    engine.learn_many(["a", "b", "a", "c"], [1, 2, 3, 2], timestamps=[1.0, 2.0, 3.0, 4.0])
    engine.set_filter("f", [1, 3])
    engine.set_groups([1, 3], ["g", "h"])
    engine.remove_items([2])
    engine.remove_users(["c"])
    return engine


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    good = saved(damaged(), tmp_path)
    path = tmp_path / "flipped"
    for position in range(0, len(good), 7):  # a prime, so that all sections and all bits are met
        path.write_bytes(good[:position] + bytes([good[position] ^ 1 << position % 8]) + good[position + 1 :])
        with pytest.raises(FormatError, match="flipped"):
            Engine.load(path, mmap=True, verify=True)
        os.unlink(path)  # it is mapped: never written over


def test_damage_found_in_the_background_stops_queries(tmp_path: Path) -> None:
    good = bytearray(saved(wide(30_000), tmp_path))
    good[len(good) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(good)
    engine = Engine.load(tmp_path / "damaged", mmap=True)
    deadline = time.monotonic() + 60
    while (damage := engine.stats()["mapping"]["damage"]) is None:
        with contextlib.suppress(FormatError):
            assert len(engine.recommend(1).ids) == 10
        assert time.monotonic() < deadline
    assert "damaged section 'items.vectors' (checksum)" in damage
    for use in (
        lambda: engine.recommend(1),
        lambda: engine.recommend([1, 2]),
        lambda: engine.recommend(history=[1]),
        lambda: engine.similar_items(1),
        lambda: engine.score(1, [1]),
        lambda: engine.factors(),
        lambda: engine.search(np.ones(20)),
        lambda: engine.explain(1, 1),
        lambda: engine.user_vector(1),
        lambda: 1 in engine.items,
        engine.maintain,
    ):
        with pytest.raises(FormatError, match=r"items\.vectors"):
            use()


def test_wrong_contents_are_refused(tmp_path: Path) -> None:
    """Checksums right, contents not."""
    good = saved(damaged(), tmp_path)
    nan, inf, most = float("nan"), float("inf"), 2**32 - 1
    changes: list[tuple[str, int, Any]] = [
        *((f"{side}.live", 0, bits) for side in ("users", "items") for bits in (0, 1, 0b1111, 2**63)),
        *((f"{side}.vectors", 1, value) for side in ("users", "items") for value in (nan, inf, 1e16)),
        *((f"{side}.vectors", 2, 0.5) for side in ("users", "items")),  # beyond the end of a row
        *((f"{side}.biases", 0, value) for side in ("users", "items") for value in (nan, inf)),
        ("items.biases", 1, 1.0),  # of the free slot, as what follows
        ("items.vectors", 16, 0.5),
        ("items.ints", 1, 7),
        ("popularity", 1, 1.0),
        ("neighbors.window", 1, 1),
        ("ranker.trends", 8, 1.0),
        ("ranker.features", 1, 1.0),
        ("visits", 2, 1.0),
        ("groups.items", 1, 1),
        ("items.ints", 0, 3),  # an id twice
        ("users.text", 0, 0xFF),
        ("users.text", 0, ord("b")),
        *(("users.offsets", position, value) for position, value in ((0, 1), (1, 9), (1, 2**63), (3, 1))),
        *(("users.index", position, value) for position in range(4) for value in (1, most, 2**64 - 1)),
        ("items.index", int(np.flatnonzero(parts_of(good)["items.index"].values)[0]), 0),
        *(("popularity", 0, value) for value in (nan, inf, 0.0)),
        *(("history", 0, entry) for entry in (2, most)),
        *(("history.ends", position, value) for position, value in ((0, 4), (1, 9), (1, 2**63))),
        *(("history.times", 0, value) for value in (nan, inf)),
        *(("visits", 0, value) for value in (nan, inf)),
        ("visits.sessions", 0, 2**31),
        *(("seen", 0, item) for item in (1, 2, most)),
        *(("seen.ends", position, value) for position, value in ((0, 9), (1, 0))),
        *(("neighbors", 0, entry) for entry in (1, 2, 99, most)),
        *(("neighbors.ends", position, value) for position, value in ((0, 9), (2, 0), (2, 2**63))),
        *((f"neighbors.{side}", 0, value) for side in ("after", "before") for value in (nan, inf, -1.0)),
        *(("neighbors.window", 0, window) for window in (0, 2, 2**62 + 1, -(2**62) - 1)),
        *(("neighbors.levels", 0, value) for value in (nan, inf)),
        *(("ranker.trends", 0, value) for value in (nan, inf, 0.0)),
        *(("ranker.totals", 0, value) for value in (nan, inf)),
        *(("ranker.mixtures", 0, value) for value in (nan, 0.0)),
        *(("ranker.features", 0, value) for value in (nan, inf, 2e15)),
        *(("ranker.popular", 0, entry) for entry in (2, most)),
        *(("filters.rows", 0, slot) for slot in (1, most)),
        ("counters", 3, 1),
        ("counters", 4, 2),
        ("clock", 0, inf),
    ]
    for number, (name, position, value) in enumerate(changes):
        path = tmp_path / f"wrong-{number}"
        path.write_bytes(changed(good, name, position, value))
        try:
            Engine.load(path, mmap=True, verify=True)
        except FormatError:
            continue
        pytest.fail(f"{name}[{position}] = {value} is accepted")


class Shown(list[bytes]):
    """Hypothesis would print all of it."""

    def __repr__(self) -> str:
        return "a file"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=True))
def test_any_contents_are_refused_or_harmless(small: list[bytes], tmp_path: Path, random: Random) -> None:
    """Checksums right, contents random, queries before anything is verified (ASan runs this as well)."""
    parts = parts_of(small[0])
    for _ in range(random.randint(1, 4)):
        name = random.choice(sorted(name for name, part in parts.items() if len(part.values)))
        values = parts[name].values
        position = random.randrange(len(values) if name != "recent" else 4)
        some = some_float if values.dtype.kind == "f" else some_integer
        values[position] = some(random, values.dtype)
    path = tmp_path / f"fuzzed-{random.random()}"
    path.write_bytes(file_of(parts))
    try:
        engine = Engine.load(path, mmap=True)
        ask(engine)
        engine.maintain()
    except (FormatError, KeyError, UnicodeDecodeError):
        return
    with contextlib.suppress(FormatError):  # what a mapped engine has no use for may be wrong
        loaded = Engine.load(path)
        np.testing.assert_array_equal(loaded.recommend("a").ids, engine.recommend("a").ids)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return Shown([saved(damaged(), tmp_path_factory.mktemp("small"))])


# ---- newer files


def test_reload_goes_on_to_a_file_that_took_its_place(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    Engine.from_factors([1], [[1.0]], [1, 2], [[1.0], [2.0]]).save(path)
    mapped = Engine.load(path, mmap=True)
    mapped.threads, mapped.maintenance = 3, False
    users = mapped.users
    assert not mapped.reload()
    Engine.from_factors([1, 5], [[1.0], [1.0]], [1, 2], [[3.0], [2.0]]).save(path)
    assert mapped.recommend(1, k=1).ids.tolist() == [2]
    assert mapped.reload()
    assert mapped.recommend(1, k=1).ids.tolist() == [1]
    assert (5 in mapped.users, 5 in users, mapped.threads, mapped.maintenance) == (True, False, 3, False)
    assert not mapped.reload()
    (tmp_path / "damaged").write_bytes(path.read_bytes()[:-1])
    os.replace(tmp_path / "damaged", path)
    with pytest.raises(FormatError):
        mapped.reload()
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        mapped.reload()
    assert mapped.recommend(1, k=1).ids.tolist() == [1]


def test_readers_of_a_folder_follow_its_writer(tmp_path: Path) -> None:
    """Queries, reloads and checkpoints at once: a query sees one snapshot, whole, and never an older one again."""
    items = list(range(64))
    with Engine.open(tmp_path / "shop", dim=8, history=0, objective="squared", maintenance=False) as writer:

        def write(number: int) -> None:  # every item of one snapshot scores the same
            writer.set_items(items, np.full((64, 8), number / 8), np.zeros(64))
            writer.checkpoint()

        writer.set_users(["ann"], np.ones((1, 8)))
        write(1)
        reader = Engine.load(tmp_path / "shop", mmap=True)
        stop = threading.Event()
        failures: list[BaseException] = []
        seen: list[set[float]] = [set(), set()]

        def query(found: set[float]) -> None:
            last = 0.0
            try:
                while not stop.is_set():
                    scores = reader.recommend("ann", k=64).scores
                    assert len(scores) == 64
                    assert (scores == scores[0]).all(), scores
                    assert scores[0] >= last
                    last = float(scores[0])
                    found.add(last)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=query, args=(found,)) for found in seen]
        for thread in threads:
            thread.start()
        reloads = 0
        try:
            for number in range(2, 30):
                write(number)
                reloads += reader.reload()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert reloads == 28
        assert float(reader.recommend("ann", k=1).scores[0]) == 29.0
        assert all(len(found) > 3 for found in seen)
        assert len(list((tmp_path / "shop").glob("snapshot-*"))) == 1


FOLLOW = """
import sys
from recengine import Engine

engine = Engine.load(sys.argv[1], mmap=True)
before = 0
for _ in range(300):
    engine.reload()
    size = len(engine.items)
    assert size >= before
    before = size
    engine.recommend(history=[0], k=3)
print(before)
"""


def test_other_processes_read_a_folder_that_is_written(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "shop", dim=4, sync="os") as writer:
        writer.learn_one(0, 0)
        writer.checkpoint()
        command = [sys.executable, "-c", FOLLOW, str(tmp_path / "shop")]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        number = 0
        while any(reader.poll() is None for reader in readers):
            number += 1
            writer.learn_one(number % 10, number)
            writer.checkpoint()
        assert all(int(reader.communicate()[0]) > 1 and reader.returncode == 0 for reader in readers)


def private_bytes() -> int:
    """Memory that this process does not share, with anybody or with a file."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Anonymous: in smaps_rollup")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what is shared")
def test_pages_are_those_of_the_file(tmp_path: Path) -> None:
    wide(80_000, dim=20).save(tmp_path / "engine")
    size = (tmp_path / "engine").stat().st_size
    assert size > 13_000_000
    before = private_bytes()
    mapped = [Engine.load(tmp_path / "engine", mmap=True, verify=True) for _ in range(4)]
    for engine in mapped:
        engine.maintenance = False
        engine.recommend(1)
    assert private_bytes() - before < size  # of four that would otherwise hold four times as much

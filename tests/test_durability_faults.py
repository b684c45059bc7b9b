"""Engines with a folder on disks that fail, in processes that are killed, and over files that were damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from durable_programs import Operation, plain, run, state
from recengine import Engine, FormatError
from recengine.explore import UCB

TESTS = Path(__file__).resolve().parent
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
MEMORY = Path("/dev/shm")

SETTINGS: dict[str, Any] = {"dim": 2, "objective": "bpr", "history": 0, "maintenance": False}
PROGRAM: list[Operation] = [
    ("learn_one", 0, 0, 1.0, 5.0),
    ("learn_many", [(k % 3, k % 5, 1.0, 1.0) for k in range(6)], True, True),
    ("set_filter", "a", [0, 1]),
    ("feedback_settings", 4),
    ("show", 0, 3, 7.0, False),
    ("feedback", 1, 0, 2.0, None),
    ("show", 1, 4, None, True),
    ("feedback", 2, 1, -1.0, 9.0),
    ("deliver", [(1, 2, 1.0, 1.0)], 10),
    ("set_items", [3, 4], 4),
    ("remove_items", [1]),
    ("set_groups", [0, 2], 1),
    ("update_filter", "a", [2], [0]),
    ("learning_rate", 0.05),
    ("remove_users", [2]),
    ("learn_one", 1, 4, 1.0, None),
]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that costs no time: thousands of engines are opened in it."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def prefixes(scratch: Path, program: list[Operation], strings: bool = True) -> list[bytes]:
    return [state(plain(SETTINGS, program[:count], strings, scratch), scratch) for count in range(len(program) + 1)]


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


# ---- damage


def crc32c(data: bytes, before: int = 0) -> int:
    """Bit by bit: RFC 3720, appendix B.4."""
    crc = before ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def reopened(folder: Path, log: bytes, scratch: Path, **options: Any) -> bytes:
    only(folder, "log-*").write_bytes(log)
    with Engine.open(folder, checkpoint_bytes=0, maintenance=False, **options) as engine:
        return state(engine, scratch)


@pytest.fixture
def lived_in(scratch: Path) -> Path:
    with Engine.open(scratch / "folder", checkpoint_bytes=0, **SETTINGS) as engine:
        for operation in PROGRAM:
            run(engine, operation, True, scratch)
    return scratch / "folder"


def records(log: bytes) -> list[int]:
    """Where each begins, and the end."""
    starts = [64]
    while starts[-1] < len(log):
        (length,) = struct.unpack_from("<I", log, starts[-1] + 4)
        starts.append(starts[-1] + 16 + (length + 7) // 8 * 8)
    return starts


def test_every_truncation_of_a_log_gives_a_prefix(lived_in: Path, scratch: Path) -> None:
    log = only(lived_in, "log-*").read_bytes()
    starts, expected = records(log), prefixes(scratch, PROGRAM)
    assert starts[-1] == len(log)
    assert len(starts) == len(PROGRAM) + 1
    for length in range(len(log)):
        whole = sum(start <= length for start in starts[1:])
        assert reopened(lived_in, log[:length], scratch) == expected[whole], length


def test_every_flipped_byte_of_a_log_is_detected(lived_in: Path, scratch: Path) -> None:
    log = only(lived_in, "log-*").read_bytes()
    starts, expected = records(log), prefixes(scratch, PROGRAM)
    for at in range(len(log)):
        flipped = log[:at] + bytes([log[at] ^ 1 << at % 8]) + log[at + 1 :]
        if at >= starts[-2]:  # what may be the tail of a process that died
            assert reopened(lived_in, flipped, scratch) == expected[-2], at
        else:
            with pytest.raises(FormatError):
                reopened(lived_in, flipped, scratch)


def test_salvage_keeps_what_comes_before_damage(lived_in: Path, scratch: Path) -> None:
    log = only(lived_in, "log-*").read_bytes()
    expected, start = prefixes(scratch, PROGRAM), records(log)[4]
    damaged = log[: start + 20] + b"\xff" + log[start + 21 :]
    with pytest.raises(FormatError, match=r"record 5 at byte .* is damaged, and record 6 .* is not.*salvage=True"):
        reopened(lived_in, damaged, scratch)
    assert reopened(lived_in, damaged, scratch, salvage=True) == expected[4]
    with Engine.open(lived_in) as engine:  # whole again, and goes on
        assert state(engine, scratch) == expected[4]
        engine.learn_one("u9", "ítem 9")
    with Engine.open(lived_in) as engine:
        assert "u9" in engine.users


def test_changed_bytes_with_right_checksums_are_refused_or_harmless(lived_in: Path, scratch: Path) -> None:
    """What the checksum does not catch, the checks of each value do: no crash, no row that is not finite."""
    log = only(lived_in, "log-*").read_bytes()
    starts = records(log)
    identity, first = struct.unpack_from("<QQ", log, 16)
    begin = crc32c(struct.pack("<QQ", identity, first))
    refused = harmless = 0
    for start, end in pairwise(starts):
        (length,) = struct.unpack_from("<I", log, start + 4)
        assert struct.unpack_from("<I", log, start)[0] == crc32c(log[start + 4 : start + 16 + length], begin)
        for at in range(start + 16, start + 16 + length):
            for value in {0, 0xFF, log[at] ^ 0x80, log[at] + 1 & 0xFF} - {log[at]}:
                payload = bytearray(log[start : start + 16 + length])
                payload[at - start] = value
                struct.pack_into("<I", payload, 0, crc32c(bytes(payload[4:]), begin))
                only(lived_in, "log-*").write_bytes(log[:start] + payload + log[start + 16 + length : end] + log[end:])
                try:
                    engine = Engine.open(lived_in, checkpoint_bytes=0, maintenance=False)
                except FormatError:
                    refused += 1
                    continue
                harmless += 1
                assert all(np.isfinite(part).all() for part in engine.factors()[1:3])
                engine.learn_one("u0", "ítem 0")
                assert np.isfinite(engine.recommend("u0", k=3).scores).all()
                assert np.isfinite(engine.recommend("u0", k=3, explore=UCB(1.0, "shared")).scores).all()
                assert len(engine.impressions()) <= engine.feedback_settings.capacity
                engine.close()
    assert refused > 200
    assert harmless > 50


def test_events_of_two_kinds_of_ids_are_refused(tmp_path: Path) -> None:
    """Records of single events are learned together: that they contradict each other shows all the same."""
    logs = []
    for kind in (int, str):
        with Engine.open(tmp_path / kind.__name__, checkpoint_bytes=0, **SETTINGS) as engine:
            engine.learn_one(kind(1), kind(2))
        log = only(tmp_path / kind.__name__, "log-*").read_bytes()
        (length,) = struct.unpack_from("<I", log, 64 + 4)
        logs.append((log, log[64 + 16 : 64 + 16 + length]))
    (log, _), (_, payload) = logs
    identity, first = struct.unpack_from("<QQ", log, 16)
    header = struct.pack("<IQ", len(payload), 2)
    record = struct.pack("<I", crc32c(header + payload, crc32c(struct.pack("<QQ", identity, first)))) + header + payload
    last = only(tmp_path / "int", "log-*")
    last.write_bytes(log + record + bytes(-len(record) % 8))
    with pytest.raises(FormatError, match=r"record 2: .*(all ids so far|ids of this engine).*salvage=True"):
        Engine.open(tmp_path / "int")
    assert last.read_bytes()[: len(log) + 1] == log + record[:1]  # nothing has changed
    with Engine.open(tmp_path / "int", salvage=True) as engine:  # the log ends before it
        assert (sorted(engine.users), engine.stats()["events"]) == ([1], 1)
        assert engine.stats()["durability"]["cut_bytes"] > 0
        engine.learn_one(3, 4)
    with Engine.open(tmp_path / "int") as engine:
        assert sorted(engine.users) == [1, 3]


def test_settings_that_are_not_the_folders_change_nothing_there(lived_in: Path) -> None:
    log = only(lived_in, "log-*")
    damaged = bytearray(log.read_bytes())
    damaged[records(bytes(damaged))[4] + 20] ^= 0xFF
    log.write_bytes(damaged)
    (lived_in / "log-00000000000000000099").write_bytes(b"of nobody")
    before = {path.name: path.read_bytes() for path in lived_in.iterdir() if path.name != "lock"}
    with pytest.raises(ValueError, match="dim is 2 in"):
        Engine.open(lived_in, salvage=True, dim=3)
    assert {path.name: path.read_bytes() for path in lived_in.iterdir() if path.name != "lock"} == before
    (lived_in / "log-00000000000000000099").unlink()
    damaged[records(bytes(damaged))[4] + 20] ^= 0xFF
    log.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"learning_rate is 0\.05 in"):  # as it was set last
        Engine.open(lived_in, learning_rate=0.1)


def test_a_snapshot_with_any_byte_flipped_is_refused(lived_in: Path) -> None:
    path = only(lived_in, "snapshot-*")
    snapshot = path.read_bytes()
    for at in [*range(300), *range(300, len(snapshot), 97), *range(len(snapshot) - 300, len(snapshot))]:
        path.write_bytes(snapshot[:at] + bytes([snapshot[at] ^ 1 << at % 8]) + snapshot[at + 1 :])
        with pytest.raises(FormatError):
            Engine.open(lived_in)
    path.write_bytes(snapshot)
    Engine.open(lived_in).close()


def test_files_of_other_folders_and_missing_ones_are_refused(lived_in: Path, scratch: Path) -> None:
    Engine.open(scratch / "other", **SETTINGS).close()
    log = only(lived_in, "log-*")
    whole = log.read_bytes()
    shutil.copy(only(scratch / "other", "log-*"), log)
    with pytest.raises(FormatError, match="another engine"):
        Engine.open(lived_in)
    log.write_bytes(whole)
    snapshot = only(lived_in, "snapshot-*")
    snapshot.rename(scratch / "snapshot")
    with pytest.raises(FormatError, match="no snapshot"):
        Engine.open(lived_in)
    shutil.copy(scratch / "snapshot", snapshot.with_name("snapshot-00000000000000000003"))
    with pytest.raises(FormatError, match="record 1"):
        Engine.open(lived_in)
    engine = Engine.open(scratch / "third", **SETTINGS)
    engine.learn_one("ann", "tea")
    engine.checkpoint()
    engine.close()
    only(scratch / "third", "log-*").unlink()
    with pytest.raises(FormatError, match="is missing"):
        Engine.open(scratch / "third")


# ---- disks that fail


def test_every_call_to_the_disk_fails_in_turn(scratch: Path) -> None:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    library = scratch / "faulty_disk.so"
    source = TESTS / "faulty_disk.c"
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True, timeout=60)
    paths = os.pathsep.join([str(TESTS), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, TESTS / "disk_faults.py", scratch],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["rounds"] > 200


def test_a_full_file_system(tmp_path: Path) -> None:
    """On a tmpfs of its own: learning stops with an error, serving goes on, and nothing is lost."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this process may not mount")
    try:
        engine = Engine.open(disk / "folder", checkpoint_bytes=0, **SETTINGS)

        def fill() -> None:
            while True:
                engine.learn_many(range(1000), range(1000))

        def fill_up() -> None:  # what fits is learned
            while True:
                engine.learn_one(1, 2)

        with pytest.raises(OSError, match="No space"):
            fill()
        engine.recommend(0)
        with pytest.raises(OSError, match="No space"):
            fill_up()
        events = engine.stats()["events"]
        assert events > 10_000
        with pytest.raises(OSError, match="No space"):
            engine.checkpoint()
        assert engine.stats()["events"] == events
        shutil.copytree(disk / "folder", tmp_path / "copy")
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        engine.learn_one(1, 2)
        engine.checkpoint()
        engine.close()
        with Engine.open(disk / "folder") as recovered:
            assert recovered.stats()["events"] == events + 1
        with Engine.open(tmp_path / "copy") as recovered:
            assert recovered.stats()["events"] == events
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_log_that_cannot_grow(tmp_path: Path) -> None:
    """What is reported as done is on the disk, and the engine can be saved elsewhere."""
    script = """
        import json, resource, signal, sys
        import numpy as np
        from recengine import Engine

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        folder, elsewhere = sys.argv[1:]
        options = dict(dim=16, objective="bpr", history=0, checkpoint_bytes=0)
        engine = Engine.open(folder, sync="always", **options)
        engine.learn_one(1, 1)
        told = []

        def fails(work):
            before = engine.stats()["durability"]["syncs"]
            try:
                work()
            except OSError as error:
                told.append((error.strerror, engine.stats()["durability"]["syncs"] - before))

        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, unlimited[1]))
        numbers = np.arange(400_000) % 1000
        fails(lambda: engine.learn_many(numbers, numbers))
        engine.remove_items([7])
        fails(lambda: engine.set_items(range(100_000), np.ones((100_000, 16))))
        while len(told) == 2:
            fails(lambda: engine.learn_one(1, 1))
        engine.save(elsewhere)
        found = dict(events=engine.stats()["events"], items=len(engine.items))
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        engine.close()
        with Engine.open(folder, **options) as again:
            same = again.stats()["events"] == found["events"] and len(again.items) == found["items"]
        saved = Engine.load(elsewhere)
        print(json.dumps(dict(told=told, **found, same=same, saved=len(saved.items), seven=7 in saved.items)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "folder"), str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    (events, synced), (rows, synced_rows), (single, _) = found["told"]
    learned = int(events.split()[0])
    assert "of 400000 events were learned; then: cannot write the log" in events
    assert events.count("File too large") == 1
    assert learned > 0
    assert (synced > 0, synced_rows > 0) == (True, True)
    assert "of 100000 rows were set; then: cannot write the log" in rows
    assert int(rows.split()[0]) > 0
    assert "cannot write the log" in single
    assert found["same"]
    assert (found["saved"], found["seven"]) == (found["items"], True)


# ---- processes that are killed

WRITER = """
    import os, sys, threading
    from recengine import Engine

    engine = Engine.open(sys.argv[1], dim=4, objective="bpr", history=0, checkpoint_bytes=30_000, sync="os")

    def learn(thread):
        known = engine.stats()["sources"].get(f"s{thread}", -1)
        os.write(1, f"{thread} {known}\\n".encode())
        while True:
            known += 1
            if known % 5:
                engine.learn_one(f"u{thread}", f"{thread} {known}", source=f"s{thread}", offset=known)
            else:
                engine.learn_many([f"u{thread}"] * 9, [f"{thread} {known + k}" for k in range(9)], source=f"s{thread}",
                                  offset=known)
                known += 8
            if known % 50 == 49:
                engine.remove_items(f"{thread} {known - 30}")
                os.write(1, f"{thread} removed {known - 30}\\n".encode())
            os.write(1, f"{thread} {known}\\n".encode())

    threads = [threading.Thread(target=learn, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    threads[0].join()
"""


def kill_rounds(rounds: int, folder: Path, seed: int) -> None:
    """A process that learns is killed, and again; what it said to be learned is there, of each thread a prefix."""
    chance = random.Random(seed)
    said = dict.fromkeys(range(3), -1)
    removed: set[str] = set()
    for _ in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), folder],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert process.stdout is not None
        heard = process.stdout.readline()  # it is under way
        time.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        output = heard + process.stdout.read()
        process.stdout.close()
        process.wait()
        for line in output.decode().split("\n")[:-1]:
            number, *rest = line.split()
            if rest[0] == "removed":
                removed.add(f"{number} {rest[1]}")
            else:
                said[int(number)] = max(said[int(number)], int(rest[0]))
        with Engine.open(folder, checkpoint_bytes=0) as engine:
            sources = engine.stats()["sources"]
            items = set(engine.items)
            assert engine.stats()["events"] == sum(last + 1 for last in sources.values())
            for thread in range(3):
                last = sources.get(f"s{thread}", -1)
                assert said[thread] <= last <= said[thread] + 9
                there = {int(item.split()[1]) for item in items if item.startswith(f"{thread} ")}
                assert max(there, default=-1) <= last
                missing = set(range(last + 1)) - there
                gone = {int(item.split()[1]) for item in removed if item.startswith(f"{thread} ")}
                assert gone <= missing
                assert len(missing - gone) <= 1  # removed, and killed before it said so
                removed |= {f"{thread} {item}" for item in missing}


def test_killed_processes_lose_nothing_acknowledged(scratch: Path) -> None:
    kill_rounds(6, scratch / "folder", seed=int(time.time()))


@pytest.mark.long
def test_killed_processes_lose_nothing_acknowledged_long(scratch: Path) -> None:
    for folder in range(20):  # each grows from round to round
        kill_rounds(25, scratch / str(folder), seed=folder)


# ---- living in a process


def in_child(engines: list[Engine], results: Any) -> None:
    """Changes are refused, queries answered, and the engine's end does not wait for threads that are not there."""
    engine = engines.pop()
    changes: list[Callable[[Engine], Any]] = [
        lambda it: it.learn_one("ann", "cup"),
        lambda it: it.learn_many(["ann"], ["cup"]),
        lambda it: it.set_items(["cup"], [[1.0, 1.0]]),
        lambda it: it.remove_items("tea"),
        lambda it: it.set_filter("f", ["tea"]),
        lambda it: it.save("/dev/null"),
        lambda it: it.fit(["ann"], ["tea"], method="ials"),
        lambda it: setattr(it, "learning_rate", 0.5),
    ]
    said = set()
    for change in changes:
        try:
            change(engine)
            said.add("changed")
        except RuntimeError as error:
            said.add("refused" if "parent" in str(error) else str(error))
    ids = engine.recommend("ann", k=1).ids.tolist()
    del engine
    engines.clear()
    results.put((said, ids))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("durable", [False, True])
def test_a_forked_child_may_ask_but_not_change(durable: bool, tmp_path: Path) -> None:
    def make(name: str) -> Engine:
        return Engine.open(tmp_path / name, dim=2) if durable else Engine(dim=2)

    engines = [make("large"), make("named")]  # the only references: the child's end with the list
    engines[0].set_items(range(5000), np.ones((5000, 2)))  # enough for the thread of upkeep
    engines[1].learn_many(["ann", "bob"], ["tea", "tea"])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_child, args=(engines, results))
    child.start()
    assert results.get(timeout=60) == ({"refused"}, ["tea"])
    child.join(60)
    assert child.exitcode == 0
    engines[1].learn_one("eve", "pen")  # the parent goes on
    if durable:
        engines[1].close()
        with Engine.open(tmp_path / "named") as recovered:
            assert sorted(recovered.items) == ["pen", "tea"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_keep_the_folder(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "folder", **SETTINGS)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        engine.close()
        Engine.open(tmp_path / "folder").close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

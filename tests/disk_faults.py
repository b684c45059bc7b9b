"""Run with faulty_disk.c preloaded: an engine with a folder on a disk that fails at every call in turn.

Prints a JSON list of what went wrong, and how many rounds there were. A round is a child process that carries out a
program and says over a pipe what was acknowledged; the parent then opens the folder.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from durable_programs import Operation, plain, run, state
from recengine import Engine

DISK = ctypes.CDLL(None)
DISK.fault_arm.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int)
DISK.fault_calls.restype = ctypes.c_long

SETTINGS: dict[str, Any] = {"dim": 2, "objective": "bpr", "history": 0, "maintenance": False}
PROGRAM: list[Operation] = [
    ("learn_one", 0, 0, 1.0, 5.0),
    ("learn_many", [(k % 7, k % 11, 1.0, 1.0) for k in range(60)], True, True),
    ("set_filter", "a", [0, 1, 2]),
    ("remove_items", [1]),
    ("checkpoint",),
    ("deliver", [(1, 2, 1.0, 1.0), (2, 3, 1.0, 1.0)], 10),
    ("set_items", [3, 40], 4),
    ("remove_users", [2]),
    ("learn_one", 3, 4, 1.0, None),
    ("checkpoint",),
    ("learn_one", 3, 40, 1.0, 9.0),
]


class Round:
    """One child and its folder."""

    def __init__(self, scratch: Path, number: int, mode: str, sync: Any) -> None:
        self.scratch, self.number, self.mode, self.sync = scratch, number, mode, sync
        self.disk = scratch / "disk"
        self.folder = self.disk / "new" / "folder"  # neither is there
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()
        self.notes = scratch / "notes"
        self.acknowledged = 0
        self.calls = 0

    def child(self, report: Callable[[str], Any]) -> None:
        with open(self.notes, "wb", buffering=0) as notes:
            DISK.fault_arm(os.fsencode(self.disk), self.number, ord(self.mode), notes.fileno())
            engine = self.again(lambda: Engine.open(self.folder, sync=self.sync, checkpoint_bytes=0, **SETTINGS))
            for operation in PROGRAM:
                self.again(partial(run, engine, operation, False, self.scratch), engine)
                report("done")
            self.again(engine.close)
            report(f"calls {DISK.fault_calls()}")
            DISK.fault_disarm()

    def again(self, attempt: Callable[[], Any], engine: Engine | None = None) -> Any:
        """What fails for want of space, once more when there is some."""
        try:
            return attempt()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EIO):
                raise
            if engine is None:
                DISK.fault_disarm()
                return attempt()
            before = state(engine, self.scratch)  # serving goes on, files can be written elsewhere
            try:
                attempt()  # the disk may still be full
            except OSError:
                assert state(engine, self.scratch) == before, "a failed call has changed the engine"
                DISK.fault_disarm()
                if engine.stats()["durability"]["log_error"] is not None:
                    engine.checkpoint()
                return attempt()

    def go(self) -> None:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            code = 1
            try:
                self.child(lambda line: os.write(writer, (line + "\n").encode()))
                code = 0
            except BaseException:
                os.write(writer, ("failed " + json.dumps(traceback.format_exc()) + "\n").encode())
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            lines = pipe.read().splitlines()
        _, status = os.waitpid(child, 0)
        for line in lines:
            if line.startswith("failed"):
                raise AssertionError(json.loads(line.removeprefix("failed ")))
        self.acknowledged = lines.count("done")
        self.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert self.killed or status == 0, f"the child ended with {status}"
        self.calls = next((int(line.split()[1]) for line in lines if line.startswith("calls")), 0)

    def cut_the_power(self) -> None:
        """Takes back what was not synced: bytes, and names in folders."""
        sizes: dict[str, int] = {}  # synced
        names: set[str] = set()  # below the disk
        durable: set[str] = set()
        for line in self.notes.read_text().splitlines():
            what, first, second, size = line.split("\t")
            if what == "make":
                names.add(first)
                sizes.pop(first, None)
            elif what == "sync":
                sizes[first] = int(size)
            elif what == "rename":
                names.discard(first)
                names.add(second)
                if first in sizes:
                    sizes[second] = sizes.pop(first)
            elif what == "folder":
                durable -= {name for name in durable if os.path.dirname(name) == first}
                durable |= {name for name in names if os.path.dirname(name) == first}
        for path in sorted(self.disk.rglob("*"), reverse=True):  # what is in a folder before the folder
            if path.is_dir():
                if str(path) not in durable:
                    shutil.rmtree(path)
            elif path.name == "lock":
                continue
            elif str(path) not in durable:
                path.unlink()
            else:
                os.truncate(path, min(sizes.get(str(path), 0), path.stat().st_size))

    def recovered(self) -> bytes:
        with Engine.open(self.folder, checkpoint_bytes=0, **SETTINGS) as engine:
            return state(engine, self.scratch)


def main(scratch: Path) -> None:
    states = [state(plain(SETTINGS, PROGRAM[:count], False, scratch), scratch) for count in range(len(PROGRAM) + 1)]
    failures: list[str] = []
    rounds = 0
    for mode, sync in [
        ("n", "os"),
        ("i", "os"),
        ("N", "os"),
        ("s", "os"),
        ("k", "os"),
        ("k", "always"),
        ("k", "power"),
    ]:
        number = 0
        while True:
            number += 1
            each = Round(scratch, number, mode, "interval" if sync == "power" else sync)
            rounds += 1
            try:
                each.go()
                if sync in ("always", "power"):
                    each.cut_the_power()
                recovered = each.recovered()
                found = states.index(recovered)  # always a prefix
                if mode != "k":
                    assert recovered == states[-1], f"only {found} operations were recovered"
                elif sync != "power":  # everything acknowledged, and perhaps what was under way
                    expected = states[each.acknowledged : each.acknowledged + 2]
                    assert recovered in expected, f"{found} operations were recovered, not {each.acknowledged}"
            except (AssertionError, ValueError, OSError) as error:
                failures.append(f"mode {mode} sync {sync} call {number}: {type(error).__name__}: {error}")
            if len(failures) > 5 or (not getattr(each, "killed", False) and 0 < each.calls < number):
                break
    print(json.dumps({"rounds": rounds, "failures": failures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

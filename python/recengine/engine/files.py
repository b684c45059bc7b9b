"""Files and folders that hold an engine."""

from __future__ import annotations

import operator
import os
from threading import Lock
from typing import Any, Literal, TypeVar

from recengine import _core
from recengine.engine.arguments import file_name, newest_snapshot
from recengine.engine.base import Base, shown_settings

EngineT = TypeVar("EngineT", bound="Files")


class Files(Base):
    """Saving, loading, and living in a folder."""

    __slots__ = ("_reloading",)

    _reloading: dict[int, Lock]  # of a mapped engine, by process: a forked child may find its parent's taken

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to one checksummed file: `load` gives an engine that goes on bit for bit as this one would.

        The file is a point in time: learning waits while it is written, queries go on. It is written beside `path`
        and moved there when it is complete and on disk. An engine with a folder can be saved when it is closed, and
        when its log cannot be written.

        Raises OSError if it cannot be written; `path` is then as it was.

        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "engine"
        ...     Engine.from_factors(["ann"], [[1.0]], ["tea"], [[0.5]]).save(path)
        ...     Engine.load(path).recommend("ann")
        Ranking(tea: 0.5)
        """
        self._core.save(file_name(path))

    @classmethod
    def load(cls: type[EngineT], path: str | os.PathLike[str], *, mmap: bool = False, verify: bool = False) -> EngineT:
        """The engine that `save` wrote; or, of the folder of another engine (`open`), its newest snapshot: a copy in
        memory, which does not follow what the other learns and leaves the folder alone.

        Parameters
        ----------
        path
            The file, or the folder. Other processes may write to the folder, and checkpoints replace the snapshot.
        mmap
            Use the file where it lies instead of reading it: the engine is there at once, whatever the file's size, and
            processes share its pages. It is read-only: all that would change it is a RuntimeError. `reload` goes on to
            a newer file. The file must be replaced (as `save` and checkpoints do), never written over.
        verify
            With `mmap`: check all of the file before returning, instead of its structure now and the rest in the
            background. Until that is done queries scan all items, which gives the same answers more slowly; if it
            finds damage, queries raise FormatError from then on. ``stats()["mapping"]`` says how far it is.

        Raises
        ------
        FormatError
            (a ValueError) if the file is not one of recengine's, cut short, or damaged; with `mmap` also if it is of
            format version 1.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     engine.save(pathlib.Path(folder) / "engine")
        ...     again = Engine.load(pathlib.Path(folder) / "engine")
        ...     mapped = Engine.load(pathlib.Path(folder) / "engine", mmap=True, verify=True)
        >>> again.recommend("ann", k=1), mapped.recommend("ann", k=1)
        (Ranking(cup: 2), Ranking(cup: 2))
        >>> mapped.learn_one("ann", "tea")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        RuntimeError: this engine is read-only, mapped from ...
        """
        engine = cls.__new__(cls)
        name = file_name(path)
        if mmap:
            engine._adopt(_core.Engine.load_mapped(name, bool(verify)))
            engine._reloading = {}
            return engine
        for attempt in range(10):
            try:
                engine._adopt(_core.Engine.load(newest_snapshot(name) if os.path.isdir(name) else name))
            except FileNotFoundError:
                if attempt == 9 or not os.path.isdir(name):
                    raise  # else a checkpoint has just replaced it
            else:
                break
        return engine

    def reload(self) -> bool:
        """Goes on to what has taken the place of a mapped engine's file (`load` with ``mmap=True``), or to the folder's
        newest snapshot. False if there is nothing newer.

        The new file is verified and prepared for retrieval first, which takes seconds for a million items; other
        threads query the old one meanwhile, and a query that has begun ends with it. `threads` and `maintenance` are
        kept; counters in `stats` are the new file's. Views of ids (`users`, `items`) that were taken before stay as
        they were.

        Raises ValueError for an engine that is not mapped, and what `load` raises for the new file: the engine then
        stays as it was.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Engine.open(folder, dim=16) as writer:
        ...     reader = Engine.load(folder, mmap=True)
        ...     writer.learn_one("ann", "tea")
        ...     before = "tea" in reader.items, reader.reload()
        ...     writer.checkpoint()
        ...     before, reader.reload(), "tea" in reader.items
        ((False, False), True, True)
        """
        if not self._core.mapped():
            raise ValueError("reload needs an engine that is mapped: Engine.load(path, mmap=True)")
        # One after another: an older file never takes the place of a newer one.
        with self._reloading.setdefault(os.getpid(), Lock()):
            fresh = self._core.reloaded()
            if fresh is not None:
                self._adopt(fresh)
        return fresh is not None

    @classmethod
    def open(
        cls: type[EngineT],
        folder: str | os.PathLike[str],
        *,
        sync: Literal["always", "interval", "os"] = "interval",
        checkpoint_bytes: int = 64 << 20,
        salvage: bool = False,
        **settings: Any,
    ) -> EngineT:
        """The engine that lives in a folder: every change is logged before the call returns, and the next `open` goes
        on where this one ended, however it ended. docs/durability.md has the promise.

        Parameters
        ----------
        folder
            Made if there is none. One process at a time may have it open.
        sync
            When the log reaches the disk, which is what a power cut leaves; a killed process loses nothing in any case.
            "always": before a call returns (threads share the wait). "interval": every second. "os": when the system
            thinks fit.
        checkpoint_bytes
            Once the log is this long, and as long as the last snapshot, a thread takes a `checkpoint`. 0: never.
        salvage
            Recover what comes before damage in the log, instead of raising: what comes after is deleted. Damage is also
            a record that is whole but says what this engine could not have done. Nothing is deleted where anything else
            raises.
        settings
            As for the constructor, if the folder is new. Otherwise those that are given must be those of the folder;
            `threads` and `maintenance` are set.

        Raises
        ------
        BlockingIOError
            (an OSError) if another process, or another engine of this one, has the folder open.
        ValueError
            For a setting that is not valid, or not that of the folder.
        FormatError
            (a ValueError) for a damaged snapshot, or a log with damage that is not at its end; it says which record is
            damaged, and what `salvage` would keep.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Engine.open(folder, dim=16) as engine:
        ...         engine.learn_one("ann", "tea")
        ...     with Engine.open(folder) as engine:
        ...         "ann" in engine.users, engine.settings["dim"]
        (True, 16)
        """
        fresh = cls(**{**settings, "maintenance": False})
        name = file_name(folder)
        bound = 2**63 - 1
        if not 0 <= operator.index(checkpoint_bytes) <= bound:
            raise ValueError(f"checkpoint_bytes must be between 0 and {bound}, not {checkpoint_bytes}")
        wanted = fresh.settings

        def accept(core: dict[str, Any]) -> None:
            stored = shown_settings(core)
            for key in settings.keys() - {"threads", "maintenance"}:
                if stored[key] != wanted[key]:
                    raise ValueError(f"{key} is {stored[key]!r} in {os.fsdecode(name)}, not {wanted[key]!r}")

        engine = cls.__new__(cls)
        engine._adopt(_core.Engine.open(name, fresh._core.settings(), sync, checkpoint_bytes, bool(salvage), accept))
        if settings.get("threads") is not None:
            engine.threads = settings["threads"]
        engine.maintenance = settings.get("maintenance", True)
        return engine

    def checkpoint(self) -> None:
        """Writes a snapshot to the folder; the log before it, and older snapshots, are deleted once it is on the disk.

        Learning waits while the state is copied, not while it is written; queries go on. Recovery is faster
        afterwards, and of what was removed there is no trace left in the folder. What could not be logged (a full disk)
        is made good.

        Raises ValueError for an engine without a folder, OSError if the snapshot cannot be written: everything is then
        as before.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Engine.open(folder, dim=16) as engine:
        ...     engine.learn_one("ann", "tea")
        ...     engine.checkpoint()
        ...     Engine.load(folder).recommend("ann").ids.tolist()
        ['tea']
        """
        self._core.checkpoint()

    def sync(self) -> None:
        """Returns once everything learned so far is on the disk. ValueError for an engine without a folder.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Engine.open(folder, dim=16, sync="os") as engine:
        ...     engine.learn_one("ann", "tea")
        ...     engine.sync()
        """
        self._with_folder("sync").sync()

    def close(self) -> None:
        """Syncs the log and gives the folder back; changing the engine is a ValueError from now on, queries are
        answered. ValueError for an engine without a folder. ``with Engine.open(...) as engine:`` closes at the end.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     engine = Engine.open(folder, dim=16)
        ...     engine.close()
        ...     engine.stats()["durability"]["closed"]
        True
        """
        self._with_folder("close").close()

    def __enter__(self: EngineT) -> EngineT:
        self._with_folder("with")
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _with_folder(self, what: str) -> _core.Engine:
        if not self._core.durable():
            raise ValueError(f"{what} needs an engine with a folder: Engine.open")
        return self._core

    def __reduce__(self) -> Any:
        raise TypeError(
            "an Engine cannot be pickled or copied: save() it and load() the file where it is needed, "
            "or open() its folder there"
        )

"""Engines with a folder: what is recovered is what an engine that never stopped would be, bit for bit."""

from __future__ import annotations

import copy
import pickle
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable_programs import LIMITED, SETTINGS, Operation, operations, plain, run, state
from recengine import Engine
from recengine.explore import Softmax

LOG, SNAPSHOT = "log-*", "snapshot-*"


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@given(
    options=st.sampled_from([*SETTINGS, LIMITED]),
    strings=st.booleans(),
    program=st.lists(operations, max_size=25),
    later=st.lists(operations, max_size=4),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_recovered_is_bit_identical_to_never_stopped(
    options: dict[str, Any], strings: bool, program: list[Operation], later: list[Operation]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        live = Engine.open(scratch / "live", checkpoint_bytes=0, maintenance=False, **options)
        for operation in program:
            run(live, operation, strings, scratch)
        shutil.copytree(scratch / "live", scratch / "crashed")  # what a killed process leaves
        live.close()
        with Engine.open(scratch / "crashed", checkpoint_bytes=0, maintenance=False) as recovered:
            assert recovered.stats()["durability"]["cut_bytes"] == 0
            for operation in later:
                run(recovered, operation, strings, scratch)
            expected = plain(options, program + later, strings, scratch)
            assert state(recovered, scratch) == state(expected, scratch)
            if len(expected.users) and len(expected.items):
                users = list(expected.users)
                one, other = recovered.recommend(users, k=20), expected.recommend(users, k=20)
                np.testing.assert_array_equal(one.ids, other.ids)
                np.testing.assert_array_equal(one.scores, other.scores)


def test_slots_that_a_save_has_freed_have_the_same_new_owners(tmp_path: Path) -> None:
    program: list[Operation] = [
        ("set_items", [0, 1, 2, 3], 1),
        ("remove_items", [1, 2]),
        ("save",),
        ("set_items", [7, 8, 9], -3),
        ("learn_many", [(k % 3, 7 + k % 3, 1.0, 1.0) for k in range(20)], True, False),
    ]
    live = Engine.open(tmp_path / "live", checkpoint_bytes=0, **SETTINGS[0])
    for operation in program:
        run(live, operation, False, tmp_path)
    live.close()
    with Engine.open(tmp_path / "live") as recovered:
        assert state(recovered, tmp_path) == state(plain(SETTINGS[0], program, False, tmp_path), tmp_path)


@given(
    options=st.sampled_from(SETTINGS),
    strings=st.booleans(),
    program=st.lists(operations, min_size=1, max_size=12),
    data=st.data(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_torn_log_gives_the_state_after_its_last_whole_record(
    options: dict[str, Any], strings: bool, program: list[Operation], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = scratch / "live"
        with Engine.open(folder, checkpoint_bytes=0, maintenance=False, **options) as live:
            after = [1]  # number of the next record, before and after each operation
            for operation in program:
                run(live, operation, strings, scratch)
                after.append(live.stats()["durability"]["next_record"])
        first = int(only(folder, LOG).name.removeprefix("log-"))
        log = only(folder, LOG)
        cut = data.draw(st.integers(0, log.stat().st_size))
        log.write_bytes(log.read_bytes()[:cut])
        with Engine.open(folder, checkpoint_bytes=0, maintenance=False) as recovered:
            number = recovered.stats()["durability"]["next_record"]
            assert first <= number <= after[-1]
            # A checkpoint may take a record of its own, of which nothing is seen but where slots become free.
            kept = max(k for k, at in enumerate(after) if at <= number)
            recovered_state = state(recovered, scratch)
        assert recovered_state == state(plain(options, program[:kept], strings, scratch), scratch)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_of_many_records(threads: int, tmp_path: Path) -> None:
    """What is recovered after learning on several threads is learned again, on one: the same events, each once."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, 500, 200_000), random.integers(0, 300, 200_000)
    options: dict[str, Any] = {"dim": 8, "objective": "bpr", "history": 0}
    with Engine.open(tmp_path / "folder", **options) as engine:
        engine.learn_many(users, items, timestamps=np.arange(200_000.0), threads=threads)
        engine.learn_many(users[::-1], items[::-1], threads=threads)
        assert engine.stats()["durability"]["next_record"] > 4
    with Engine.open(tmp_path / "folder") as engine:
        assert engine.stats()["events"] == 400_000
        if threads == 1:
            expected = Engine(**options)
            expected.learn_many(users, items, timestamps=np.arange(200_000.0))
            expected.learn_many(users[::-1], items[::-1])
            assert state(engine, tmp_path) == state(expected, tmp_path)


def test_fit_is_in_the_folder_when_it_returns(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pairs = random.integers(0, 30, 300), random.integers(0, 40, 300)
    for method in ("ials", "sgd", "softmax"):
        engine = Engine.open(tmp_path / method, dim=4, history=2)
        engine.learn_many(*pairs)
        engine.fit(*pairs, method=method, epochs=2, threads=1)
        shutil.copytree(tmp_path / method, tmp_path / "crashed")
        with Engine.open(tmp_path / "crashed") as recovered:
            assert state(recovered, tmp_path) == state(engine, tmp_path)
        shutil.rmtree(tmp_path / "crashed")
        engine.close()


def test_checkpoints_come_by_themselves_while_learning_and_serving_go_on(tmp_path: Path) -> None:
    stop = threading.Event()
    engine = Engine.open(tmp_path / "folder", dim=4, checkpoint_bytes=20_000)
    served: list[int] = []

    def serve() -> None:
        while not stop.is_set():
            served.append(len(engine.recommend(1, k=5).ids))

    server = threading.Thread(target=serve)
    server.start()
    learned = 0
    while engine.stats()["durability"]["checkpoints"] < 5:
        engine.learn_one(learned % 50, learned % 90, timestamp=float(learned))
        learned += 1
    stop.set()
    server.join()
    assert served
    figures = engine.stats()["durability"]
    assert figures["checkpoint_error"] is None
    engine.close()
    assert len(list((tmp_path / "folder").glob(SNAPSHOT))) == 1
    with Engine.open(tmp_path / "folder") as recovered:
        assert recovered.stats()["events"] == learned
        assert recovered.stats()["durability"]["recovered_records"] < learned
        expected = Engine(dim=4)
        for event in range(learned):
            expected.learn_one(event % 50, event % 90, timestamp=float(event))
        np.testing.assert_array_equal(recovered.factors().item_vectors, expected.factors().item_vectors)


def test_many_threads_and_checkpoints_lose_no_event(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "folder", dim=4, objective="bpr", history=0, checkpoint_bytes=0)
    each = 400

    def learn(thread: int) -> None:
        for event in range(each):
            if event % 50 == 0:
                engine.learn_many([f"{thread} {event} {k}" for k in range(9)], ["tea"] * 9)
            engine.learn_one(f"{thread} {event}", "tea", source=f"s{thread}", offset=event)
            if event % 40 == 7:
                engine.remove_users(f"{thread} {event}")

    threads = [threading.Thread(target=learn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        engine.checkpoint()
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    expected = set(engine.users)
    events = engine.stats()["events"]
    assert events == 3 * (each + 8 * 9)
    engine.close()
    with Engine.open(tmp_path / "folder") as recovered:
        assert set(recovered.users) == expected
        assert recovered.stats()["events"] == events
        assert recovered.stats()["sources"] == {f"s{thread}": each - 1 for thread in range(3)}


# ---- sources


def test_there_is_an_end_to_sources() -> None:
    engine = Engine(dim=1, history=0, objective="bpr", maintenance=False)
    most = 65_536
    for number in range(most):
        engine.learn_one(1, 2, source=f"s{number}", offset=1)
    with pytest.raises(ValueError, match="source 'one more' would be the 65537th"):
        engine.learn_one(1, 2, source="one more", offset=1)
    with pytest.raises(ValueError, match="source 'one more' would be the 65537th"):
        engine.learn_many([1], [2], source="one more", offset=1)
    engine.learn_one(1, 2, source="s7", offset=2)
    assert (len(engine.stats()["sources"]), engine.stats()["events"]) == (most, most + 1)


def test_what_a_source_delivers_again_is_skipped(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "folder", dim=4) as engine:
        engine.learn_one("ann", "tea", source="orders", offset=7)
        engine.learn_one("ann", "cup", source="orders", offset=7)
        engine.learn_many(["bob"] * 4, ["a", "b", "c", "d"], source="orders", offset=6)  # 6 and 7 are old
        engine.learn_many(["eve"] * 2, ["a", "b"], source="clicks", offset=np.array([-5, 90]))
        assert sorted(engine.items) == ["a", "b", "c", "d", "tea"]
        assert engine.stats()["events"] == 5
    engine = Engine.open(tmp_path / "folder")
    assert engine.stats()["sources"] == {"orders": 9, "clicks": 90}
    engine.learn_one("ann", "x", source="clicks", offset=90)
    engine.checkpoint()
    engine.close()
    with Engine.open(tmp_path / "folder") as engine:
        engine.learn_one("ann", "x", source="clicks", offset=90)
        assert engine.stats()["events"] == 5
    engine = Engine(dim=4)
    engine.learn_one("ann", "tea", source="orders", offset=7)
    engine.save(tmp_path / "saved")
    assert Engine.load(tmp_path / "saved").stats()["sources"] == {"orders": 7}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"source": "s"}, ValueError),
        ({"offset": 1}, ValueError),
        ({"source": 5, "offset": 1}, TypeError),
        ({"source": "s", "offset": 1.5}, TypeError),
        ({"source": "s" * 600, "offset": 1}, ValueError),
        ({"source": "s", "offset": [1, 1]}, ValueError),
        ({"source": "s", "offset": [1, 2, 3]}, ValueError),
        ({"source": "s", "offset": [True, False]}, TypeError),
        ({"source": "s", "offset": 2**63 - 2}, ValueError),
    ],
    ids=str,
)
def test_bad_offsets_change_nothing(arguments: dict[str, Any], error: type[Exception]) -> None:
    engine = Engine(dim=4)
    with pytest.raises(error):
        engine.learn_many(["ann", "bob"], ["tea", "cup"], **arguments)
    assert engine.stats()["events"] == 0
    assert engine.stats()["sources"] == {}


# ---- the folder


def test_one_engine_at_a_time(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "folder", dim=4), pytest.raises(BlockingIOError, match="another engine"):
        Engine.open(tmp_path / "folder")
    Engine.open(tmp_path / "folder").close()


def test_settings_that_contradict_the_folder_are_refused(tmp_path: Path) -> None:
    Engine.open(tmp_path / "folder", dim=4, seed=3, threads=1).close()
    with pytest.raises(ValueError, match=r"dim is 4 in .*, not 5"):
        Engine.open(tmp_path / "folder", dim=5)
    with pytest.raises(ValueError, match="objective"):
        Engine.open(tmp_path / "folder", dim=4, objective="bpr")
    with Engine.open(tmp_path / "folder", dim=4, seed=3, threads=2, maintenance=False) as engine:
        assert engine.threads == 2
        assert not engine.maintenance


@pytest.mark.parametrize("options", [{"sync": "never"}, {"checkpoint_bytes": -1}, {"dim": 0}], ids=str)
def test_bad_options_make_no_folder(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Engine.open(tmp_path / "folder", **options)
    assert not (tmp_path / "folder").exists()


def test_a_closed_engine_answers_but_does_not_change(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "folder", dim=4)
    engine.learn_one("ann", "tea")
    engine.close()
    engine.close()
    before = state(engine, tmp_path)
    changes: list[Any] = [
        lambda: engine.learn_one("bob", "cup"),
        lambda: engine.learn_many(["bob"], ["cup"]),
        lambda: engine.set_items(["cup"], [[1.0] * 4]),
        lambda: engine.remove_items("tea"),
        lambda: engine.set_filter("f", ["tea"]),
        lambda: setattr(engine, "learning_rate", 0.5),
        engine.checkpoint,
    ]
    for change in changes:
        with pytest.raises(ValueError, match="closed"):
            change()
    assert state(engine, tmp_path) == before
    assert engine.recommend("ann").ids.tolist() == ["tea"]


@pytest.mark.parametrize("options", SETTINGS)
def test_a_closed_engine_can_be_saved(options: dict[str, Any], tmp_path: Path) -> None:
    """What was removed is in no file, though it could not be logged that it is forgotten."""
    program: list[Operation] = [
        ("learn_many", [(k % 5, k % 9, 1.0, 1.0) for k in range(60)], True, False),
        ("set_groups", [1, 2, 3], 1),
        ("remove_items", [1, 4]),
        ("remove_users", [2]),
    ]
    engine = Engine.open(tmp_path / "folder", checkpoint_bytes=0, maintenance=False, **options)
    for operation in program:
        run(engine, operation, True, tmp_path)
    engine.close()
    assert state(engine, tmp_path) == state(plain(options, program, True, tmp_path), tmp_path)
    again = Engine.load(tmp_path / "state")
    assert "ítem 4" not in again.items
    assert "ítem 4".encode() not in (tmp_path / "state").read_bytes()
    for operation in program:
        run(again, operation, True, tmp_path)


def test_what_only_looks_like_a_snapshot_is_none(tmp_path: Path) -> None:
    with Engine.open(tmp_path, dim=4) as engine:
        engine.learn_one("ann", "tea")
        engine.checkpoint()
        for name in ("snapshot-backup", "snapshot-99999999999999999999.old", "snapshot-9"):
            (tmp_path / name).write_bytes(b"somebody's own")
        assert list(Engine.load(tmp_path).items) == ["tea"]
        assert list(Engine.load(tmp_path, mmap=True).items) == ["tea"]


def test_engines_without_a_folder_say_so() -> None:
    engine = Engine(dim=4)
    assert engine.stats()["durability"] is None
    for call in (engine.checkpoint, engine.sync, engine.close, engine.__enter__):
        with pytest.raises(ValueError, match=r"Engine\.open"):
            call()


def test_others_load_the_newest_snapshot(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Engine.load(tmp_path)
    with Engine.open(tmp_path / "folder", dim=4) as engine:
        engine.learn_one("ann", "tea")
        engine.checkpoint()
        engine.learn_one("bob", "cup")
        copies = [Engine.load(tmp_path / "folder") for _ in range(2)]
        copies[0].learn_one("eve", "pen")
        assert [sorted(each.items) for each in copies] == [["pen", "tea"], ["tea"]]
        assert copies[0].stats()["durability"] is None
    with Engine.open(tmp_path / "folder") as engine:
        assert sorted(engine.items) == ["cup", "tea"]


def test_pickling_and_copying_say_what_to_do_instead() -> None:
    engine = Engine(dim=4)
    engine.learn_many(["ann", "bob"], ["tea", "cup"])
    engine.set_filter("some", ["tea"])
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"save\(\) it and load\(\)"):
            attempt(engine)
        with pytest.raises(TypeError, match=r"a view of an engine's users cannot .* take a list"):
            attempt(engine.users)
    some, ranking = engine.filter("some"), engine.recommend("ann", explore=Softmax(0.1))
    with pytest.raises(TypeError, match=r"filter\('some'\) cannot be pickled: a filter is of one engine"):
        pickle.dumps(some)
    with pytest.raises(TypeError, match="a Ranking that a policy chose cannot be pickled"):
        pickle.dumps(ranking)
    for attempt in (copy.copy, copy.deepcopy):
        assert engine.recommend("ann", filter=attempt(some)).ids.tolist() == ["tea"]
        again = attempt(ranking)
        assert again.ids.tolist() == ranking.ids.tolist()
        assert engine.impression(again) > 0
    plain_ranking = engine.recommend("ann")
    assert pickle.loads(pickle.dumps(plain_ranking)).ids.tolist() == plain_ranking.ids.tolist()


@pytest.mark.parametrize("sync", ["always", "interval", "os"])
def test_sync_modes(sync: Any, tmp_path: Path) -> None:
    with Engine.open(tmp_path / "folder", sync=sync, dim=4) as engine:
        for event in range(10):
            engine.learn_one("ann", event)
        synced = engine.stats()["durability"]["syncs"]
        assert synced >= 10 if sync == "always" else synced <= 2
        if sync == "interval":
            deadline = time.monotonic() + 10
            while engine.stats()["durability"]["syncs"] == synced and time.monotonic() < deadline:
                time.sleep(0.05)
            assert engine.stats()["durability"]["syncs"] > synced
        engine.sync()


# ---- forgetting


def test_what_was_removed_leaves_no_trace_after_a_checkpoint(tmp_path: Path) -> None:
    secret_user, secret_item, secret_label, old_label = secrets = "user-7f3a", "item-9c1d", "label-51e0", "label-88b2"

    def traces() -> set[str]:
        files = [path.read_bytes() for path in (tmp_path / "folder").iterdir()]
        return {word for word in secrets if any(word.encode() in file for file in files)}

    with Engine.open(tmp_path / "folder", dim=4, item_features=["price"], checkpoint_bytes=0) as engine:
        for event in range(30):
            engine.learn_one(secret_user if event % 3 else f"u{event}", secret_item if event % 2 else f"i{event}")
        engine.set_filter("f", [secret_item, "i0"])
        engine.set_groups([secret_item, "i0"], [secret_label, old_label])
        engine.set_groups(["i0"], ["h"])
        engine.set_item_features([secret_item], [[1.0]])
        engine.checkpoint()
        engine.learn_one(secret_user, secret_item)
        assert traces() == {secret_user, secret_item, secret_label}  # of a label that nothing has, none at all
        engine.remove_users(secret_user)
        engine.remove_items(secret_item)
        engine.learn_one("u0", "i0")
        engine.checkpoint()
        assert traces() == set()
        engine.save(tmp_path / "folder" / "saved")
        assert traces() == set()

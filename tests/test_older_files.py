"""A small file and folder of each format, written by the code of its time, with the answers that it gave then.

`version-1-first` is the first there was; `version-1-last` has all that came before version 2: halves, sessions, a
ranker, neighbors, filters, groups. The folder `log-1` has a snapshot of version 2 and a log with records of every kind;
what it recommends was written anew when the ranker's lessons changed.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine, FormatError, Ranking

DATA = Path(__file__).parent / "data"
FOLDER = DATA / "engines"
NAMES = sorted(path.stem for path in FOLDER.glob("*.gz"))
MAPPABLE = [name for name in NAMES if name >= "version-4"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


def unpacked(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.gz").read_bytes()))
    return path


def check_answers(engine: Engine, name: str, folder: Path = FOLDER, tolerance: float = 1e-5) -> None:
    expected = json.loads((folder / f"{name}.json").read_text())
    assert sorted(engine.users) == expected["users"]
    assert sorted(engine.items) == expected["items"]
    for figure in ("events", "latest_timestamp"):
        assert engine.stats()[figure] == expected[figure]
    assert (engine.settings["dim"], engine.settings["history"]) == (expected["dim"], expected["history"])

    def user(n: int) -> Any:
        return n if isinstance(expected["users"][0], int) else f"user {n}"

    def item(n: int) -> Any:
        return -n if isinstance(expected["items"][0], int) else f"ítem {n}"

    answers: dict[str, Ranking] = {
        "user": engine.recommend(user(1), k=8),
        "unseen": engine.recommend(user(2), k=8, exclude_seen=True),
        "session": engine.recommend(history=[item(1), item(2)], k=8),
        "nobody": engine.recommend(history=[], k=8),
        "similar": engine.similar_items(item(2), k=5),
    }
    if "few" in expected:
        answers["behaviour"] = engine.similar_items(item(2), k=5, by="behaviour")
        answers["few"] = engine.recommend(user(1), k=8, filter=engine.filter("few"))
        answers["group"] = engine.recommend(user(1), k=8, filter=engine.group("a", "b"))
    for question, answer in answers.items():
        ids, scores = expected[question]
        assert answer.ids.tolist() == ids, question
        np.testing.assert_allclose(answer.scores, scores, rtol=tolerance, atol=tolerance / 10, err_msg=question)


def test_there_is_a_file_of_each_version() -> None:
    assert {name.split("-")[1] for name in NAMES} == {"1", "2", "3", "4"}


def test_an_older_file_answers_as_it_did(name: str, tmp_path: Path) -> None:
    engine = Engine.load(unpacked(name, tmp_path))
    check_answers(engine, name)
    engine.save(tmp_path / "again")  # in today's format
    check_answers(Engine.load(tmp_path / "again"), name)
    check_answers(Engine.load(tmp_path / "again", mmap=True, verify=True), name)
    engine.learn_many(list(engine.users)[:5] * 40, list(engine.items)[:10] * 20)
    assert np.isfinite(engine.factors().item_vectors).all()


@pytest.mark.parametrize("mappable", MAPPABLE)
def test_a_file_that_can_be_mapped_answers_as_it_did(mappable: str, tmp_path: Path) -> None:
    check_answers(Engine.load(unpacked(mappable, tmp_path), mmap=True), mappable)


@pytest.mark.parametrize("old", [name for name in NAMES if name < "version-4"])
def test_older_versions_are_not_mapped(old: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"format version {old.split('-')[1]}, which can only be loaded"):
        Engine.load(unpacked(old, tmp_path), mmap=True)


def test_an_older_folder_is_recovered_as_it_was(tmp_path: Path) -> None:
    """Its log is learned from again, by the instructions of this machine: nearly the same rows."""
    with tarfile.open(DATA / "folders" / "log-1.tar.gz") as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            (tmp_path / member.name).write_bytes(content.read())
    expected = json.loads((DATA / "folders" / "log-1.json").read_text())
    for records in (expected["records"], 0):
        with Engine.open(tmp_path) as engine:
            assert engine.stats()["durability"]["recovered_records"] == records
            check_answers(engine, "log-1", DATA / "folders", tolerance=1e-4)
            assert engine.stats()["sources"] == expected["sources"]
            shown = [[row.number, [str(item) for item in row.items]] for row in engine.impressions()]
            assert shown == expected["impressions"]
            assert engine.feedback_settings.capacity == 50
            engine.checkpoint()  # in today's format

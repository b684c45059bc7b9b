"""The package as its users meet it: types, documentation, the command, and what an import costs."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

import recengine
from recengine import Engine

PACKAGE = Path(recengine.__file__).parent
# Settings, and what the example of Engine.load shows.
WITHOUT_EXAMPLE = {"Engine.learning_rate", "Engine.threads", "Engine.save", "FormatError"}


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def public_objects() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in recengine.__all__:
        if name.startswith("_"):
            continue
        found[name] = value = getattr(recengine, name)
        if inspect.isclass(value):
            for part in inspect.getmro(value):
                if part.__module__.startswith("recengine"):
                    found |= {f"{name}.{key}": member for key, member in vars(part).items() if not key.startswith("_")}
    return {name: value for name, value in found.items() if not inspect.ismemberdescriptor(value)}


def test_everything_public_is_documented() -> None:
    objects = public_objects()
    assert {"Engine", "Ranking", "info", "Engine.recommend", "Engine.load", "Engine.settings"} <= set(objects)
    undocumented = [name for name, value in objects.items() if not inspect.getdoc(value)]
    assert undocumented == []


def test_every_public_call_shows_an_example() -> None:
    without = {name for name, value in public_objects().items() if ">>>" not in (inspect.getdoc(value) or "")}
    assert without <= WITHOUT_EXAMPLE


def test_names_listed_as_public_exist() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "recengine."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        listed = getattr(loaded, "__all__", [])
        assert len(set(listed)) == len(listed)
        assert [name for name in listed if not hasattr(loaded, name)] == [], module.name


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()
    assert inspect.signature(Engine.recommend).return_annotation == "Ranking"


def test_stubs_match_the_extension() -> None:
    pytest.importorskip("mypy")
    source = {} if PACKAGE.parent.name == "site-packages" else {"MYPYPATH": str(PACKAGE.parent)}
    result = python("-m", "mypy.stubtest", "recengine._core", **source)
    assert result.returncode == 0, result.stdout + result.stderr


def test_version() -> None:
    try:
        expected = version("recengine")
    except PackageNotFoundError:
        expected = "0+source"
    assert recengine.__version__ == expected
    assert recengine.info()["version"] == expected


def test_importing_is_quiet_and_light() -> None:
    """Extras are imported when they are used; numpy is all that the engine itself needs."""
    extras = ("pyarrow", "pandas", "polars", "sklearn", "scipy", "ranx", "typer", "click", "rich", "matplotlib", "tqdm")
    script = f"import sys, recengine; print([name for name in {extras} if name in sys.modules])"
    result = python("-W", "error", "-c", script)
    assert (result.stdout, result.stderr, result.returncode) == ("[]\n", "", 0)


def test_the_module_runs_as_a_command() -> None:
    pytest.importorskip("typer")
    pytest.importorskip("rich")
    result = python("-m", "recengine", "info")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert recengine.__version__ in result.stdout
    assert recengine.info()["kernels"] in result.stdout


def test_information() -> None:
    figures = recengine.info()
    assert figures["kernels"] in figures["kernels_available"]
    assert "baseline" in figures["kernels_available"]
    assert figures["threads"] >= 1
    assert figures["kernels"] == Engine(dim=2).stats()["kernels"]

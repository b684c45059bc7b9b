"""Runs the examples of every public docstring of the installed package."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import recengine

MODULES = ["recengine"] + [
    module.name
    for module in pkgutil.walk_packages(recengine.__path__, "recengine.")
    if not module.name.endswith(("__main__", "._core"))
]

NAMES = {"Engine": recengine.Engine, "np": np}  # which the files of parts of Engine need not import for themselves


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs=NAMES, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0

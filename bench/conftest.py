"""Options, data and the table of figures of the benchmarks.

    pip install ".[bench]"
    RECENGINE_DATA=DIR pytest bench         # everything; without RECENGINE_DATA only the synthetic data
    pytest bench --million                  # with graphs over a million rows, which take minutes to build
    pytest bench --small                    # a smoke test of the benchmarks themselves; its figures mean nothing

No benchmark asserts a time. Those with a bar say in the table at the end whether it was met.
"""

from __future__ import annotations

import os
from pathlib import Path

# Threads are what is compared here: a peer's BLAS may not bring its own. It reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from bench import figures
from bench import pairs as data
from bench.catalogues import Catalogues
from pytest_benchmark.fixture import BenchmarkFixture

TABLE = pytest.StashKey[list[figures.Figure]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--small", action="store_true", help="tiny data and few rounds: only checks that it all runs")
    parser.addoption("--million", action="store_true", help="with graphs over a million rows: minutes of building")


def data_folder() -> Path | None:
    """Where Gowalla's pairs are, if they are there."""
    folder = os.environ.get("RECENGINE_DATA")
    return Path(folder) if folder and Path(folder, "gowalla_train.parquet").is_file() else None


def pytest_report_header(config: pytest.Config) -> str:
    made = data_folder() is None or config.getoption("--small")
    return f"factors: {'made' if made else 'of models trained on Gowalla'}"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


@pytest.fixture(scope="session")
def small(request: pytest.FixtureRequest) -> bool:
    """Whether to run at the scale of a smoke test."""
    return bool(request.config.getoption("--small"))


@pytest.fixture(scope="session")
def rounds(small: bool) -> int:
    """How many times each side has its turn."""
    return 2 if small else 15


@pytest.fixture(scope="session")
def synthetic(small: bool) -> data.Pairs:
    """Made pairs, as many and as skewed as Gowalla's."""
    return data.synthetic(0.01 if small else 1.0)


@pytest.fixture(scope="session", params=["synthetic", "gowalla"])
def pairs(request: pytest.FixtureRequest, small: bool) -> data.Pairs:
    """The pairs to learn from, made and real; the real ones are skipped where RECENGINE_DATA does not hold them."""
    if request.param == "synthetic":
        made: data.Pairs = request.getfixturevalue("synthetic")
        return made
    folder = data_folder()
    if folder is None:
        pytest.skip("set RECENGINE_DATA to a folder that holds gowalla_train.parquet")
    return data.gowalla(folder, 0.01 if small else 1.0)


@pytest.fixture(scope="session")
def catalogues(small: bool) -> Catalogues:
    """Factors of models and what is built over them; made factors where RECENGINE_DATA holds no data."""
    return Catalogues(data_folder(), small)


@pytest.fixture
def report(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> figures.Report:
    return figures.Report(request.node.name, benchmark.extra_info, request.config.stash[TABLE])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if table := config.stash[TABLE]:
        terminalreporter.section("figures" + " (--small: they mean nothing)" * config.getoption("--small"))
        for line in figures.lines(table):
            terminalreporter.write_line(line)

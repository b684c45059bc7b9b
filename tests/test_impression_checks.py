"""Logs that no engine could have written are refused, naming the impression and the field."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recengine import Engine, ImpressionLog, ope
from recengine.explore import Random, Softmax

INF = math.inf


def logged(k: int = 2) -> list[Any]:
    engine = Engine.from_factors(["ann"], [[1.0]], ["a", "b", "c", "d"], [[3.0], [2.0], [1.0], [0.0]])
    for seed in range(5):
        ranking = engine.recommend("ann", k=k, explore=Random(), seed=seed)
        engine.feedback(engine.impression(ranking), ranking.ids[0], 1.0, learn=False)
    return list(engine.impressions())


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"rewards": np.array([INF, 0.0], np.float32)}, ValueError, "rewards must hold finite.*not inf"),
        ({"rewards": np.array([1.0], np.float32)}, ValueError, "rewards must be 2, one for each of slate, not 1"),
        ({"slate": np.array([-1, 0])}, ValueError, "slate must hold places below 4, not -1"),
        ({"slate": np.array([0, 7])}, ValueError, "slate must hold places below 4, not 7"),
        ({"slate": np.array([1, 1])}, ValueError, r"slate must hold different places, \[1, 1\], not 1"),
        ({"slate": np.array([0.5, 1.0])}, TypeError, "slate must hold ints, not float64"),
        ({"slate": [0, 1]}, TypeError, "slate must be an array of one dimension"),
        ({"slate": np.array([0])}, ValueError, "log_propensities must be 1, one for each of slate, not 2"),
        ({"scores": np.array([3, 2, 1, math.nan], np.float32)}, ValueError, "scores must hold finite.*not nan"),
        ({"scores": np.zeros(3, np.float32)}, ValueError, "scores must be 4, one for each of candidates, not 3"),
        ({"log_propensities": np.array([0.5, 0.0])}, ValueError, "log_propensities must hold log.*not 0.5"),
        ({"log_propensity_errors": np.array([-1.0, 0.0])}, ValueError, "log_propensity_errors must hold.*-1"),
        ({"groups": np.array([1, 2])}, ValueError, "groups must be 4, one for each of candidates, not 2"),
        ({"groups": np.array([1, 2, -3, 0])}, ValueError, "groups must hold numbers of at least 0, not -3"),
        ({"context": np.array([INF], np.float32)}, ValueError, "context must hold finite numbers, not inf"),
        ({"time": INF}, ValueError, "time must be finite, not inf"),
        ({"parameter": math.nan}, ValueError, "parameter must be finite, not nan"),
        ({"policy": 3}, TypeError, "policy must be a str, not 3"),
        ({"samples": 1.5}, TypeError, "samples must be an int, not 1.5"),
        ({"time": "noon"}, TypeError, "time must be a number, not 'noon'"),
    ],
)
def test_what_no_engine_logs_is_refused(changes: dict[str, Any], error: type[Exception], told: str) -> None:
    rows = logged()
    rows[3] = replace(rows[3], **changes)
    log = ImpressionLog(rows)
    for refused in (log.check, lambda: ope.compare(log, {"soft": Softmax(1.0)})):
        with pytest.raises(error, match=f"impression 4: {told}"):
            refused()


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("rewards", [INF, 0.0], ValueError),
        ("rewards", [1e300, 0.0], ValueError),  # more than float32 holds
        ("rewards", ["x", "y"], TypeError),
        ("slate", [0, 7], ValueError),
        ("slate", [0.5, 1.0], TypeError),
        ("scores", [1.0, None, 0.0, 0.0], ValueError),
        ("log_propensities", [0.1, 0.0], ValueError),
        ("samples", 0.5, TypeError),
    ],
)
def test_tables_are_checked_too(column: str, value: Any, error: type[Exception]) -> None:
    pa = pytest.importorskip("pyarrow")
    table = ImpressionLog(logged()).to_arrow()
    values = table[column].to_pylist()
    values = [value] * len(values)
    wrong = table.set_column(table.column_names.index(column), column, pa.array(values))
    with pytest.raises(error, match=f"impression 1: {column} must"):
        ImpressionLog.from_arrow(wrong)


def test_good_logs_pass_in_pieces() -> None:
    rows = logged()
    many = ImpressionLog([replace(rows[n % 5], number=n) for n in range(9_000)])
    many.check()
    bad = [replace(rows[n % 5], number=n) for n in range(9_000)]
    bad[8_999] = replace(bad[8_999], slate=np.array([0, 4]))
    with pytest.raises(ValueError, match="impression 8999: slate"):
        ImpressionLog(bad).check()
    with pytest.raises(ValueError, match=r"impression 2 was chosen by 'random' .*no propensities"):
        ope.compare(ImpressionLog([rows[0], replace(rows[1], log_propensities=np.full(2, math.nan))]), {"a": Random()})

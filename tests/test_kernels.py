"""The kernels of every instruction set of the machine, through the compiled module, against numpy in float64."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import recengine
from recengine import Cells, Engine, Flat, Ranking, _core

Floats = NDArray[np.float32]
UNIT_ROUNDOFF = 2.0**-24
DIMENSIONS = st.integers(1, 1024)
SEEDS = st.integers(0, 2**32 - 1)


def gamma(terms: int) -> float:
    """Bound on the relative error of a sum of `terms` rounded terms in any order (Higham 2002, 3.1)."""
    return terms * UNIT_ROUNDOFF / (1 - terms * UNIT_ROUNDOFF)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.fixture(autouse=True)
def automatic_choice() -> Iterator[None]:
    yield
    _core.select_kernels("")


every_kernel = pytest.mark.parametrize("name", _core.available_kernels())


@every_kernel
@given(dim=DIMENSIONS, num_queries=st.integers(0, 9), count=st.integers(0, 33), with_bias=st.booleans(), seed=SEEDS)
def test_scan(name: str, dim: int, num_queries: int, count: int, with_bias: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, rows = normal(rng, num_queries, dim), normal(rng, count, dim)
    bias = normal(rng, count) if with_bias else None
    _core.select_kernels(name)

    scores = _core.kernel_scan(queries, rows, bias)

    wide_queries, wide_rows = queries.astype(np.float64), rows.astype(np.float64)
    wide_bias = np.zeros(count) if bias is None else bias.astype(np.float64)
    magnitudes = np.abs(wide_queries) @ np.abs(wide_rows).T + np.abs(wide_bias)
    assert scores.dtype == np.float32
    assert scores.shape == (num_queries, count)
    assert np.all(np.abs(scores - (wide_queries @ wide_rows.T + wide_bias)) <= gamma(dim + 17) * magnitudes)


@every_kernel
@given(dim=DIMENSIONS, num_queries=st.integers(2, 9), count=st.integers(1, 33), seed=SEEDS)
def test_scan_of_many_equals_scans_of_one(name: str, dim: int, num_queries: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, rows, bias = normal(rng, num_queries, dim), normal(rng, count, dim), normal(rng, count)
    _core.select_kernels(name)
    together = _core.kernel_scan(queries, rows, bias)
    alone = np.concatenate([_core.kernel_scan(query[None], rows, bias) for query in queries])
    np.testing.assert_array_equal(together, alone)


def expected_step(
    row: Floats, x: Floats, slope: float, rate: float, l2: float, clip: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The row after the step, and by how much float32 may miss it."""
    wide_row = row.astype(np.float64)
    of_x, of_row = rate * slope * x.astype(np.float64), rate * l2 * wide_row
    expected = wide_row - np.clip(of_x + of_row, -clip, clip)
    tolerance = gamma(4) * (np.abs(of_x) + np.abs(of_row)) + 2 * UNIT_ROUNDOFF * np.abs(expected)
    return expected, tolerance + np.finfo(np.float32).tiny


@every_kernel
@given(
    dim=DIMENSIONS,
    slope=st.floats(-2, 2, width=32),
    rate=st.floats(0, 1, width=32),
    l2=st.sampled_from([0.0, 0.0078125, 0.5]),
    clip=st.sampled_from([0.03125, 0.5, 1024.0]),
    seed=SEEDS,
)
def test_steps(name: str, dim: int, slope: float, rate: float, l2: float, clip: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, x = normal(rng, dim), normal(rng, dim)
    before = row.copy()
    _core.select_kernels(name)

    (stepped,), gradient, (distance,) = _core.kernel_step_rows(row[None], x, [slope], [rate], rate * l2, clip)

    expected, tolerance = expected_step(before, x, slope, rate, l2, clip)
    assert np.all(np.abs(stepped - expected) <= tolerance)
    moved = float(np.linalg.norm(stepped.astype(np.float64) - before))
    assert moved <= distance <= moved * (1 + 3 * gamma(dim + 128)) + 1e-15
    wide_gradient = slope * before.astype(np.float64)
    assert np.all(np.abs(gradient - wide_gradient) <= UNIT_ROUNDOFF * np.abs(wide_gradient) + np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(row, before)


@every_kernel
@given(
    dim=DIMENSIONS,
    hostile=st.lists(st.floats(width=32), min_size=1, max_size=8),
    slope=st.floats(width=32),
    rate=st.floats(width=32),
    l2=st.floats(width=32),
    clip=st.floats(0, 1024, width=32),
    seed=SEEDS,
)
def test_rows_stay_finite(
    name: str, dim: int, hostile: list[float], slope: float, rate: float, l2: float, clip: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    row, x = normal(rng, dim), normal(rng, dim)
    x[rng.integers(0, dim, len(hostile))] = hostile
    _core.select_kernels(name)
    with np.errstate(all="ignore"):
        decay = np.float32(rate) * np.float32(l2)
    (after,), _, _ = _core.kernel_step_rows(row[None], x, [slope], [rate], float(decay), clip)
    assert np.all(np.isfinite(after))
    moved = np.abs(after.astype(np.float64) - row)
    assert np.all(moved <= clip + UNIT_ROUNDOFF * np.abs(after.astype(np.float64)))


@every_kernel
@given(count=st.integers(1, 40), dim=st.sampled_from([1, 7, 16, 64, 80, 200]), seed=SEEDS)
def test_many_steps_are_one_after_the_other(name: str, count: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, x, slopes, rates = normal(rng, count, dim), normal(rng, dim), normal(rng, count), np.abs(normal(rng, count))
    _core.select_kernels(name)
    together, gradient, distances = _core.kernel_step_rows(rows, x, slopes, rates, 0.01, 0.5)
    for j in range(count):
        (alone,), _, (distance,) = _core.kernel_step_rows(rows[j, None], x, slopes[j, None], rates[j, None], 0.01, 0.5)
        np.testing.assert_array_equal(together[j], alone)
        assert distances[j] == distance
    terms = slopes[:, None].astype(np.float64) * rows
    assert np.all(np.abs(gradient - terms.sum(0)) <= gamma(count + 1) * np.abs(terms).sum(0))


@every_kernel
@given(count=st.integers(1, 200), spread=st.floats(0.1, 40.0), seed=SEEDS)
def test_softmax_slopes(name: str, count: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, weights = np.float32(spread) * normal(rng, count), np.abs(normal(rng, count)) + np.float32(0.01)
    _core.select_kernels(name)
    slopes = _core.kernel_softmax_slopes(scores, weights)
    terms = weights * np.exp(np.maximum(scores.astype(np.float64) - scores.max(), -87.0))
    np.testing.assert_allclose(slopes, terms / terms.sum(), rtol=2e-5, atol=1e-37)
    scores[count // 2] = rng.choice([np.inf, -np.inf, np.nan])  # says nothing about a direction
    assert np.all(np.isnan(_core.kernel_softmax_slopes(scores, weights)))


def test_selection() -> None:
    names = _core.available_kernels()
    assert names
    assert set(names) <= {"avx512vnni", "avx512", "avx2", "baseline", "neon"}
    for name in names:
        _core.select_kernels(name)
        assert _core.active_kernels() == name
    with pytest.raises(ValueError, match=f"'nonsense'.*{', '.join(names)}"):
        _core.select_kernels("nonsense")
    assert _core.active_kernels() == names[-1]


def in_new_process(kernels: str, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RECENGINE_KERNELS": kernels, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@every_kernel
def test_environment_forces_kernels(name: str) -> None:
    result = in_new_process(name, "import recengine; print(recengine.info()['kernels'])")
    assert result.stdout.strip() == name, result.stderr


def test_unknown_kernels_in_environment() -> None:
    names = ", ".join(recengine.info()["kernels_available"])
    result = in_new_process("nonsense", "import recengine; recengine.Engine()")
    assert result.returncode != 0
    assert f"ValueError: RECENGINE_KERNELS: no kernels named 'nonsense' on this machine; valid names: {names}" in (
        result.stderr
    )


@given(
    count=st.sampled_from([1, 70, 2500, 5000]),
    dim=st.integers(1, 70),
    storage=st.sampled_from(["fp32", "fp16"]),
    exact=st.booleans(),
    seed=SEEDS,
)
@settings(max_examples=12, deadline=None)
def test_instruction_sets_agree(count: int, dim: int, storage: Literal["fp32", "fp16"], exact: bool, seed: int) -> None:
    """Each against each other on random tables: whole numbers, whose products are exact, rank and score alike to the
    bit, by every way; others, and what is learned, to within rounding.
    """
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (count, dim)).astype(np.float32) if exact else normal(rng, count, dim)
    users = rng.integers(-3, 4, (20, dim)).astype(np.float32) if exact else normal(rng, 20, dim)
    answers: list[tuple[list[Ranking], list[Floats]]] = []
    for name in _core.available_kernels():
        _core.select_kernels(name)
        engine = Engine.from_factors(
            range(20), users, range(count), rows, storage=storage, objective="softmax", negatives=4, maintenance=False
        )
        engine.maintain()
        ways: list[Any] = ["auto", Flat(), Flat(codes=False), Cells()]
        rankings = [engine.recommend(1, k=30, retrieval=way) for way in ways]
        rankings += [engine.recommend(list(range(20)), k=5), engine.search(users[0], k=10)]
        cosines = [engine.similar_items(0, k=10).scores, engine.search(users[1], k=9, metric="cosine").scores]
        engine.learn_many(rng_events := np.arange(40) % 20, rng_events * 7 % count)
        answers.append((rankings, [*cosines, engine.factors().item_vectors, engine.factors().user_vectors]))
    for (one, near), (other, also_near) in itertools.combinations(answers, 2):
        for ranking, same in zip(one, other, strict=True):
            if exact:
                np.testing.assert_array_equal(ranking.ids, same.ids)
                np.testing.assert_array_equal(ranking.scores, same.scores)
            else:
                np.testing.assert_allclose(ranking.scores, same.scores, rtol=1e-4, atol=1e-4)
        for values, others in zip(near, also_near, strict=True):
            np.testing.assert_allclose(values, others, rtol=1e-2 if storage == "fp16" else 1e-3, atol=2e-3)

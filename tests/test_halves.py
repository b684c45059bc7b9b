"""Rows of halves (fp16): conversions against numpy's float16, and an engine over them against one over floats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recengine import Engine, _core

Floats = NDArray[np.float32]
Bits = NDArray[np.uint16]
MAX_HALF = 65504.0
EVERY_HALF = np.arange(2**16, dtype=np.uint32).astype(np.uint16)


@pytest.fixture(autouse=True)
def automatic_choice() -> Iterator[None]:
    yield
    _core.select_kernels("")


every_kernel = pytest.mark.parametrize("name", _core.available_kernels())


def rounded(values: Floats) -> Floats:
    """The nearest halves, as floats; beyond the largest that one."""
    return np.clip(values, -MAX_HALF, MAX_HALF).astype(np.float16).astype(np.float32)


# ---- conversions


@every_kernel
def test_every_half_becomes_its_float(name: str) -> None:
    _core.select_kernels(name)
    expected = EVERY_HALF.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(_core.kernel_from_halves(EVERY_HALF), expected)  # NaNs count as equal
    zeros = np.array([0, 0x8000], dtype=np.uint16)
    assert np.signbit(_core.kernel_from_halves(zeros)).tolist() == [False, True]


@every_kernel
def test_every_half_stays_itself(name: str) -> None:
    _core.select_kernels(name)
    finite = EVERY_HALF[np.isfinite(EVERY_HALF.view(np.float16))]
    values = finite.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(_core.kernel_to_halves(values, None), finite)
    for key in (0, 1, 2**32 - 1):
        np.testing.assert_array_equal(_core.kernel_to_halves(values, key), finite)


def around_every_half() -> Floats:
    """Every half, the middle between it and the next, and the floats beside both."""
    positive = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = positive[:-1] + np.diff(positive) / 2
    exact = np.concatenate(
        [positive, middles, np.array([1e-30, 1e-45, 65519, 65520, 70000, 1e15, np.inf], dtype=np.float32)]
    )
    near = [np.nextafter(exact, np.float32(toward)) for toward in (-np.inf, np.inf)]
    values = np.concatenate([exact, *near]).astype(np.float32)
    return np.concatenate([values, -values])


@every_kernel
def test_rounding_goes_to_the_nearest_even_half_and_saturates(name: str) -> None:
    _core.select_kernels(name)
    values = around_every_half()
    expected = np.clip(values, -MAX_HALF, MAX_HALF).astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(_core.kernel_to_halves(values, None), expected)


def reference_at_random(values: Floats, key: int) -> Floats:
    """Stochastic rounding in exact arithmetic: down to the grid, up if the draw is within what that took."""
    counters = (np.uint64(key) + np.arange(len(values), dtype=np.uint64)) % np.uint64(2**32)
    draws = counters.astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        draws = (draws ^ (draws >> np.uint32(shift))) * np.uint32(factor)
    draws = draws ^ (draws >> np.uint32(16))
    magnitudes = np.minimum(np.abs(values.astype(np.float64)), MAX_HALF)
    exponents = np.floor(np.log2(np.maximum(magnitudes, 2.0**-14)))
    steps = 2.0 ** (exponents - 10)
    whole = np.floor(magnitudes / steps + (draws >> np.uint32(19)) * 2.0**-13)
    return np.copysign(whole * steps, values).astype(np.float32)


@every_kernel
@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=70),
    scale=st.sampled_from([1.0, 2.0**-14, 2.0**-24]),
    key=st.integers(0, 2**32 - 1),
)
def test_random_rounding_equals_the_reference(name: str, values: list[float], scale: float, key: int) -> None:
    _core.select_kernels(name)
    small = np.clip(np.array(values, dtype=np.float32), -1e30, 1e30) * np.float32(scale)
    # Halves of normal size lose 13 bits, all of which the draw decides about; of smaller ones the draw and the sum of
    # both are cut to floats, which moves the border by less than 2^-13 of a step.
    bits = _core.kernel_to_halves(small, key)
    found = bits.view(np.float16).astype(np.float32)
    expected = reference_at_random(small, key)
    normal = np.abs(small) >= 2.0**-14
    np.testing.assert_array_equal(found[normal], expected[normal])
    assert np.all(np.abs(found[~normal] - expected[~normal]) <= 2.0**-24)


@every_kernel
def test_random_rounding_is_the_same_everywhere(name: str) -> None:
    values = around_every_half()
    _core.select_kernels("baseline" if "baseline" in _core.available_kernels() else "neon")
    expected = [_core.kernel_to_halves(values, key) for key in (0, 12345)]
    _core.select_kernels(name)
    for key, bits in zip((0, 12345), expected, strict=True):
        np.testing.assert_array_equal(_core.kernel_to_halves(values, key), bits)


@pytest.mark.parametrize("value", [1.0003, -0.70001, 1234.567, 3.1e-5, 1.7e-8, -5.96e-8])
def test_random_rounding_is_right_on_average(value: float) -> None:
    count = 20_000
    found = _core.kernel_to_halves(np.full(count, value, dtype=np.float32), 7).view(np.float16).astype(np.float64)
    low, high = found.min(), found.max()
    exact = float(np.float32(value))
    assert low <= exact <= high
    assert len(np.unique(found)) <= 2
    if low < high:
        share = (exact - low) / (high - low)
        assert abs(found.mean() - exact) <= 5 * np.sqrt(share * (1 - share) / count) * (high - low) + 2.0**-13 * (
            high - low
        )


# ---- engines


def pair(rng: np.random.Generator, items: int, dim: int, **settings: Any) -> tuple[Engine, Engine]:
    """An engine over halves, and one over the floats of the same values."""
    users, rows = (
        (rng.standard_normal((n, dim)) * np.exp(rng.standard_normal((n, 1)))).astype(np.float32) for n in (20, items)
    )
    bias = rng.standard_normal(items).astype(np.float32)
    ids = np.arange(items)
    halves = Engine.from_factors(
        np.arange(20), users, ids, rows, None, bias, storage="fp16", maintenance=False, **settings
    )
    floats = Engine.from_factors(
        np.arange(20), rounded(users), ids, rounded(rows), None, bias, maintenance=False, **settings
    )
    return halves, floats


@pytest.mark.parametrize("items", [50, 3000, 12_000])
@pytest.mark.parametrize("dim", [5, 64])
def test_rankings_are_those_of_the_rounded_rows(items: int, dim: int) -> None:
    halves, floats = pair(np.random.default_rng(items + dim), items, dim)
    halves.maintain()
    floats.maintain()
    for user in range(20):
        found, expected = (engine.recommend(user, 30) for engine in (halves, floats))
        assert found.certified
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    together, separate = (engine.recommend(list(range(20)), 30) for engine in (halves, floats))
    np.testing.assert_array_equal(together.ids, separate.ids)
    np.testing.assert_array_equal(together.scores, separate.scores)
    for found, expected in (
        (halves.similar_items(7, 20), floats.similar_items(7, 20)),
        (halves.recommend(3, 20, among=range(0, items, 7)), floats.recommend(3, 20, among=range(0, items, 7))),
        (halves.rank(3, range(40)), floats.rank(3, range(40))),
    ):
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    if items >= 12_000:
        assert halves.plan(0)["retrieval"] == "cells"


@every_kernel
def test_scores_are_those_of_the_rounded_rows(name: str) -> None:
    _core.select_kernels(name)
    halves, floats = pair(np.random.default_rng(3), 300, 40)
    for user in range(20):
        np.testing.assert_array_equal(halves.score(user, range(300)), floats.score(user, range(300)))
    found, expected = (engine.recommend(list(range(20)), 300) for engine in (halves, floats))
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_rankings_stay_exact_while_rows_are_learned() -> None:
    rng = np.random.default_rng(5)
    halves, _ = pair(rng, 9000, 16, objective="bpr")
    halves.maintain()
    for _ in range(5):
        halves.learn_many(rng.integers(0, 20, 2000), rng.integers(0, 9000, 2000))
        vectors, users = halves.item_vector(np.arange(9000)), halves.user_vector(np.arange(20))
        np.testing.assert_array_equal(vectors, rounded(vectors))
        exact = Engine.from_factors(
            np.arange(20), users, np.arange(9000), vectors, None, halves.factors().item_biases, maintenance=False
        )
        for user in range(20):
            found, expected = halves.recommend(user, 25), exact.recommend(user, 25)
            assert found.certified
            np.testing.assert_array_equal(found.ids, expected.ids)
            np.testing.assert_array_equal(found.scores, expected.scores)
        halves.maintain()


def test_vectors_come_back_rounded_as_floats() -> None:
    engine = Engine(dim=4, storage="fp16", history=0)
    vectors = np.array([[0.1, -1e-6, 65519.0, 1e15], [-1e15, 1e-9, 3.0, 2049.0]], dtype=np.float32)
    engine.set_items(["a", "b"], vectors)
    engine.set_users(["u", "v"], vectors)
    for found in (engine.item_vector(["a", "b"]), engine.user_vector(["u", "v"]), engine.factors().item_vectors):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rounded(vectors))


@pytest.mark.parametrize("objective", ["softmax", "bpr", "logistic", "squared"])
@pytest.mark.parametrize("history", [0, 3])
def test_same_seed_same_rows(objective: str, history: int) -> None:
    def learned(batch: bool) -> Engine:
        engine = Engine(dim=12, objective=objective, history=history, seed=3, storage="fp16", l2=0.01, ranker=None)  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        users, items = rng.integers(0, 30, 800), rng.integers(0, 50, 800)
        if batch:
            engine.learn_many(users, items)
        else:
            for user, item in zip(users.tolist(), items.tolist(), strict=True):
                engine.learn_one(user, item)
        return engine

    one, other = learned(True).factors(), learned(False).factors()
    for name in ("user_vectors", "item_vectors", "item_biases"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.item_vectors, rounded(one.item_vectors))


@every_kernel
def test_steps_far_below_the_last_place_add_up(name: str) -> None:
    """Rounded to the nearest, a row of ones would never move by 1e-6 a step: the last place is 1e-3."""
    _core.select_kernels(name)
    settings: dict[str, Any] = {"objective": "squared", "optimizer": "sgd", "learning_rate": 1e-6, "history": 0}
    ends = []
    for storage in ("fp32", "fp16"):
        engine = Engine.from_factors([0], np.ones((1, 64)), [0], np.ones((1, 64)), storage=storage, **settings)
        for _ in range(10):
            engine.learn_many([0] * 200, [0] * 200, [0.0] * 200)
        ends.append(float(engine.item_vector(0).mean()))
    assert ends[0] < 0.95
    assert ends[1] == pytest.approx(ends[0], abs=0.01)


def planted(rng: np.random.Generator, events: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users who mostly choose from the twentieth of the items that is theirs."""
    users = rng.integers(0, 200, events)
    own = users % 20 * 20 + rng.integers(0, 20, events)
    return users, np.where(rng.random(events) < 0.9, own, rng.integers(0, 400, events))


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
def test_learns_as_well_as_over_floats(objective: str, optimizer: str) -> None:
    shares = []
    for storage in ("fp32", "fp16"):
        engine = Engine(
            dim=16,
            objective=objective,  # type: ignore[arg-type]
            optimizer=optimizer,  # type: ignore[arg-type]
            history=0,
            negatives=8,
            storage=storage,
        )
        engine.learn_many(*planted(np.random.default_rng(1), 40_000))
        ids = engine.recommend(list(range(200)), 10).ids
        shares.append(np.mean(ids // 20 == np.arange(200)[:, None] % 20))
    assert shares[0] > 0.6
    assert shares[1] > shares[0] - 0.03


def test_save_and_load(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    engine = Engine(dim=10, storage="fp16", seed=4, ranker=None)
    engine.learn_many(rng.integers(0, 40, 500), rng.integers(0, 60, 500))
    engine.save(tmp_path / "one")
    loaded = Engine.load(tmp_path / "one")
    assert loaded.settings["storage"] == "fp16"
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    for other in (engine, loaded):
        other.learn_many(rng.integers(0, 1, 50), np.arange(50))
    np.testing.assert_array_equal(engine.factors().item_vectors, loaded.factors().item_vectors)
    floats = Engine(dim=10, seed=4, ranker=None)
    floats.learn_many(rng.integers(0, 40, 500), rng.integers(0, 60, 500))
    floats.save(tmp_path / "floats")
    assert Engine.load(tmp_path / "floats").settings["storage"] == "fp32"


def test_rows_take_half_the_memory() -> None:
    vectors = np.ones((100_000, 64), dtype=np.float32)
    memory = {}
    for storage in ("fp32", "fp16"):
        engine = Engine(dim=64, storage=storage, maintenance=False, ranker=None)
        engine.set_items(np.arange(100_000), vectors)
        memory[storage] = engine.stats()["memory_bytes"]["items"]
    capacity = memory["fp32"] - memory["fp16"]
    assert capacity >= 100_000 * 64 * 2


@pytest.mark.parametrize("wrong", ["fp8", "", "FP16", "float16"])
def test_unknown_storage(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"storage must be one of 'fp32' 'fp16', not '{wrong}'"):
        Engine(storage=wrong)  # type: ignore[arg-type]


def test_storage_must_be_text() -> None:
    with pytest.raises(TypeError, match="storage must be a str, not 16"):
        Engine(storage=16)  # type: ignore[arg-type]

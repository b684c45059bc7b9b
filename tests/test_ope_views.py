"""How policies see lists that others showed: the core's answer against a slow reference, and against what they draw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine
from recengine.diversify import MMR, MaxPerGroup
from recengine.explore import (
    UCB,
    EpsilonGreedy,
    Greedy,
    Policy,
    Random,
    Softmax,
    SquareCB,
    ThompsonSampling,
    core_explore,
)
from reference import policies as reference

Floats = npt.NDArray[np.float64]
CLOSED: list[tuple[Policy, str, float]] = [
    (Greedy(), "greedy", 0.0),
    (Random(), "random", 0.0),
    (EpsilonGreedy(0.3), "epsilon_greedy", 0.3),
    (Softmax(0.7), "softmax", 0.7),
    (SquareCB(5.0), "squarecb", 5.0),
]


def shares_of(name: str, parameter: float, scores: Floats, groups: Any, per_group: int, prefix: list[int]) -> Floats:
    """Of each candidate to be next below a prefix, one by one; of scores in any order, -inf for what is not shown."""
    order = [place for place in np.argsort(-scores, kind="stable").tolist() if math.isfinite(scores[place])]
    ranks = {place: rank for rank, place in enumerate(order)}
    labels = [groups[place] for place in order] if len(groups) else []
    shares = np.zeros(len(scores))
    if any(place not in ranks for place in prefix):
        return shares
    above = [ranks[place] for place in prefix]
    for place in order:
        if place not in prefix:
            slate = [*above, ranks[place]]
            logs = reference.log_propensities(name, parameter, scores[order].tolist(), slate, labels, per_group)
            shares[place] = math.exp(logs[-1])
    return shares


def own_best(scores: Floats, groups: Any, per_group: int, slots: int) -> list[int]:
    best: list[int] = []
    for place in np.argsort(-scores, kind="stable").tolist():
        if not math.isfinite(scores[place]) or len(best) == slots:
            continue
        if len(groups) and groups[place] and sum(groups[one] == groups[place] for one in best) == per_group:
            continue
        best.append(place)
    return best


@pytest.mark.parametrize(("policy", "name", "parameter"), CLOSED, ids=[name for _, name, _ in CLOSED])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_views_are_those_of_the_reference(policy: Policy, name: str, parameter: float, data: st.DataObject) -> None:
    lists = data.draw(st.integers(1, 3))
    per_group = data.draw(st.sampled_from([0, 1, 2]))
    columns: list[tuple[Any, list[int], list[int]]] = []
    for _ in range(lists):
        count = data.draw(st.integers(1, 7))
        scores = np.array(
            data.draw(st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.25, 2.0]), min_size=count, max_size=count)),
            np.float32,
        )
        slate = data.draw(st.permutations(range(count)))[: data.draw(st.integers(0, count))]
        groups = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)) if per_group else []
        columns.append((scores, groups, slate))
    limit = MaxPerGroup(per_group) if per_group else None
    # With each candidate for a feature, mean features are shares.
    width = max(len(scores) for scores, _, _ in columns)
    features = np.concatenate([np.eye(len(scores), width) for scores, _, _ in columns])
    target, marginals, expected, ahead = core_explore(policy, limit).judge(
        np.cumsum([len(scores) for scores, _, _ in columns]),
        np.concatenate([scores for scores, _, _ in columns]),
        [group * 7 for _, groups, _ in columns for group in groups],
        features,
        np.cumsum([len(slate) for _, _, slate in columns]),
        [place for _, _, slate in columns for place in slate],
        np.arange(lists),
        0,
        1,
    )
    assert len(marginals) == 0
    at = 0
    for scores, groups, slate in columns:
        best = own_best(scores, groups, per_group, len(slate))
        below = True  # what the policy could have shown
        for slot, place in enumerate(slate):
            shares = shares_of(name, parameter, scores, groups, per_group, slate[:slot])
            below = below and (slot == 0 or is_possible(scores, groups, per_group, slate[:slot]))
            shares = shares if below else np.zeros(len(scores))
            np.testing.assert_allclose(expected[at, : len(scores)], shares, rtol=1e-6, atol=1e-9)
            assert target[at] == pytest.approx(shares[place], rel=1e-6, abs=1e-9)
            own = shares_of(name, parameter, scores, groups, per_group, best[:slot])
            own = own if slot <= len(best) else np.zeros(len(scores))
            np.testing.assert_allclose(ahead[at, : len(scores)], own, rtol=1e-6, atol=1e-9)
            at += 1


def is_possible(scores: Floats, groups: Any, per_group: int, prefix: list[int]) -> bool:
    full = len(groups) and any(
        groups[place] and sum(groups[one] == groups[place] for one in prefix) > per_group for place in prefix
    )
    return not full and all(math.isfinite(scores[place]) for place in prefix)


def seen(engine: Engine, policy: Policy, slate: list[int], draws: int = 0) -> tuple[Floats, Floats, Floats]:
    """Of ann's items, best first: target, marginals, and shares (slots, items)."""
    candidates, scores = engine.rank("ann", np.arange(6))
    target, marginals, expected, _ = engine._core.judge(
        "ann", candidates, scores, [], np.eye(6), slate, core_explore(policy, None), draws, 5
    )
    return target, marginals, expected


def shop(policy: Policy) -> tuple[Engine, list[int]]:
    """An engine that has shown some lists, and its items, best first for ann."""
    scores = np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    engine = Engine.from_factors(["ann"], [[0.0, 0.0]], np.arange(6), np.eye(6, 2), item_bias=scores, objective="bpr")
    for seed in range(30):
        engine.impression(engine.recommend("ann", k=2, explore=policy, seed=seed))
    return engine, engine.rank("ann", np.arange(6)).ids.tolist()


@pytest.mark.parametrize("precision", ["diagonal", "shared"])
def test_thompson_sampling_is_seen_by_the_engine(precision: Any) -> None:
    """Its estimated propensities are the shares of what it chooses, slot by slot, and whatever is above."""
    engine, order = shop(UCB(0.1, precision))
    target, marginals, found = seen(engine, ThompsonSampling(1.0, precision, samples=20_000), [2, 0], draws=20_000)
    drawn = engine.recommend(["ann"] * 20_000, k=2, explore=ThompsonSampling(1.0, precision), seed=3).ids
    first = np.array([np.mean(drawn[:, 0] == item) for item in order])
    np.testing.assert_allclose(found[0], first, atol=0.02)
    below = drawn[drawn[:, 0] == order[2], 1]
    np.testing.assert_allclose(found[1], [np.mean(below == item) for item in order], atol=0.05)
    assert found.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
    assert target.tolist() == pytest.approx([found[0, 2], found[1, 0]])
    assert marginals[0] == pytest.approx(found[0, 2], abs=0.02)
    assert marginals[1] == pytest.approx(float(np.mean(drawn[:, 1] == order[0])), abs=0.02)


def test_ucb_is_seen_as_what_it_chooses_now() -> None:
    engine, order = shop(Random())
    chosen = engine.recommend("ann", k=3, explore=UCB(2.0)).ids
    slate = [order.index(item) for item in chosen.tolist()]
    target, marginals, found = seen(engine, UCB(2.0), slate, draws=1)
    np.testing.assert_array_equal(found, np.eye(6)[slate])
    assert target.tolist() == marginals.tolist() == [1.0, 1.0, 1.0]
    assert seen(engine, UCB(2.0), slate[::-1], draws=1)[1].tolist() == [0.0, 1.0, 0.0]


def test_scores_are_those_of_rank() -> None:
    engine, order = shop(Random())
    found = engine._core.ranking_scores("ann", [], [*order[::-1], 99], [])
    np.testing.assert_array_equal(found[:6], engine.rank("ann", np.arange(6)).scores[::-1])
    assert found[6] == -math.inf
    visitor = engine._core.ranking_scores(None, [1, 99], [0, 5], [])
    by_id = dict(zip(*engine.recommend(history=[1, 99], k=6), strict=True))
    assert visitor.tolist() == [by_id[0], by_id[5]]
    assert engine._core.ranking_scores("ann", [], ["a", "b"], []).tolist() == [-math.inf, -math.inf]


def test_bad_arguments_of_views() -> None:
    engine, _ = shop(Random())
    ucb, soft = core_explore(UCB(1.0), None), core_explore(Softmax(1.0), None)
    none = np.zeros((2, 0))
    for arguments, error, told in (
        (("ann", [0, 1], [1.0, 0.0], [], np.ones((3, 1)), [0], ucb, 0, 0), ValueError, "a row a score"),
        (("ann", [0], [1.0, 0.0], [], none, [0], ucb, 0, 0), ValueError, "those with finite scores, 2, not 1"),
        (("ann", [0, 1], [1.0, 0.0], [], none, [2], ucb, 0, 0), ValueError, "below 2, not 2"),
        (("ann", [0, 1], [1.0, 0.0], [], none, [-1], ucb, 0, 0), ValueError, "below 2, not -1"),
        (("ann", [0, 1], [1.0, 0.0], [], none, [1, 1], ucb, 0, 0), ValueError, "different places below 2, not 1"),
        (("ann", [0, 1], [1.0, math.nan], [], none, [0], ucb, 0, 0), ValueError, "finite or -inf, not nan"),
        (("ann", [0, 1], [1.0, 0.0], [1], none, [0], ucb, 0, 0), ValueError, "groups must be one a score"),
        (("ann", [0, 1], [1.0, 0.0], [1, -1], none, [0], ucb, 0, 0), ValueError, "groups must be between.*-1"),
        (("ann", [0, 99], [1.0, 0.0], [], none, [0], ucb, 0, 0), KeyError, "99"),
        (("ann", [0, 1], [1.0, 0.0], [], none, [0], soft, 0, 0), ValueError, "Thompson"),
        (
            ("ann", [0, 1], [1.0, 0.0], [], none, [0], core_explore(ThompsonSampling(), None), 0, 0),
            ValueError,
            "samples",
        ),
    ):
        with pytest.raises(error, match=told):
            engine._core.judge(*arguments)
    columns: Any = (
        (([2], [1.0, 0.0], [], none, [1], [0], [], 0, 0), "numbers must be one a list"),
        (([1], [1.0, 0.0], [], none, [1], [0], [0], 0, 0), "ends must end with 2, not 1"),
        (([2, 1], [1.0, 0.0], [], none, [1, 1], [0], [0, 1], 0, 0), "ends must ascend up to 2, not hold 1"),
        (([2], [1.0, 0.0], [], none, [1, 1], [0], [0], 0, 0), "equal length"),
    )
    for lists, told in columns:
        with pytest.raises(ValueError, match=told):
            soft.judge(*lists)
    with pytest.raises(ValueError, match="MaxPerGroup needs groups"):
        core_explore(Softmax(1.0), MaxPerGroup(1)).judge([2], [1.0, 0.0], [], none, [1], [0], [0], 0, 0)
    with pytest.raises(ValueError, match="closed form"):
        ucb.judge([2], [1.0, 0.0], [], none, [1], [0], [0], 0, 0)
    with pytest.raises(ValueError, match="MMR and DPP"):
        engine._core.diversified([0], [1.0], soft, 1)
    with pytest.raises(ValueError, match="one an item"):
        engine._core.diversified([0], [1.0, 2.0], core_explore(Greedy(), MMR()), 1)

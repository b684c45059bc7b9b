"""Marginal propensities, which independent IPS goes by: against enumeration, and what they make of its bias."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recengine import Engine, ImpressionLog, ope
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

Floats = npt.NDArray[np.float64]
SCORES = np.array([1.5, 1.0, 0.8, 0.2, 0.0], np.float32)
GROUPS = np.array([1, 1, 2, 2, 0])
POLICIES: list[Policy] = [Greedy(), Random(), EpsilonGreedy(0.3), Softmax(1.0), SquareCB(4.0)]


def enumerated(policy: Policy, k: int, limit: MaxPerGroup | None = None) -> Floats:
    """Of each item the probability to be at each slot, (5, k), from those of all lists."""
    core, shares = core_explore(policy, limit), np.zeros((5, k))
    groups: Any = GROUPS if limit else []
    for slate in permutations(range(5), k):
        logs = core.log_propensities(SCORES, groups, slate)
        for slot, item in enumerate(slate):
            shares[item, slot] += math.exp(logs.sum())
    return shares


def drawn(policy: Policy, slates: npt.NDArray[Any], limit: MaxPerGroup | None, draws: int) -> Floats:
    """What the core estimates for lists of these slates, (lists, k)."""
    lists, k = slates.shape
    found = core_explore(policy, limit).marginals(
        5 * np.arange(1, lists + 1),
        np.tile(SCORES, lists),
        np.tile(GROUPS, lists) if limit else [],
        k * np.arange(1, lists + 1),
        slates.ravel(),
        np.arange(lists),
        draws,
        3,
    )
    return np.asarray(found.reshape(lists, k))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("limit", [None, MaxPerGroup(1)])
def test_marginals_are_those_of_all_lists(policy: Policy, limit: MaxPerGroup | None) -> None:
    expected = enumerated(policy, 3, limit)
    rotations = np.array([[(slot + first) % 5 for slot in range(3)] for first in range(5)])
    found = drawn(policy, rotations, limit, 20_000)
    for slate, shares in zip(rotations, found, strict=True):
        for slot, item in enumerate(slate):
            share = expected[item, slot]
            assert shares[slot] == pytest.approx(share, abs=4 * math.sqrt(share / 20_000) + 1e-12)
    assert found[:, 0] == pytest.approx(expected[:, 0])  # the first slot is below nothing
    if isinstance(policy, (Random, Greedy)) and limit is None:
        np.testing.assert_allclose(drawn(policy, rotations, limit, 1), found)


REWARDS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def logged(policy: Policy, rows: int, seed: int, limit: MaxPerGroup | None = None, k: int = 3) -> ImpressionLog:
    """Whatever is above it, item i is clicked with probability REWARDS[i]."""
    engine = Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=SCORES, seed=seed)
    engine.set_groups([0, 1, 2, 3], ["a", "a", "b", "b"])
    random = np.random.default_rng(seed)
    ranking = engine.recommend(["ann"] * rows, k=k, explore=policy, diversify=limit, seed=seed)
    for number, items in zip(engine.impression(ranking), ranking.ids, strict=True):
        for item in items:
            engine.feedback(number, item, float(random.random() < REWARDS[item]), learn=False)
    return engine.impressions()


def reversed_engine() -> Engine:
    return Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=SCORES[::-1])


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@pytest.mark.parametrize("policy", [Random(), EpsilonGreedy(0.5), Softmax(1.0), SquareCB(4.0)])
@pytest.mark.parametrize("limit", [None, MaxPerGroup(1)])
def test_independent_ips_is_unbiased(policy: Policy, limit: MaxPerGroup | None) -> None:
    """Under its own assumption, and not with the propensities that were logged, which are given the slots above."""
    log = logged(policy, 2_000, 1, limit)
    target = enumerated(Softmax(1.0), 3)[::-1]  # of the scores in reverse
    truth = float((target * REWARDS[:, None]).sum())
    if limit is not None:  # lists that MaxPerGroup never shows cannot be judged: the same limit for both
        core, groups = core_explore(Softmax(1.0), limit), GROUPS[::-1]
        target = np.zeros((5, 3))
        for slate in permutations(range(5), 3):
            share = math.exp(core.log_propensities(SCORES, groups, slate).sum())
            for slot, item in enumerate(slate):
                target[4 - item, slot] += share
        truth = float((target * REWARDS[:, None]).sum())
    choice: Any = (Softmax(1.0), reversed_engine()) if limit is None else (Softmax(1.0), limit, reversed_engine())
    found = ope.compare(log, {"reversed": choice}).rows[0].estimates["independent IPS"]
    deviation = (found.high - found.low) / 3.92
    assert abs(found.value - truth) < 3 * deviation
    if isinstance(policy, Softmax):
        core = core_explore(policy, limit)
        shown, wanted, rewards = (np.zeros((len(log), 3)) for _ in range(3))
        for number, row in enumerate(log):
            shown[number] = np.exp(row.log_propensities)
            rewards[number] = row.rewards
            wanted[number] = np.exp(
                core.log_propensities(SCORES, GROUPS[::-1] if limit else [], 4 - row.items.astype(int))
            )
        naive = ope.independent_ips(rewards, shown, wanted)
        assert abs(naive.value - truth) > 4 * (naive.high - naive.low) / 3.92


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_a_policy_weighs_its_own_lists_one() -> None:
    for policy, limit in ((Softmax(0.5), None), (EpsilonGreedy(0.2), MaxPerGroup(1)), (Greedy(), None)):
        log = logged(policy, 200, 2, limit)
        choice: Any = policy if limit is None else (policy, limit)
        found = ope.compare(log, {"same": choice})
        one = found.rows[0].estimates["independent IPS"]
        assert one.value == pytest.approx(found.logged.value)
        assert (one.effective_sample_size, one.max_weight) == pytest.approx((200.0, 1.0))


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_greedy_and_ucb_have_marginals_of_their_own_list() -> None:
    log = logged(Random(), 2_000, 3)
    truth = float(REWARDS[[4, 3, 2]].sum())
    engine = reversed_engine()
    for policy in (Greedy(), UCB(0.0), ThompsonSampling(0.0, samples=2)):
        found = ope.compare(log, {"best": (policy, engine)}).rows[0].estimates["independent IPS"]
        assert abs(found.value - truth) < 3 * (found.high - found.low) / 3.92
        weights = sum(np.array_equal(row.items, [4, 3, 2]) for row in log)
        assert weights < found.effective_sample_size < 2_000  # 1 in 5 for a slot, not 1 in 60 for a list


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_thompson_sampling_is_judged_slot_by_slot() -> None:
    """As often as the lists that it draws have an item at a slot."""
    log = logged(Random(), 2_000, 4)
    engine = reversed_engine()
    policy = ThompsonSampling(1.0, samples=100)
    lists = engine.recommend(["ann"] * 20_000, k=3, explore=ThompsonSampling(1.0), seed=1).ids
    truth = float(REWARDS[lists].sum(axis=1).mean())
    found = ope.compare(log, {"thompson": (policy, engine)}).rows[0].estimates["independent IPS"]
    assert abs(found.value - truth) < 3 * (found.high - found.low) / 3.92


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_logs_without_marginals_have_no_independent_ips() -> None:
    engine = Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=SCORES)
    for _ in range(40):
        engine.impression(engine.recommend("ann", k=2, explore=ThompsonSampling(1.0, samples=200)))
    told = "independent IPS is NaN: impression 1 was chosen by 'thompson'.*marginal propensities"
    with pytest.warns(UserWarning, match=told):
        found = ope.compare(engine.impressions(), {"random": Random()}).rows[0].estimates
    assert math.isnan(found["independent IPS"].value)
    assert math.isfinite(found["cascade DR"].value)
    one = Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=SCORES)
    for _ in range(40):
        one.impression(one.recommend("ann", k=1, explore=ThompsonSampling(1.0, samples=200)))
    assert math.isfinite(ope.compare(one.impressions(), {"random": Random()}).rows[0].estimates["IPS"].value)


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_the_effective_sample_is_that_of_the_poorest_slot() -> None:
    """2,000 lists of 20 independent slots, of which each alone counts as some 80: the list counts as no more."""
    random = np.random.default_rng(0)
    shown = np.where(random.random((2_000, 20)) < 0.02, 0.02, 0.98)
    target = np.where(shown < 0.5, 0.7, 0.3)
    found = ope.independent_ips(np.ones((2_000, 20)), shown, target)
    weights = target / shown
    slots = weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)
    assert found.effective_sample_size == pytest.approx(slots.min())
    assert 50 < found.effective_sample_size < 100
    assert found.max_weight == pytest.approx(35.0)
    weights[:, 3] = 0.0
    with pytest.warns(ope.OverlapWarning, match=r"soft: independent IPS: 2,000 rows count as 0.0 in slot 4"):
        ope.independent_ips(np.ones((2_000, 20)), np.full((2_000, 20), 0.5), weights * 0.01, policy="soft")


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_mmr_leaves_known_marginals() -> None:
    """By itself its list is certain; before a policy that draws the pool is what was logged."""
    engine = Engine.from_factors(
        ["ann"], [[1.0, 0.5]], np.arange(5), np.random.default_rng(0).normal(size=(5, 2)), item_bias=SCORES
    )
    for policy in (Greedy(), Softmax(1.0)):
        for _ in range(50):
            engine.impression(engine.recommend("ann", k=2, explore=policy, diversify=MMR(pool=4)))
        log = ImpressionLog([row for row in engine.impressions() if row.policy == core_name(policy)])
        found = ope.compare(log, {"same": policy}).rows[0].estimates["independent IPS"]
        if isinstance(policy, Softmax):
            assert found.value == 0.0
            assert found.effective_sample_size == pytest.approx(50)


def core_name(policy: Policy) -> str:
    return "greedy" if isinstance(policy, Greedy) else "softmax"

"""Diversity in the log, and policies with diversity that are judged by it."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from recengine import Engine, ImpressionLog, ope
from recengine.diversify import DPP, MMR, Diversity, MaxPerGroup
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Random, Softmax, ThompsonSampling, core_explore

SCORES = np.array([1.0, 0.8, 0.6, 0.4, 0.2], np.float32)
LABELS = ["x", "x", "y", "y"]  # of items 0 to 3; 4 has none
GROUPS = [1, 1, 2, 2, 0]
ROWS = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.7, 0.7]])


def shop() -> Engine:
    engine = Engine.from_factors(["ann"], [[0.0, 0.0]], np.arange(5), ROWS, item_bias=SCORES)
    engine.set_groups([0, 1, 2, 3], LABELS)
    return engine


def logged(policy: Policy, diversify: Diversity | None, rows: int, k: int = 2) -> tuple[Engine, ImpressionLog]:
    """Item i is clicked with probability (i + 1) / 10."""
    engine, random = shop(), np.random.default_rng(0)
    ranking = engine.recommend(["ann"] * rows, k=k, explore=policy, diversify=diversify, seed=1)
    for number, items in zip(engine.impression(ranking), ranking.ids, strict=True):
        for item in items:
            if item >= 0:
                engine.feedback(number, item, float(random.random() < (item + 1) / 10), learn=False)
    return engine, engine.impressions()


def earns(policy: Policy, limit: MaxPerGroup | None, k: int = 2) -> float:
    core = core_explore(policy, limit)
    return math.fsum(
        math.exp(core.log_propensities(SCORES, GROUPS if limit else [], slate).sum()) * (sum(slate) + k) / 10
        for slate in permutations(range(5), k)
    )


def agrees(found: ope.Estimate, truth: float) -> bool:
    return abs(found.value - truth) < 3 * (found.high - found.low) / 3.92


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@pytest.mark.parametrize("policy", [Random(), Softmax(0.4), EpsilonGreedy(0.5)])
def test_limits_per_group_are_judged(policy: Policy) -> None:
    """What the limit of the policy, and of the log, leaves to chance."""
    limit = MaxPerGroup(1)
    for ran in (None, limit):
        engine, log = logged(Random(), ran, 1_500)
        choice: Any = (policy, limit) if ran else (policy, limit, engine)
        found = ope.compare(log, {"limited": choice}).rows[0].estimates
        for name in ("independent IPS", "reward-interaction IPS", "cascade DR"):
            assert agrees(found[name], earns(policy, limit)), (name, ran)
    unlimited = ope.compare(logged(Random(), None, 1_500)[1], {"free": policy}).rows[0].estimates
    assert agrees(unlimited["cascade DR"], earns(policy, None))
    # Without the limit the policy would show what the log never does, and the weights say so.
    with pytest.warns(ope.OverlapWarning, match="free: reward-interaction IPS: .*lacks choices"):
        ope.compare(log, {"free": Random()})


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@pytest.mark.parametrize("diversify", [MMR(0.3), DPP(0.5), MMR(0.3, pool=3), DPP(0.5, pool=3), MaxPerGroup(1)])
@pytest.mark.parametrize("policy", [Greedy(), Softmax(0.4), ThompsonSampling(0.7, samples=500)])
def test_diversity_is_judged_by_an_engine(policy: Policy, diversify: Diversity) -> None:
    engine, log = logged(Random(), None, 1_500)
    found = ope.compare(log, {"diverse": (policy, diversify, engine)}).rows[0].estimates
    shown = engine.recommend(["ann"] * 4_000, k=2, explore=policy, diversify=diversify, seed=5).ids
    truth = float(np.mean((shown + 1).sum(axis=1) / 10))
    for name in ("reward-interaction IPS", "cascade DR", "independent IPS"):
        assert agrees(found[name], truth), name


def test_what_cannot_be_judged_is_refused_by_name() -> None:
    engine, log = logged(Random(), None, 40)
    for choice, error, told in (
        ((Random(), MaxPerGroup(2)), ValueError, r"'a': impression 1 was logged without groups"),
        ((Random(), MMR()), ValueError, r"'a': MMR goes by the items' rows.*\(Random\(...\), MMR\(...\), engine\)"),
        ((Softmax(1.0), DPP()), ValueError, "'a': DPP goes by"),
        ((UCB(), MMR(), engine), ValueError, "'a': MMR reorders the bounds of UCB"),
        ((UCB(), MaxPerGroup(1)), ValueError, "'a': UCB goes by what an engine knows"),
        ((Random(), "engine"), TypeError, "'a' must be a policy, or a tuple .*'engine'"),
        ((Random(), engine, engine), TypeError, "'a' must be a policy"),
        ((Random(), MMR(), DPP()), TypeError, "'a' must be a policy"),
        ((engine, Random()), TypeError, "'a' must be a policy"),
        ((), TypeError, r"'a': explore must be a policy of recengine.explore, not \(\)"),
        (MaxPerGroup(1), TypeError, "'a': explore must be a policy.*MaxPerGroup"),
    ):
        with pytest.raises(error, match=told):
            ope.compare(log, {"a": choice})  # type: ignore[dict-item]


@pytest.mark.parametrize("diversify", [None, MMR(0.3, pool=3), MMR(0.25), DPP(0.5), MaxPerGroup(1)])
@pytest.mark.parametrize(
    "policy", [Greedy(), Random(), EpsilonGreedy(0.2), Softmax(0.5), ThompsonSampling(0.7, "shared", samples=50), UCB()]
)
def test_decisions_can_be_made_again_from_the_log(policy: Policy, diversify: Diversity | None) -> None:
    """All that their probabilities are a function of is there, and goes through Arrow."""
    pytest.importorskip("pyarrow")
    engine = shop()
    ranking = engine.recommend("ann", k=2, explore=policy, diversify=diversify, seed=3)
    engine.impression(ranking)
    for log in (engine.impressions(), ImpressionLog.from_arrow(engine.impressions().to_arrow())):
        (row,) = log
        assert (type(row.explore), row.diversify) == (type(policy), diversify)
        assert row.explore == type(policy)(**{**fields(policy), "candidates": len(row.candidates)})
        is_limited = isinstance(diversify, MaxPerGroup)
        assert row.groups.tolist() == ([1, 1, 2, 2, 0] if is_limited else [])
        errors = ranking.log_propensity_errors
        assert row.log_propensity_errors.tolist() == ([] if errors is None else errors.tolist())
        if isinstance(policy, (UCB, ThompsonSampling)) or (diversify and not is_limited and policy == Greedy()):
            continue
        core = core_explore(row.explore, row.diversify if is_limited else None)
        again = core.log_propensities(row.scores, row.groups, row.slate)
        np.testing.assert_allclose(again, row.log_propensities, atol=1e-12)


def fields(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in type(policy).__dataclass_fields__}


def test_settings_from_elsewhere_are_named() -> None:
    from dataclasses import replace

    (row,) = logged(Random(), MaxPerGroup(1), 1)[1]
    with pytest.raises(ValueError, match=r"impression 1 was chosen by 'ours', which is not of recengine.explore"):
        _ = replace(row, policy="ours").explore
    with pytest.raises(ValueError, match=r"impression 1 was chosen by 'xquad', which is not of recengine.diversify"):
        _ = replace(row, diversity="xquad").diversify
    with pytest.raises(ValueError, match="n must be"):  # before it was logged
        _ = replace(row, diversity_count=0).diversify


def test_older_tables_have_no_settings() -> None:
    pytest.importorskip("pyarrow")
    log = logged(Random(), MaxPerGroup(1), 3)[1]
    newer = ["precision", "samples", "diversity_weight", "diversity_count", "groups", "log_propensity_errors"]
    (first, *_) = ImpressionLog.from_arrow(log.to_arrow().drop_columns(newer))
    assert (first.samples, first.diversity_count, first.groups.tolist()) == (0, 0, [])
    np.testing.assert_array_equal(first.log_propensities, log[0].log_propensities)

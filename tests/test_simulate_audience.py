"""The simulated audience, and what policies earn before it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from recengine import ope
from recengine.diversify import DPP, MMR, MaxPerGroup
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Softmax, SquareCB, ThompsonSampling
from recengine.simulate import Audience, Trial, TrialResult, run_trials
from recengine.simulate.trial import student_quantile

SMALL: dict[str, Any] = {"users": 30, "items": 80, "groups": 8, "visits": 40}


def test_one_seed_one_audience() -> None:
    def answers(seed: int) -> list[Any]:
        audience = Audience(seed=seed, **SMALL)
        found: list[Any] = []
        for _ in range(3):
            for _ in range(SMALL["visits"]):
                user = audience.visitor()
                found.append((user, audience.respond(user, audience.items[:5], token=0).tolist()))
            found.append([one.item for one in audience.due()])
            night = audience.night()
            found.append((night.arrived.tolist(), night.removed.tolist()))
        return found

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_items_arrive_and_go() -> None:
    audience = Audience(seed=0, churn=0.2, **SMALL)
    before = set(audience.items.tolist())
    night = audience.night()
    assert 4 < len(night.arrived) == len(night.removed) < 40
    assert set(night.removed.tolist()) <= before
    assert set(audience.items.tolist()) == before - set(night.removed.tolist()) | set(night.arrived.tolist())
    assert night.arrived.min() == 80
    with pytest.raises(KeyError):
        audience.chances(0, night.removed)


def test_tastes_drift() -> None:
    still, moving = Audience(seed=0, drift=0.0, churn=0.0, **SMALL), Audience(seed=0, drift=0.5, churn=0.0, **SMALL)
    for audience, changed in ((still, 0), (moving, 5)):
        before = [audience.chances(user, audience.items) for user in range(30)]
        audience.night()
        after = [audience.chances(user, audience.items) for user in range(30)]
        assert sum(not np.array_equal(one, other) for one, other in zip(before, after, strict=True)) >= changed
        assert changed or all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_boredom_comes_and_fades() -> None:
    audience = Audience(seed=0, drift=0.0, churn=0.0, position_bias=0.0, boredom=1.0, **SMALL)
    items = audience.items[:3]
    fresh = audience.chances(0, items)
    audience.respond(0, items, token=0)
    bored = audience.chances(0, items)
    assert np.all(bored < fresh)
    np.testing.assert_allclose(np.log(bored / (1 - bored)), np.log(fresh / (1 - fresh)) - 1.0)
    audience.night()
    np.testing.assert_allclose(
        np.log(audience.chances(0, items) / (1 - audience.chances(0, items))), np.log(fresh / (1 - fresh)) - 0.5
    )
    np.testing.assert_array_equal(
        audience.chances(1, items), Audience(seed=0, drift=0.0, churn=0.0, **SMALL).chances(1, items)
    )


def test_clicks_come_as_often_as_they_should() -> None:
    """Position bias: the third slot is looked at with probability 1/3."""
    audience = Audience(seed=0, position_bias=1.0, boredom=0.0, **SMALL)
    items = audience.items[:3]
    clicks = np.array([audience.respond(0, items, token=0) for _ in range(6000)])
    expected = audience.chances(0, items) / np.array([1, 2, 3])
    assert np.all(np.abs(clicks.mean(axis=0) - expected) < 4 * np.sqrt(expected / 6000))
    assert audience.expected(0, items) == pytest.approx(expected.sum())
    assert audience.best(0, 3) >= audience.expected(0, items)


def test_purchases_come_later() -> None:
    audience = Audience(seed=0, purchases=1.0, boredom=0.0, churn=0.0, **SMALL)
    clicks = sum(int(audience.respond(0, audience.items[:3], token=n).sum()) for n in range(200))
    assert clicks > 5
    bought = audience.due()
    for _ in range(20):
        audience.night()
        bought += audience.due()
    assert len(bought) == clicks
    assert all(one.time > 0 for one in bought)
    assert np.mean([one.time for one in bought]) == pytest.approx(43_200, rel=0.5)
    assert len({one.token for one in bought}) > 1


@pytest.mark.parametrize(
    "values",
    [{"users": 0}, {"items": 0}, {"groups": 0}, {"visits": 0}, {"drift": 1.5}, {"churn": -0.1}, {"purchases": 2.0},
     {"boredom": -1.0}, {"position_bias": float("nan")}],
)  # fmt: skip
def test_numbers_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Audience(**values)


def test_trials_reproduce() -> None:
    def rewards() -> list[float]:
        return [day.reward for day in Trial(Softmax(1.0), seed=3, audience=SMALL).run(3)]

    assert rewards() == rewards()
    with pytest.raises(ValueError, match="days"):
        run_trials({"greedy": (None, None)}, days=0)
    with pytest.raises(ValueError, match="lists of one"):
        Trial(None, audience=SMALL).judge({}, 1)


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 9, 30, 1000])
def test_quantiles_of_student(freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=3e-3)


# ---- what the docs claim: small here, whole with -m long

TRIED: dict[str, tuple[Policy | None, Any]] = {
    "greedy": (Greedy(), None),
    "epsilon_greedy": (EpsilonGreedy(0.1), None),
    "softmax": (Softmax(1.0), None),
    "thompson": (ThompsonSampling(1.0), None),
    "ucb, alpha 1": (UCB(1.0), None),
    "ucb": (UCB(10.0), None),
    "squarecb": (SquareCB(50.0), None),
    "mmr": (None, MMR()),
    "dpp": (None, DPP()),
    "max_per_group": (None, MaxPerGroup(1)),
}


def exploring_beats_greedy(result: TrialResult, policy: str) -> bool:
    return result.difference(policy, "greedy")[1] > 0


def diversity_pays(result: TrialResult, name: str, figure: str = "coverage") -> bool:
    """The upper bound of what it costs is below the lower bound of what it gains."""
    cost = -result.difference(name, "greedy")[1]
    return cost < result.difference(name, "greedy", figure)[1]


def test_exploring_beats_greedy_in_small() -> None:
    tried = {name: TRIED[name] for name in ("greedy", "softmax", "squarecb")}
    result = run_trials(tried, days=12, seeds=4, audience={"users": 60, "items": 200, "visits": 100})
    for policy in ("softmax", "squarecb"):
        assert result.difference(policy, "greedy")[0] > 0
        assert np.all(result.total(policy, "coverage") > result.total("greedy", "coverage"))


def dr_is_right(seed: int, days: int, visits: int) -> bool:
    """Whether DR finds the better of two policies from the log of a third one."""
    policies: dict[str, Policy] = {"sharp": Softmax(0.6), "flat": Softmax(2.0)}
    trial = Trial(Softmax(1.0), k=1, seed=seed, audience={"purchases": 0.0, "visits": 200})
    for _ in trial.run(days):
        pass
    truth = trial.judge(policies, visits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ope.OverlapWarning)
        found = ope.compare(trial.log, policies)
    values = {row.policy: row.estimates["DR"].value for row in found.rows}
    return (values["sharp"] > values["flat"]) == (truth["sharp"] > truth["flat"])


def test_dr_picks_the_better_policy() -> None:
    assert all(dr_is_right(seed, days=6, visits=2500) for seed in (0, 1))


@pytest.mark.long
def test_exploring_beats_greedy_over_ten_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_trials(TRIED, days=60, seeds=10)
    with capsys.disabled():
        print()
        for name in TRIED:
            told = [f"{name}:"]
            for figure, digits in (("reward", ",.0f"), ("coverage", ".3f"), ("diversity", ".3f")):
                mean, low, high = result.difference(name, "greedy", figure)
                told.append(f"{figure} {result.total(name, figure).mean():{digits}}")
                told.append(f"{mean:+.1%} [{low:+.1%}, {high:+.1%}];")
            print(*told)
    for name in ("epsilon_greedy", "softmax", "thompson", "ucb", "squarecb"):
        assert exploring_beats_greedy(result, name), name
    for name in ("mmr", "dpp"):
        assert diversity_pays(result, name), name
    # It spreads lists over groups, not over more items.
    assert result.difference("max_per_group", "greedy", "diversity")[1] > 0


@pytest.mark.long
def test_dr_picks_the_better_policy_over_ten_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    right = sum(dr_is_right(seed, days=10, visits=4000) for seed in range(10))
    with capsys.disabled():
        print(f"\nDR picks the better policy in {right} of 10 audiences")
    assert right >= 9

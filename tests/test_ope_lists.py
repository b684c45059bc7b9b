"""Off-policy evaluation of lists: cascade DR, and policies that are judged by an engine."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine, ImpressionLog, ope
from recengine.explore import (
    UCB,
    Greedy,
    Policy,
    Random,
    Softmax,
    ThompsonSampling,
)
from reference.ope import cascade_dr

Floats = npt.NDArray[np.float64]


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_cascade_dr_is_its_definition(seed: int, slots: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    rewards, shown, wanted, predicted, expected = random.random((5, rows, slots))
    shown = 0.1 + 0.9 * shown
    found = ope.cascade_dr(rewards, shown, wanted, predicted, expected)
    columns = [part.tolist() for part in (rewards, shown, wanted, predicted, expected)]
    assert found.value == pytest.approx(cascade_dr(*columns))
    none = np.zeros_like(rewards)
    plain = ope.reward_interaction_ips(rewards, shown, wanted)
    assert ope.cascade_dr(rewards, shown, wanted, none, none).value == pytest.approx(plain.value)
    if slots == 1:
        single = ope.dr(rewards[:, 0], shown[:, 0], wanted[:, 0], predicted[:, 0], expected[:, 0])
        assert (found.value, found.low, found.high) == pytest.approx((single.value, single.low, single.high))


class Cascade:
    """Lists of three of four items: whoever clicks at slot j has seen all above it, and may leave after each."""

    appeal = np.array([0.6, 0.45, 0.3, 0.15])
    stays = 0.8

    def __init__(self) -> None:
        self.lists = list(permutations(range(4), 3))
        self.shown = self.chances(np.array([0.6, 0.5, 0.4, 0.3]), 0.3)
        self.wanted = self.chances(np.array([0.1, 0.2, 0.6, 0.7]), 0.3)

    def chances(self, scores: Floats, temperature: float) -> Floats:
        """Of each list its slots' probabilities by Plackett-Luce: (24, 3)."""
        weights = np.exp(scores / temperature)
        rows = []
        for one in self.lists:
            left, row = float(weights.sum()), []
            for item in one:
                row.append(float(weights[item]) / left)
                left -= float(weights[item])
            rows.append(row)
        return np.array(rows)

    def means(self) -> Floats:
        """Of each list its slots' mean rewards: people leave after a click with probability 1 - stays."""
        rows = []
        for one in self.lists:
            there, row = 1.0, []
            for item in one:
                row.append(there * float(self.appeal[item]))
                there *= 1 - float(self.appeal[item]) * (1 - self.stays)
            rows.append(row)
        return np.array(rows)

    def truth(self) -> float:
        return float(self.wanted.prod(axis=1) @ self.means().sum(axis=1))

    def model(self, error: float) -> tuple[Floats, Floats]:
        """Q and E Q of each list, from appeals that are wrong by a share: what slots earn by themselves."""
        appeal = self.appeal * (1 + error * np.array([1, -1, 1, -1]))
        future = float(appeal.mean())
        predicted, expected = np.zeros((24, 3)), np.zeros((24, 3))
        for number, one in enumerate(self.lists):
            for slot in range(3):
                below = future * (2 - slot)
                predicted[number, slot] = appeal[one[slot]] + below
                same = [other for other, items in enumerate(self.lists) if items[:slot] == one[:slot]]
                firsts = {self.lists[other][slot]: float(self.wanted[other, slot]) for other in same}
                expected[number, slot] = sum(share * appeal[item] for item, share in firsts.items()) + below
        return predicted, expected

    def run(self, rows: int, random: np.random.Generator, error: float) -> tuple[Floats, ...]:
        drawn = random.choice(24, size=rows, p=self.shown.prod(axis=1) / self.shown.prod(axis=1).sum())
        rewards = np.zeros((rows, 3))
        there = np.ones(rows, dtype=bool)
        items = np.array(self.lists)[drawn]
        for slot in range(3):
            clicked = there & (random.random(rows) < self.appeal[items[:, slot]])
            rewards[:, slot] = clicked
            there &= ~clicked | (random.random(rows) < self.stays)
        predicted, expected = self.model(error)
        return rewards, self.shown[drawn], self.wanted[drawn], predicted[drawn], expected[drawn]


def spread(runs: int, rows: int, error: float) -> tuple[tuple[float, float], float, float, float]:
    """Of many logs: the shares of intervals of cascade DR and of reward-interaction IPS that cover the truth, the mean
    estimate of the former, and the deviations of both."""
    world = Cascade()
    truth, covered = world.truth(), np.zeros(2)
    robust, plain = [], []
    for seed in range(runs):
        rewards, shown, wanted, predicted, expected = world.run(rows, np.random.default_rng(seed), error)
        found = ope.cascade_dr(rewards, shown, wanted, predicted, expected, interval="normal")
        simple = ope.reward_interaction_ips(rewards, shown, wanted, interval="normal")
        covered += [one.low <= truth <= one.high for one in (found, simple)]
        robust.append(found.value)
        plain.append(simple.value)
    first, second = (covered / runs).tolist()
    return (first, second), float(np.mean(robust)), float(np.std(robust)), float(np.std(plain))


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@pytest.mark.parametrize("error", [0.0, 0.5])
def test_cascade_dr_is_unbiased_and_varies_less(error: float) -> None:
    covered, mean, deviation, plain = spread(200, 600, error)
    assert min(covered) >= 0.9
    assert abs(mean - Cascade().truth()) < 4 * deviation / math.sqrt(200)
    assert deviation < (0.75 if error == 0 else 0.9) * plain


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@pytest.mark.parametrize("error", [0.0, 0.5])
def test_cascade_dr_covers_the_truth_in_a_thousand_runs(error: float, capsys: pytest.CaptureFixture[str]) -> None:
    covered, _, deviation, plain = spread(1000, 1000, error)
    with capsys.disabled():
        shares = f"{covered[0]:.3f} of cascade DR's and {covered[1]:.3f} of RIPS's intervals cover"
        print(f"\nmodel wrong by {error:.0%}: {shares}; deviation {deviation / plain:.2f} of RIPS")
    assert min(covered) >= 0.93


# ---- whole logs


def logged(policy: Policy, rows: int, k: int, seed: int = 0) -> tuple[Engine, ImpressionLog]:
    """People read from the top and stop at the first item they like: item i with probability (i + 1) / 12."""
    scores = np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    engine = Engine.from_factors(
        ["ann"], [[0.0, 0.0]], np.arange(6), np.eye(6, 2), item_bias=scores, seed=seed, objective="bpr"
    )
    random = np.random.default_rng(seed)
    ranking = engine.recommend(["ann"] * rows, k=k, explore=policy, seed=seed)
    for number, row in zip(engine.impression(ranking), ranking.ids, strict=True):
        for item in row:
            reward = float(random.random() < (item + 1) / 12)
            engine.feedback(number, item, reward, learn=False)
            if reward:
                break
    return engine, engine.impressions()


def softmax_earns(temperature: float, k: int) -> float:
    """On those people: of every list its probability times that somebody likes one of its items."""
    weights = np.exp(np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.0]) / temperature)
    total = 0.0
    for one in permutations(range(6), k):
        left, share, unliked = float(weights.sum()), 1.0, 1.0
        for item in one:
            share *= float(weights[item]) / left
            left -= float(weights[item])
            unliked *= 1 - (item + 1) / 12
        total += share * (1 - unliked)
    return total


def test_compare_of_lists_varies_less_with_a_model() -> None:
    _, log = logged(Random(), 3000, 3)
    comparison = ope.compare(log, {"soft": Softmax(0.7), "greedy": Greedy(), "random": Random()})
    for row in comparison.rows:
        robust, plain = row.estimates["cascade DR"], row.estimates["reward-interaction IPS"]
        assert robust.high - robust.low < 1.02 * (plain.high - plain.low), row.policy
    soft = comparison.rows[0].estimates["cascade DR"]
    assert abs(soft.value - softmax_earns(0.7, 3)) < 2.5 * (soft.high - soft.low) / 3.92
    uniform = comparison.rows[2].estimates["cascade DR"]
    assert uniform.low <= comparison.logged.value <= uniform.high


def test_compare_of_learning_policies() -> None:
    engine, log = logged(Random(), 1500, 2)
    policies: dict[str, Policy | tuple[Policy, Engine]] = {
        "thompson": (ThompsonSampling(2.0, samples=200), engine),
        "ucb": (UCB(1.0), engine),
        "greedy": (Greedy(), engine),
    }
    comparison = ope.compare(log, policies)
    chosen = {
        "ucb": engine.recommend("ann", k=2, explore=UCB(1.0)).ids[None],
        "greedy": engine.recommend("ann", k=2).ids[None],
        "thompson": engine.recommend(["ann"] * 4000, k=2, explore=ThompsonSampling(2.0), seed=1).ids,
    }
    for row in comparison.rows:
        likes = (chosen[row.policy] + 1) / 12
        truth = float(np.mean(likes[:, 0] + (1 - likes[:, 0]) * likes[:, 1]))
        for name in ("reward-interaction IPS", "cascade DR"):
            found = row.estimates[name]
            assert abs(found.value - truth) < 2 * (found.high - found.low) / 3.92 + 0.01, (row.policy, name)
    again = ope.compare(log, policies)
    assert again.to_dict() == comparison.to_dict()
    assert ope.compare(log, policies, seed=1).to_dict() != comparison.to_dict()


# ---- visitors, contexts, and candidates that are not there


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_visitors_are_ranked_again_by_their_session_and_context() -> None:
    rows = np.eye(4, 2)
    options: dict[str, Any] = {"objective": "softmax", "history": 3, "ranker": "linear", "item_features": ["price"]}
    engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["a", "b", "c", "d"], rows, **options)
    engine.set_item_features(["a", "b", "c", "d"], [[0.0], [1.0], [2.0], [3.0]])
    for context in ({"price": 2.0}, None):
        for whose in ({"user": "ann"}, {"history": ["b", "c"]}):
            ranking = engine.recommend(**whose, k=2, explore=Random(), context=context, seed=1)
            engine.feedback(engine.impression(ranking), str(ranking.ids[1]), 1.0, learn=False)
    log = engine.impressions()
    assert [row.context.tolist() for row in log] == [[2.0], [2.0], [], []]
    assert [row.history.tolist() for row in log] == [[], ["b", "c"], [], ["b", "c"]]
    # The engine that chose gives the scores that were logged.
    same, again = ope.compare(log, {"soft": Softmax(1.0)}), ope.compare(log, {"soft": (Softmax(1.0), engine)})
    for name, one in same.rows[0].estimates.items():
        assert one.value != 0
        assert one.value == pytest.approx(again.rows[0].estimates[name].value, rel=1e-5)
    other = Engine(dim=2)
    with pytest.raises(ValueError, match=r"impression 1 has a context of 1 item features, the engine has \[\]"):
        ope.compare(log, {"a": (Random(), other)})


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
def test_an_engine_would_not_show_what_it_does_not_know() -> None:
    _, log = logged(Random(), 400, 2)
    small = Engine.from_factors(["ann"], [[0.0]], [0, 1, 2], np.zeros((3, 1)), item_bias=[0.1, 0.2, 0.3])
    for policy in (Random(), ThompsonSampling(samples=50), UCB()):
        found = ope.compare(log, {"small": (policy, small)}).rows[0].estimates
        assert 0 < found["cascade DR"].value < 1
        if isinstance(policy, Random):  # 1/3 against 1/6, then 1/2 against 1/5; nothing below an unknown item
            total = alone = 0.0
            for row in log:
                top, below = np.nan_to_num(row.rewards)
                total += 2 * top * (row.items[0] < 3) + 5 * below * (row.items < 3).all()
                alone += 2 * top * (row.items[0] < 3) + 2 * below * (row.items[1] < 3)  # 1/3 against 1/6, each slot
            assert found["reward-interaction IPS"].value == pytest.approx(total / 400)
            assert found["independent IPS"].value == pytest.approx(alone / 400)


def test_removed_candidates_stay_in_the_estimates() -> None:
    engine, log = logged(Softmax(0.7), 500, 2)
    before = ope.compare(log, {"random": Random()})
    engine.remove_items([3])
    after = ope.compare(engine.impressions(), {"random": Random()})
    assert after.to_dict() == before.to_dict()

"""Off-policy evaluation: against the Open Bandit Pipeline, against worlds whose truth is known, and bad input."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine, ImpressionLog, ope
from recengine.diversify import MMR
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Random, Softmax, ThompsonSampling

DATA = Path(__file__).parent / "data"
Floats = npt.NDArray[np.float64]

# ---- the Open Bandit Pipeline's figures (bench/open_bandit.py)


def test_estimates_are_those_of_the_open_bandit_pipeline() -> None:
    expected = json.loads((DATA / "open_bandit.json").read_text())
    data = np.load(DATA / "open_bandit.npz")
    actions, rewards = int(data["actions"]), data["reward"].astype(np.float64)
    policy = 1.0 + np.arange(actions) % 5
    policy /= policy.sum()
    model = 0.002 + 0.001 * (np.arange(actions) % 7)[:, None] / (1 + np.arange(data["position"].max() + 1))
    target = policy[data["action"]]
    predicted, means = model[data["action"], data["position"]], (policy @ model)[data["position"]]
    weighted = rewards, data["pscore"], target
    random = np.random.default_rng(12345)
    shape = (2_000, 3)
    shown, wanted = 0.2 + 0.6 * random.random(shape), 0.2 + 0.6 * random.random(shape)
    earned = (random.random(shape) < 0.3 * wanted).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ope.OverlapWarning)
        found = [
            ope.ips(*weighted),
            ope.snips(*weighted),
            ope.dm(means),
            ope.dr(*weighted, predicted, means),
            ope.switch_dr(*weighted, predicted, means, tau=1.5),
            ope.independent_ips(earned, shown, wanted),
            ope.reward_interaction_ips(earned, shown, wanted),
        ]
    assert {one.estimator for one in found} == set(expected)
    for one in found:
        assert one.value == pytest.approx(expected[one.estimator], abs=1e-9), one.estimator
        assert one.low < one.value < one.high


# ---- worlds whose truth is known


class World:
    """Choices among five items in contexts of one number, whose rewards are known; a model that is a little wrong."""

    def __init__(self) -> None:
        self.items = np.arange(5)

    def rewards(self, contexts: Floats) -> Floats:
        return 0.15 + 0.12 * (self.items[None] + contexts[:, None])

    def shares(self, contexts: Floats, sharpness: float) -> Floats:
        weights = np.exp(sharpness * np.sin(self.items[None] * 2.0 + contexts[:, None]))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def run(self, rows: int, random: np.random.Generator) -> dict[str, Floats]:
        contexts = random.random(rows)
        means, shown, wanted = self.rewards(contexts), self.shares(contexts, 0.8), self.shares(contexts, -0.7)
        chosen = (shown.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
        at = np.arange(rows), chosen
        model = 0.8 * means + 0.1
        return {
            "rewards": (random.random(rows) < means[at]).astype(np.float64),
            "propensities": shown[at],
            "target": wanted[at],
            "predicted": model[at],
            "expected": (wanted * model).sum(axis=1),
        }

    def truth(self) -> float:
        contexts = (np.arange(200_000) + 0.5) / 200_000
        return float((self.shares(contexts, -0.7) * self.rewards(contexts)).sum(axis=1).mean())


def weighted(run: dict[str, Floats]) -> tuple[Floats, Floats, Floats]:
    return run["rewards"], run["propensities"], run["target"]


ESTIMATORS: dict[str, Callable[..., ope.Estimate]] = {
    "IPS": lambda run, **options: ope.ips(*weighted(run), **options),
    "SNIPS": lambda run, **options: ope.snips(*weighted(run), **options),
    "DR": lambda run, **options: ope.dr(*weighted(run), run["predicted"], run["expected"], **options),
    # One row in 14 weighs more, and goes by the model alone.
    "Switch-DR": lambda run, **options: ope.switch_dr(
        *weighted(run), run["predicted"], run["expected"], tau=4.0, **options
    ),
}

# A ratio of means has no empirical Bernstein bound.
INTERVALS = [
    (name, interval)
    for name in ESTIMATORS
    for interval in ("bootstrap", "normal", "bernstein")
    if (name, interval) != ("SNIPS", "bernstein")
]


def covered(runs: int, rows: int, estimate: Callable[..., ope.Estimate], interval: str) -> float:
    world, truth = World(), World().truth()
    hits = 0
    for seed in range(runs):
        found = estimate(world.run(rows, np.random.default_rng(seed)), interval=interval)
        hits += found.low <= truth <= found.high
    return hits / runs


@pytest.mark.parametrize(("name", "interval"), INTERVALS)
def test_intervals_cover_the_truth(name: str, interval: str) -> None:
    share = covered(150, 400, ESTIMATORS[name], interval)
    assert share >= (0.99 if interval == "bernstein" else 0.9)


@pytest.mark.long
@pytest.mark.parametrize(("name", "interval"), INTERVALS)
def test_intervals_cover_the_truth_in_a_thousand_runs(
    name: str, interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    share = covered(1000, 1000, ESTIMATORS[name], interval)
    with capsys.disabled():
        print(f"\n{name}, {interval}: {share:.3f} of 1,000 intervals cover")
    assert share >= 0.93


def test_estimators_agree_with_the_truth_on_many_rows() -> None:
    world = World()
    run = world.run(400_000, np.random.default_rng(1))
    for name in ("IPS", "SNIPS", "DR"):  # Switch-DR is biased by its model
        found = ESTIMATORS[name](run, interval="normal")
        assert abs(found.value - world.truth()) < 3 * (found.high - found.low) / 3.92, name
        assert not found.overlap_is_bad
    robust = ESTIMATORS["DR"](run, interval="normal")
    plain = ESTIMATORS["IPS"](run, interval="normal")
    assert robust.high - robust.low < plain.high - plain.low
    switched = ope.switch_dr(*weighted(run), run["predicted"], run["expected"], tau=math.inf)
    assert switched.value == pytest.approx(robust.value)
    direct = ope.switch_dr(*weighted(run), run["predicted"], run["expected"], tau=0.0)
    assert direct.value == pytest.approx(ope.dm(run["expected"]).value)


def test_intervals_of_many_rows_are_those_of_the_rows() -> None:
    """A bootstrap over groups is as wide as the normal interval over rows."""
    run = World().run(300_000, np.random.default_rng(2))
    for name in ("IPS", "SNIPS"):
        boot, normal = (ESTIMATORS[name](run, interval=interval) for interval in ("bootstrap", "normal"))
        assert boot.high - boot.low == pytest.approx(normal.high - normal.low, rel=0.1)


def test_lists_that_depend_on_what_is_above() -> None:
    """Reward-interaction IPS is right where a slot earns less below a good item; independent IPS is not."""
    random = np.random.default_rng(0)
    rows = 200_000
    shown, wanted = np.array([0.7, 0.3]), np.array([0.2, 0.8])  # of items 0 and 1, each slot drawn alike
    slots = (random.random((rows, 2)) > shown[0]).astype(int)

    def mean(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        top = 0.2 + 0.3 * first
        return top, np.where(first == 1, 0.05, 0.5) * (0.5 + 0.5 * second)

    above, below = mean(slots[:, 0], slots[:, 1])
    rewards = (random.random((rows, 2)) < np.column_stack([above, below])).astype(float)
    truth = sum(
        wanted[i] * wanted[j] * sum(float(value) for value in mean(np.array(i), np.array(j)))
        for i in (0, 1)
        for j in (0, 1)
    )
    cascade = ope.reward_interaction_ips(rewards, shown[slots], wanted[slots])
    alone = ope.independent_ips(rewards, shown[slots], wanted[slots])
    assert cascade.low <= truth <= cascade.high
    assert not alone.low <= truth <= alone.high


@pytest.mark.filterwarnings("ignore::recengine.ope.OverlapWarning")
@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_clusters_of_one_are_rows(seed: int) -> None:
    run = World().run(200, np.random.default_rng(seed))
    for name in ("IPS", "SNIPS"):
        alone = ESTIMATORS[name](run, interval="normal")
        grouped = ESTIMATORS[name](run, interval="normal", clusters=np.arange(200))
        assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    twice = {name: np.concatenate([values, values]) for name, values in run.items()}
    grouped = ESTIMATORS["IPS"](twice, interval="normal", clusters=np.tile(np.arange(200), 2))
    alone = ESTIMATORS["IPS"](run, interval="normal")
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))  # doubling tells nothing new


def test_effective_sample_and_overlap() -> None:
    rewards, half = np.ones(1000), np.full(1000, 0.5)
    assert ope.ips(rewards, half, half).effective_sample_size == pytest.approx(1000)
    target = np.where(np.arange(1000) < 5, 1.0, 0.0)
    with pytest.warns(ope.OverlapWarning, match=r"IPS: 1,000 rows count as 5.0 and the mean weight is 0.01"):
        found = ope.ips(rewards, half, target)
    assert found.overlap_is_bad
    assert (found.max_weight, found.rows) == (2.0, 1000)
    with pytest.warns(ope.OverlapWarning, match="lacks choices"):
        ope.snips(rewards, half, half * 0.5)
    with pytest.warns(ope.OverlapWarning, match="propensities are wrong"):
        clipped = ope.ips(rewards, np.tile([0.01, 0.99], 500), np.tile([0.02, 0.98], 500), clip=1.5)
    assert clipped.max_weight == 1.5


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ope.ips([1.0], [0.0], [0.5]), "propensities must be above 0.*0.0 at row 0"),
        (lambda: ope.ips([1.0, 1.0], [0.5, math.nan], [0.5, 0.5]), "nan at row 1.*no known propensities"),
        (lambda: ope.ips([1.0], [1.5], [0.5]), "1.5"),
        (lambda: ope.ips([1.0], [0.5], [-0.5]), "target.*-0.5"),
        (lambda: ope.ips([math.nan], [0.5], [0.5]), "rewards must be finite, not nan"),
        (lambda: ope.ips([1.0, 2.0], [0.5], [0.5]), "shape"),
        (lambda: ope.ips([], [], []), "empty"),
        (lambda: ope.ips([[1.0]], [[0.5]], [[0.5]]), "shape"),
        (lambda: ope.ips([1.0], [0.5], [0.5], clip=-1.0), "clip.*-1"),
        (lambda: ope.ips([1.0], [0.5], [0.5], confidence=1.0), "confidence.*1.0"),
        (lambda: ope.ips([1.0], [0.5], [0.5], interval="jackknife"), "jackknife"),  # type: ignore[arg-type]
        (lambda: ope.ips([1.0] * 40, [0.5] * 40, [0.5] * 40, clusters=[1]), "clusters"),
        (lambda: ope.ips([1.0, 0.0] * 40, [0.5] * 80, [0.5] * 80, interval="bernstein", bound=0.5), "bound.*0.5"),
        (lambda: ope.dm([math.inf]), "expected.*inf"),
        (lambda: ope.switch_dr([1.0], [0.5], [0.5], [0.5], [0.5], tau=-1.0), "tau.*-1"),
        (lambda: ope.independent_ips([1.0], [0.5], [0.5]), "shape"),
        (lambda: ope.reward_interaction_ips([[1.0, math.nan]], [[0.5, 0.5]], [[0.5, 0.5]]), "rewards"),
        (lambda: ope.independent_ips([[1.0]], [[math.nan]], [[0.5]]), "propensities is nan.*policy that is logged"),
        (lambda: ope.ips([1.0], [0.5], [math.nan]), "target is nan at row 0: the policy that is evaluated"),
    ],
)
def test_bad_columns_are_refused(call: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        call()


def test_bad_options_are_refused() -> None:
    columns = [1.0] * 50, [0.5] * 50, [0.5] * 50
    with pytest.raises(TypeError, match="confidnce"):
        ope.snips(*columns, confidnce=0.9)
    with pytest.raises(ValueError, match="ratio"):
        ope.snips(*columns, interval="bernstein")
    with pytest.raises(ValueError, match="clusters"):
        ope.ips(*columns, interval="bernstein", clusters=np.arange(50))


def test_a_ratio_of_nothing_is_nan() -> None:
    with pytest.warns(ope.OverlapWarning, match="flat: SNIPS: 50 rows count as 0.0 and the mean weight is 0 instead"):
        found = ope.snips([1.0] * 50, [0.5] * 50, [0.0] * 50, policy="flat")
    assert np.isnan([found.value, found.low, found.high]).all()
    assert (found.effective_sample_size, found.overlap_is_bad) == (0.0, True)


# ---- whole logs


def logged(policy: Policy, rows: int, k: int = 1, seed: int = 0) -> tuple[Engine, ImpressionLog]:
    """Item i is clicked with probability (i + 1) / 10, less in lower slots; scores have the worst of five first."""
    scores = np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    engine = Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=scores, seed=seed)
    random = np.random.default_rng(seed)
    ranking = engine.recommend(["ann"] * rows, k=k, explore=policy, seed=seed)
    numbers = engine.impression(ranking)
    for number, row in zip(numbers, ranking.ids, strict=True):
        for slot, item in enumerate(row):
            engine.feedback(number, item, float(random.random() < (item + 1) / 10 / (slot + 1)), learn=False)
    return engine, engine.impressions()


def test_compare_finds_the_better_policy() -> None:
    """What is logged is random; sharp policies go after scores that mislead."""
    _, log = logged(Random(), 3000)
    scores = np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    soft = np.exp(scores / 0.3) / np.exp(scores / 0.3).sum()
    means = (np.arange(5) + 1) / 10
    truth = {"uniform": means.mean(), "greedy": means[0], "soft": float(soft @ means)}
    comparison = ope.compare(log, {"uniform": Random(), "greedy": Greedy(), "soft": Softmax(0.3)})
    assert comparison.estimator == "DR"
    for row in comparison.rows:
        assert set(row.estimates) == {"IPS", "SNIPS", "DM", "DR", "Switch-DR"}
        for name in ("IPS", "SNIPS", "DR"):
            found = row.estimates[name]
            reach = 2.5 * (found.high - found.low) / 3.92 + 0.005
            assert abs(found.value - truth[row.policy]) < reach, (row.policy, name)
    assert comparison.rows[0].estimates["DR"].value > comparison.rows[2].estimates["DR"].value
    assert comparison.best is None  # uniform is what was logged: no better than it
    # Another engine, whose scores are right, wins with the same policy.
    right = Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=np.arange(5.0) * 0.25)
    better = ope.compare(log, {"old": Softmax(0.3), "new": (Softmax(0.3), right)}, clusters=False)
    assert better.best == "new"
    text = str(better)
    assert text.splitlines()[0].startswith("policy")
    assert len(text.splitlines()) == 4
    assert better.to_dict()["new"]["DR"]["value"] == better.rows[1].estimates["DR"].value


def test_compare_of_lists() -> None:
    _, log = logged(Random(), 3000, k=2)
    comparison = ope.compare(log, {"random": Random(), "soft": Softmax(0.5)})
    assert comparison.estimator == "cascade DR"
    random, soft = comparison.rows
    for name in ("independent IPS", "reward-interaction IPS", "cascade DR"):
        assert random.estimates[name].value == pytest.approx(comparison.logged.value, rel=0.02)
        assert soft.estimates[name].high < comparison.logged.value
    direct = logged(Softmax(0.5), 3000, k=2, seed=5)[1]
    earned = np.mean([np.nansum(row.rewards) for row in direct])
    for name in ("reward-interaction IPS", "cascade DR"):
        assert soft.estimates[name].low <= earned <= soft.estimates[name].high


def test_compare_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    _, log = logged(Random(), 200)
    ope.compare(log, {"soft": Softmax(1.0), "random": Random()}).plot(tmp_path / "policies.png")
    assert (tmp_path / "policies.png").stat().st_size > 1000


def test_compare_refuses_what_it_cannot_judge() -> None:
    engine, log = logged(Random(), 50)
    with pytest.raises(ValueError, match="empty"):
        ope.compare(ImpressionLog([]), {"a": Random()})
    with pytest.raises(ValueError, match="at least one"):
        ope.compare(log, {})
    for policy in (UCB(), ThompsonSampling(samples=5)):
        with pytest.raises(ValueError, match=rf"'a': {type(policy).__name__} .*give \({type(policy).__name__}.*engine"):
            ope.compare(log, {"a": policy})
    with pytest.raises(ValueError, match=r"'a': ThompsonSampling has no .*samples=n"):
        ope.compare(log, {"a": (ThompsonSampling(), engine)})
    with pytest.raises(TypeError, match="policy"):
        ope.compare(log, {"a": "greedy"})  # type: ignore[dict-item]
    for explore, diversify in ((UCB(), None), (ThompsonSampling(), None), (UCB(), MMR())):
        number = engine.impression(engine.recommend("ann", k=1, explore=explore, diversify=diversify))
        with pytest.raises(ValueError, match=f"impression {number} .*no propensities"):
            ope.compare(engine.impressions(), {"a": EpsilonGreedy(0.1)})
        engine, log = logged(Random(), 50)
    engine.impression(engine.recommend(history=[1], k=1, explore=Random(), seed=0))
    assert ope.compare(engine.impressions(), {"a": Random()}, clusters=True).rows[0].policy == "a"

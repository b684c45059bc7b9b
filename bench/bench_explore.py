"""What policies, diversity and feedback cost: 200 candidates, lists of 20, 64 dimensions; beside MABWiser and Vowpal
Wabbit, which choose one of the 200 where ours fills 20 slots. Policies are compared with those of their kind. Two rows
stand beside them without a bar: MABWiser's policies that know no contexts, and so choose alike for all users, which is
another task; and Vowpal Wabbit with the parsing of its text, which takes most of its time.

`over` is the time beyond the plain query that finds the same candidates, call by call in turns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from bench.figures import Report
from bench.side_by_side import Round, each, whole
from bench.turns import take_turns
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine, Feedback, ope
from recengine.diversify import DPP, MMR, Diversity, MaxPerGroup
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Random, Softmax, SquareCB, ThompsonSampling

DIM, CANDIDATES, K = 64, 200, 20
USERS = [(user,) for user in range(200)]
ASKED = USERS[:20]  # in a round of whole decisions
POLICIES: dict[str, tuple[Policy | None, Diversity | None, float | None]] = {
    "greedy": (Greedy(), None, None),
    "random": (Random(), None, None),
    "epsilon-greedy": (EpsilonGreedy(0.1), None, 5),
    "softmax": (Softmax(0.2), None, 5),
    "squarecb": (SquareCB(10.0), None, None),
    "thompson": (ThompsonSampling(1.0), None, 50),
    "thompson, shared": (ThompsonSampling(1.0, "shared"), None, 50),
    "ucb": (UCB(1.0), None, 50),
    "ucb, shared": (UCB(1.0, "shared"), None, 50),
    "mmr": (None, MMR(), 20),
    "dpp": (None, DPP(), 200),
    "max per group": (None, MaxPerGroup(2), None),
}


def made(items: int) -> Engine:
    random = np.random.default_rng(0)
    users, rows = (random.standard_normal((size, DIM)).astype(np.float32) / 8 for size in (len(USERS), items))
    engine = Engine.from_factors(np.arange(len(USERS)), users, np.arange(items), rows, objective="bpr")
    engine.set_groups(np.arange(items), np.arange(items) % 20)
    return engine


def bench_policies(benchmark: BenchmarkFixture, report: Report, rounds: int) -> None:
    """Over the query that finds 200 candidates among 5,000 items."""
    engine = made(5_000)

    def asks(explore: Policy | None, diversify: Diversity | None) -> Round:
        return each(lambda user: engine.recommend(user, k=K, explore=explore, diversify=diversify), USERS)

    sides = {"plain": each(lambda user: engine.recommend(user, k=CANDIDATES), USERS)}
    sides |= {name: asks(policy, diversity) for name, (policy, diversity, _) in POLICIES.items()}
    seconds = take_turns(sides, rounds, benchmark)
    plain = float(np.median(seconds["plain"])) * 1e6
    report("us, the query alone", plain)
    for name, (_, _, bar) in POLICIES.items():
        report(f"us, {name} over it", float(np.median(seconds[name])) * 1e6 - plain, at_most=bar)


def bench_feedback(benchmark: BenchmarkFixture, report: Report, rounds: int) -> None:
    """`feedback` to 1,000 of the latest impressions, with nothing learned and with."""
    engine = made(5_000)
    ranking = engine.recommend(3, k=K, explore=Softmax(0.2), seed=0)
    shown = [engine.impression(ranking) for _ in range(1_000)]
    item = ranking.ids[K // 2]
    joins = [(number, item, 1.0) for number in shown]
    seconds = take_turns(
        {
            "join": each(lambda *join: engine.feedback(*join, learn=False), joins),
            "join and learn": each(engine.feedback, joins),
            "impression": each(engine.impression, [(ranking,)] * 100),
        },
        rounds,
        benchmark,
    )
    report("us, join", float(np.median(seconds["join"])) * 1e6, at_most=2)
    report("us, join and learn (bpr)", float(np.median(seconds["join and learn"])) * 1e6)
    report("us, impression", float(np.median(seconds["impression"])) * 1e6)


def mabwiser_choices(engine: Engine) -> dict[str, Callable[[int], object]]:
    """Its policies, an arm an item, trained on five rewards an arm in the users' contexts."""
    mab = pytest.importorskip("mabwiser.mab")
    random = np.random.default_rng(1)
    decisions, rewards = np.tile(np.arange(CANDIDATES), 5), random.integers(0, 2, 5 * CANDIDATES)
    contexts = engine.factors().user_vectors[random.integers(len(USERS), size=len(decisions))].astype(np.float64)
    users = [engine.user_vector(user).astype(np.float64).reshape(1, -1) for (user,) in USERS]
    policy = mab.LearningPolicy
    choices: dict[str, Callable[[int], object]] = {}

    def by_context(model: Any, user: int) -> object:
        return model.predict(users[user])

    def alike(model: Any, _: int) -> object:
        return model.predict()

    for name, learning in (
        ("LinUCB", policy.LinUCB(alpha=1.0)),
        ("LinTS", policy.LinTS(alpha=1.0)),
        ("LinGreedy", policy.LinGreedy(epsilon=0.1)),
    ):
        model = mab.MAB(list(range(CANDIDATES)), learning)
        model.fit(decisions, rewards, contexts)
        choices[f"MABWiser {name}"] = partial(by_context, model)
    for name, learning in (("epsilon-greedy", policy.EpsilonGreedy(0.1)), ("softmax", policy.Softmax(0.2))):
        model = mab.MAB(list(range(CANDIDATES)), learning)
        model.fit(decisions, rewards)
        choices[f"MABWiser {name}, without contexts"] = partial(alike, model)
    return choices


def vw_choices(engine: Engine) -> dict[str, Callable[[int], object]]:
    """Contextual bandits over action-dependent features: an item's row and the user's vector, one beside the other;
    200 lessons before. Examples are parsed ahead; with the parsing of their text in the call by themselves."""
    vw = pytest.importorskip("vowpalwabbit")
    rows = engine.factors().item_vectors
    items = ["|i " + " ".join(f"{d}:{value:.4f}" for d, value in enumerate(row)) for row in rows]
    vectors = engine.factors().user_vectors
    shared = ["shared |u " + " ".join(f"{d}:{value:.4f}" for d, value in enumerate(row)) for row in vectors]
    random = np.random.default_rng(2)
    choices: dict[str, Callable[[int], object]] = {}

    def predict(model: Any, user: int) -> object:
        return model.predict([shared[user], *items])

    def predict_parsed(model: Any, examples: list[Any], user: int) -> object:
        return model.predict(examples[user])

    for name, options in (
        ("epsilon-greedy", "--epsilon 0.1"),
        ("softmax", "--softmax --lambda 5"),
        ("squarecb", "--squarecb"),
    ):
        model = vw.Workspace(f"--cb_explore_adf {options} --quiet")
        for user in range(200):
            taught = list(items)
            chosen = int(random.integers(CANDIDATES))
            taught[chosen] = f"0:{-int(random.integers(2))}:0.005 {taught[chosen]}"
            model.learn([shared[user], *taught])
        parsed = [model.parse([shared[user], *items]) for (user,) in ASKED]
        choices[f"Vowpal Wabbit {name}"] = partial(predict_parsed, model, parsed)
        choices[f"Vowpal Wabbit {name}, parsing"] = partial(predict, model)
    return choices


def bench_decisions(benchmark: BenchmarkFixture, report: Report, rounds: int) -> None:
    """A whole decision over 200 items: ours retrieves, scores and fills 20 slots with their probabilities."""
    engine = made(CANDIDATES)
    ours = {name: POLICIES[name] for name in ("epsilon-greedy", "softmax", "squarecb", "thompson", "ucb")}
    calls: dict[str, Callable[[int], Any]] = {
        f"recengine {name}": partial(engine.recommend, k=K, explore=policy) for name, (policy, _, _) in ours.items()
    }
    peers = mabwiser_choices(engine) | vw_choices(engine)
    seconds = take_turns({name: each(call, ASKED) for name, call in (calls | peers).items()}, min(rounds, 5), benchmark)
    medians = {name: float(np.median(values)) * 1e6 for name, values in seconds.items()}
    for name, value in medians.items():
        report(f"us, {name}", value)
    alike = {
        "epsilon-greedy": ("MABWiser LinGreedy", "Vowpal Wabbit epsilon-greedy"),
        "softmax": ("Vowpal Wabbit softmax",),
        "squarecb": ("Vowpal Wabbit squarecb",),
        "thompson": ("MABWiser LinTS",),
        "ucb": ("MABWiser LinUCB",),
    }
    for name, others in alike.items():
        for other in others:
            report(f"{other} over our {name}, times", medians[other] / medians[f"recengine {name}"], at_least=10)
    for name in ("epsilon-greedy", "softmax", "squarecb"):
        ratio = medians[f"Vowpal Wabbit {name}, parsing"] / medians[f"recengine {name}"]
        report(f"Vowpal Wabbit {name}, parsing, over our {name}, times", ratio)


def bench_compare(benchmark: BenchmarkFixture, report: Report, small: bool) -> None:
    """`ope.compare` of logs with 200 candidates, a further policy: of lists of one, and of 20 with marginals."""
    engine = made(5_000)
    rows = {1: 1_000 if small else 40_000, K: 200 if small else 2_000}
    for k, count in rows.items():
        engine.feedback_settings = Feedback(capacity=count)
        for _ in range(count // len(USERS)):
            engine.impression(engine.recommend([user for (user,) in USERS], k=k, explore=Softmax(0.2)))
        log = engine.impressions()
        choices: dict[str, Any] = {"softmax": Softmax(0.1), "engine": (Softmax(0.1), engine)}
        if k > 1:
            choices["thompson"] = (ThompsonSampling(samples=1000), engine)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ope.OverlapWarning)
            base = {"random": Random()}
            sides = {"base": whole(partial(ope.compare, log, base))}
            sides |= {name: whole(partial(ope.compare, log, {**base, name: one})) for name, one in choices.items()}
            seconds = take_turns(sides, 3, benchmark if k == 1 else None)
        medians = {name: float(np.median(values)) * 1e6 / count for name, values in seconds.items()}
        report(f"us a row, lists of {k}, one policy", medians["base"])
        for name in choices:
            report(f"us a row, lists of {k}, {name} beside it", medians[name] - medians["base"])


def bench_doubly_robust(benchmark: BenchmarkFixture, report: Report, small: bool) -> None:
    """DR on a million rows, with its bootstrap interval."""
    random = np.random.default_rng(0)
    rows = 10_000 if small else 1_000_000
    target = 0.2 + 0.6 * random.random(rows)  # of the first of two choices; both are shown alike
    first = random.random(rows) < 0.5
    rewards = (random.random(rows) < np.where(first, 0.4, 0.2)).astype(np.float64)
    shown, wanted = np.full(rows, 0.5), np.where(first, target, 1 - target)
    predicted, expected = np.where(first, 0.35, 0.25), 0.35 * target + 0.25 * (1 - target)
    seconds = take_turns({"DR": whole(lambda: ope.dr(rewards, shown, wanted, predicted, expected))}, 3, benchmark)
    report("s, DR with its interval", float(np.median(seconds["DR"])), at_most=2)

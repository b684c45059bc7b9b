"""Which policy a log says is ahead of all others, and when it says nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recengine import Engine, ImpressionLog, ope
from recengine.explore import EpsilonGreedy, Greedy, Policy, Random, Softmax
from recengine.ope.contest import leads_of, winner

SCORES = np.array([1.0, 0.75, 0.5, 0.25, 0.0])


def logged(policy: Policy, rows: int, seed: int = 0) -> ImpressionLog:
    """Item i is clicked with probability (i + 1) / 10; scores have the worst of five first."""
    engine = Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=SCORES, seed=seed)
    random = np.random.default_rng(seed)
    ranking = engine.recommend(["ann"] * rows, k=1, explore=policy, seed=seed)
    for number, (item,) in zip(engine.impression(ranking), ranking.ids, strict=True):
        engine.feedback(number, item, float(random.random() < (item + 1) / 10), learn=False)
    return engine.impressions()


def scored(scores: Any) -> Engine:
    return Engine.from_factors(["ann"], [[0.0]], np.arange(5), np.zeros((5, 1)), item_bias=scores)


def test_a_policy_that_the_log_does_not_show_neither_wins_nor_stands_in_the_way(tmp_path: Path) -> None:
    log = logged(EpsilonGreedy(0.2), 2_000)
    only = ImpressionLog([row for row in log if row.slate[0] == 0])  # as if only the best had ever been shown
    choices: dict[str, Any] = {"last": (Greedy(), scored(SCORES[::-1])), "same": EpsilonGreedy(0.2)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = ope.compare(only, choices)
    told = [str(warning.message) for warning in caught]
    assert any(message.startswith("last: SNIPS: ") and "count as 0.0" in message for message in told)
    last, same = found.rows
    assert np.isnan(last.estimates["SNIPS"].value)
    assert last.estimates["IPS"].value == 0.0
    assert last.estimates["DR"].overlap_is_bad
    assert np.isfinite(same.estimates["SNIPS"].value)
    assert "nan" in str(found)
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "policies.png")
    assert found.best is None
    assert {lead.policy for lead in found.leads} <= {"same"}
    # Beside it another one can win.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ope.OverlapWarning)
        better = ope.compare(
            logged(Random(), 3_000), {"right": (Softmax(0.2), scored(-SCORES)), "off": (Greedy(), missing())}
        )
    assert better.best == "right"
    assert [lead.over for lead in better.leads] == ["logged"]


def missing() -> Engine:
    """Knows none of the items."""
    return Engine.from_factors(["ann"], [[0.0]], [77], [[0.0]])


def test_differences_are_of_the_same_impressions() -> None:
    """Two policies of which each interval holds the other's value, and one is better for certain."""
    log = logged(Random(), 6_000)
    found = ope.compare(log, {"soft": (Softmax(1.0), scored(-SCORES)), "softer": (Softmax(1.2), scored(-SCORES))})
    soft, softer = (row.estimates["DR"] for row in found.rows)
    assert softer.low < soft.value < softer.high
    assert soft.low < softer.value < soft.high
    assert found.best == "soft"
    assert [(lead.policy, lead.over) for lead in found.leads] == [("soft", "softer"), ("soft", "logged")]
    assert found.leads[0].value == pytest.approx(soft.value - softer.value)
    assert 0 < found.leads[0].low < found.leads[0].value < found.leads[0].high


def test_the_best_of_many_that_are_alike_is_none() -> None:
    """In at most 5 % of logs, however many policies there are: here all are alike."""
    named = 0
    for seed in range(80):
        random = np.random.default_rng(seed)
        logged_rewards = random.random(50)
        terms = {str(name): logged_rewards + random.normal(size=50) for name in range(6)}
        named += winner(leads_of(terms, logged_rewards, {"seed": seed})) is not None
    assert named <= 80 * 0.05
    assert winner(leads_of({}, np.zeros(3), {"seed": 0})) is None


def test_clusters_count_once() -> None:
    """The same impressions ten times over tell nothing new."""
    random = np.random.default_rng(0)
    logged_rewards = random.random(40)
    terms = {"a": logged_rewards + 0.2 + random.normal(size=40)}
    alone = leads_of(terms, logged_rewards, {"seed": 0})[0]
    many = {name: np.tile(values, 10) for name, values in terms.items()}
    users = np.tile(np.arange(40), 10)
    together = leads_of(many, np.tile(logged_rewards, 10), {"seed": 0, "clusters": users})[0]
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    apart = leads_of(many, np.tile(logged_rewards, 10), {"seed": 0})[0]
    assert apart.high - apart.low < 0.5 * (alone.high - alone.low)


def test_the_name_of_what_ran_is_taken() -> None:
    with pytest.raises(ValueError, match="'logged' is the name of what ran"):
        ope.compare(logged(Random(), 10), {"logged": Random()})

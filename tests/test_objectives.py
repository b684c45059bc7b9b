"""The objectives: formulas against their losses, and one step of the engine against the gradient of its loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from recengine import Engine
from reference.learner import Learner
from reference.objectives import OBJECTIVES, POINTWISE, Floats, Objective, loss, slopes

SEEDS = st.integers(0, 2**32 - 1)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def numeric_gradient(function: Callable[[Floats], float], at: Floats) -> Floats:
    """Central differences, with an error of about 1e-9 for functions of order 1."""
    step = 1e-5
    shifts = step * np.eye(at.size).reshape(at.size, *at.shape)
    return np.array([(function(at + shift) - function(at - shift)) / (2 * step) for shift in shifts]).reshape(at.shape)


def some_value(objective: Objective, rng: np.random.Generator) -> float:
    choice_or_dislike = float(rng.choice([1.0, -1.0]))
    return {"logistic": float(rng.integers(2)), "squared": float(rng.uniform(-2, 2))}.get(objective, choice_or_dislike)


@every_objective
@settings(max_examples=25, deadline=None)
@given(negatives=st.integers(0, 5), seed=SEEDS)
def test_slopes_are_those_of_the_loss(objective: Objective, negatives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, 1 if objective == "squared" else 1 + negatives)
    correction = np.concatenate([[1.0], rng.uniform(0.1, 10, len(scores) - 1)])
    value = some_value(objective, rng)
    expected = numeric_gradient(lambda s: loss(objective, s, value, correction), scores)
    np.testing.assert_allclose(slopes(objective, scores, value, correction), expected, atol=1e-8)


@dataclass
class Parameters:
    """All that one event can move. `flat` and `of` go back and forth."""

    user: Floats
    items: Floats
    item_biases: Floats
    user_bias: float
    global_bias: float

    def flat(self) -> Floats:
        return np.concatenate([self.user, self.items.ravel(), self.item_biases, [self.user_bias, self.global_bias]])

    @classmethod
    def of(cls, flat: Floats, count: int, dim: int) -> Parameters:
        user, items, biases, rest = np.split(flat, np.cumsum([dim, count * dim, count]))
        return cls(user, items.reshape(count, dim), biases, rest[0], rest[1])


def current(engine: Engine) -> Parameters:
    factors = engine.factors()
    return Parameters(
        factors.user_vectors[0].astype(np.float64),
        factors.item_vectors.astype(np.float64),
        factors.item_biases.astype(np.float64),
        float(factors.user_biases[0]),
        factors.global_bias,
    )


NEGLIGIBLE = 1e-3  # slopes with a history, as docs/objectives.md has it


@every_objective
@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(
    dim=st.integers(1, 20),
    history=st.lists(st.integers(0, 29), max_size=6),
    item=st.integers(0, 29),
    weight=st.sampled_from([0.25, 1.0, 2.0]),
    l2=st.sampled_from([0.0, 0.125]),
    seed=SEEDS,
)
def test_one_step_goes_down_the_gradient(
    objective: Objective, dim: int, history: list[int], item: int, weight: float, l2: float, seed: int
) -> None:
    """SGD at rate 1 moves everything by minus the numeric gradient of the loss, composed user vector included.

    Tables of order 1 in float32 (relative error 6e-8, some tens of operations): equal within 1e-4 at the sizes here.
    """
    rng = np.random.default_rng(seed)
    count = 30
    engine = Engine(
        dim=dim, objective=objective, optimizer="sgd", learning_rate=1.0, max_step=1e3, l2=l2, seed=seed,
        negatives=0 if objective == "squared" else 3, history=4, history_decay=0.75, recent_share=0.5,
    )  # fmt: skip
    engine.set_items(np.arange(count), rng.normal(0, 0.5, (count, dim)), rng.normal(0, 0.5, count))
    engine.set_users([7], rng.normal(0, 0.5, (1, dim)), rng.normal(0, 0.5, 1))
    drawn = Learner(engine.settings)
    for place in range(count):
        drawn.items.place(place)
    for past in history:  # observed without learning
        engine.learn_one(7, past, weight=0.0)
        drawn.learn(7, past, weight=0.0)
    value = some_value(objective, rng)
    candidates, correction = drawn.candidates(0, item, value)
    assume(len(set(candidates)) == len(candidates))
    last_items = drawn.history(0)

    def total_loss(flat: Floats) -> float:
        theta = Parameters.of(flat, count, dim)
        x = theta.user + sum((w * theta.items[h] for h, w, _ in last_items), np.zeros(dim))
        scores = theta.items[candidates] @ x + theta.item_biases[candidates]
        decayed = [theta.user, theta.items[candidates], theta.item_biases[candidates]]
        if objective in POINTWISE:
            scores = scores + theta.user_bias + theta.global_bias
            decayed.append(np.array([theta.user_bias]))
        return weight * loss(objective, scores, value, correction) + l2 / 2 * sum(float(np.sum(p**2)) for p in decayed)

    before = current(engine)
    gradient = Parameters.of(numeric_gradient(total_loss, before.flat()), count, dim)
    slopes = gradient.item_biases[candidates] - l2 * before.item_biases[candidates]
    assume(np.all(np.abs(slopes) > 2 * NEGLIGIBLE * weight))  # of others the step is left out
    engine.learn_one(7, item, value, weight)
    after = current(engine)

    moved = Parameters.of(before.flat() - after.flat(), count, dim)
    if objective == "squared":  # the mean is no parameter but an average: of this first rating
        assert after.global_bias == np.float32(value)
        moved.global_bias = gradient.global_bias
    np.testing.assert_allclose(moved.flat(), gradient.flat(), atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_negatives_are_drawn_as_often_as_their_correction_says(share: float) -> None:
    """1 / (n Q_j) must be one over the number of times that j is drawn, or the sampled softmax is biased.

    20,000 draws give each frequency within 5 standard deviations.
    """
    wanted, count = 20_000, 8
    engine = Engine(dim=1, negatives=wanted, recent_share=share, seed=5, ranker=None)
    learner = Learner(engine.settings)
    for place in range(count):
        learner.items.place(place)
    learner.users.place("nobody")  # has no history
    for item in [0, 0, 0, 0, 1, 1, 2]:
        learner.learn("somebody", item, weight=0.0)
    candidates, correction = learner.candidates(0, 0, 1.0)
    times = Counter(candidates[1:])
    expected = {j: 1 / c for j, c in zip(candidates[1:], correction[1:], strict=True)}
    assert set(expected) == set(range(1, count))
    assert sum(expected.values()) == pytest.approx(wanted)
    for j, often in expected.items():
        assert abs(times[j] - often) < 5 * np.sqrt(often)

"""Policies and diversity against their slow reference, by enumeration, and by frequency."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine, Ranking, _core
from recengine.diversify import DPP, MMR, MaxPerGroup
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

CLOSED: list[tuple[Policy, str, float]] = [
    (Greedy(), "greedy", 0.0),
    (Random(), "random", 0.0),
    (EpsilonGreedy(0.3), "epsilon_greedy", 0.3),
    (Softmax(0.7), "softmax", 0.7),
    (SquareCB(5.0), "squarecb", 5.0),
]
CHANCE = CLOSED[1:]
NAMES = [name for _, name, _ in CLOSED]


def made(scores: Any, rows: Any = None, **settings: Any) -> Engine:
    """An engine in which "ann" has exactly these scores for items 0, 1, ..."""
    items = np.zeros((len(scores), 4), np.float32) if rows is None else np.asarray(rows, np.float32)
    ids = np.arange(len(scores))
    return Engine.from_factors(["ann"], np.zeros((1, items.shape[1])), ids, items, item_bias=scores, **settings)


def logs_of(ranking: Ranking) -> Any:
    assert ranking.log_propensities is not None
    return ranking.log_propensities


def descending(size: int, seed: int, spread: float = 1.0) -> npt.NDArray[np.float32]:
    return np.sort(np.random.default_rng(seed).normal(scale=spread, size=size).astype(np.float32))[::-1].copy()


scores_of = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12).map(
    lambda values: np.sort(np.array(values, np.float32))[::-1].copy()
)


@pytest.mark.parametrize(("policy", "name", "parameter"), CLOSED, ids=NAMES)
@given(scores=scores_of, data=st.data())
@settings(max_examples=60, deadline=None)
def test_propensities_are_those_of_the_reference(
    policy: Policy, name: str, parameter: float, scores: npt.NDArray[np.float32], data: st.DataObject
) -> None:
    slate = data.draw(st.permutations(range(len(scores))).map(lambda order: order[: data.draw(st.integers(1, 12))]))
    groups = data.draw(st.sampled_from([[], [i % 3 for i in range(len(scores))]]))
    limit = MaxPerGroup(2) if groups else None
    found = core_explore(policy, limit).log_propensities(scores, groups, slate)
    expected = reference.log_propensities(name, parameter, scores.astype(np.float64), slate, groups, 2)
    # A slate beyond what a group may have is impossible from there on.
    if -math.inf in expected:
        at = expected.index(-math.inf)
        expected, found = expected[: at + 1], found[: at + 1]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("policy", "name", "parameter"), CLOSED, ids=NAMES)
def test_slates_of_a_small_set_sum_to_one(policy: Policy, name: str, parameter: float) -> None:
    scores = descending(6, 1)
    core = core_explore(policy, None)
    for k in (1, 3, 6):
        total = math.fsum(math.exp(core.log_propensities(scores, [], s).sum()) for s in reference.all_slates(6, k))
        assert total == pytest.approx(1, abs=1e-12)
    shares = [math.exp(core.log_propensities(scores, [], [2, i])[1]) for i in range(6) if i != 2]
    assert math.fsum(shares) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("policy", "name", "parameter"), CHANCE, ids=NAMES[1:])
@pytest.mark.parametrize("groups", [False, True])
def test_lists_come_as_often_as_they_say(policy: Policy, name: str, parameter: float, groups: bool) -> None:
    """Chi-square over all ordered lists of 2 of 5 candidates; a fixed seed, so this passes or fails for good."""
    engine = made(descending(5, 3, 0.4))
    if groups:
        engine.set_groups([0, 1, 2], ["a", "a", "a"])
    draws = 20_000
    limit = MaxPerGroup(1) if groups else None
    drawn = engine.recommend(["ann"] * draws, k=2, explore=policy, diversify=limit, seed=11)
    assert drawn.log_propensities is not None
    expected = {
        tuple(row): math.exp(logs)
        for row, logs in zip(drawn.ids.tolist(), drawn.log_propensities.sum(axis=1), strict=True)
    }
    seen = Counter(map(tuple, drawn.ids.tolist()))
    assert math.fsum(expected.values()) == pytest.approx(1, abs=1e-3)
    assert len(expected) == (14 if groups else 20)
    statistic = sum((seen[row] - draws * share) ** 2 / (draws * share) for row, share in expected.items())
    freedom = len(expected) - 1
    # The 99.9 % quantile by Wilson and Hilferty's approximation.
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize(("policy", "name", "parameter"), CLOSED, ids=NAMES)
def test_rankings_say_what_the_reference_says(policy: Policy, name: str, parameter: float) -> None:
    scores = descending(40, 5)
    engine = made(scores)
    for seed in range(20):
        ranking = engine.recommend("ann", k=8, explore=policy, seed=seed)
        ids, shown = ranking
        assert len(set(ids.tolist())) == 8
        np.testing.assert_array_equal(shown, scores[ids])
        expected = reference.log_propensities(name, parameter, scores.astype(np.float64), ids.tolist())
        np.testing.assert_allclose(logs_of(ranking), expected, rtol=1e-9, atol=1e-9)
        again = engine.recommend("ann", k=8, explore=policy, seed=seed)
        assert again.ids.tolist() == ids.tolist()
        assert ranking.seed == seed
        assert ranking.candidates[0].tolist() == list(range(40))


def test_extreme_scores_stay_finite() -> None:
    scores = np.array([1e15, 1.0, 0.0, -1e15], np.float32)
    for policy in (Softmax(1e-9), Softmax(1e9), SquareCB(1e9), SquareCB(0.0)):
        logs = core_explore(policy, None).log_propensities(scores, [], [0, 1, 2, 3])
        assert np.all(logs <= 1e-12)
        assert not np.isnan(logs).any()
        assert logs[-1] == pytest.approx(0, abs=1e-9)
        assert made(scores).recommend("ann", k=4, explore=policy, seed=0).counts == 4


def test_the_candidates_are_as_many_as_the_policy_says() -> None:
    engine = made(descending(500, 7))
    assert len(engine.recommend("ann", k=5, explore=Random(), seed=0).candidates[0]) == 200
    assert len(engine.recommend("ann", k=5, explore=Random(candidates=7), seed=0).candidates[0]) == 7
    ranking = engine.recommend("ann", k=20, explore=Random(candidates=7), seed=0)
    assert len(ranking.candidates[0]) == ranking.counts == 20  # at least as many as results
    assert set(engine.recommend("ann", k=5, among=[3, 4, 5], explore=Random(), seed=0).ids.tolist()) == {3, 4, 5}


def test_batches_draw_apart_and_reproduce() -> None:
    engine = made(descending(50, 8))
    users = ["ann", "nobody", "ann"] * 20
    first = engine.recommend(users, k=4, explore=Softmax(1.0), seed=3)
    again = engine.recommend(users, k=4, explore=Softmax(1.0), seed=3)
    assert first.ids.tolist() == again.ids.tolist()
    assert len(set(map(tuple, first.ids[::3].tolist()))) > 10
    assert logs_of(first).shape == first.ids.shape == (60, 4)
    alone = engine.recommend("ann", k=4, explore=Softmax(1.0), seed=int(first.seed[3]))
    assert alone.ids.tolist() == first.ids[3].tolist()
    assert engine.recommend([], k=4, explore=Random()).ids.shape == (0, 4)
    short = engine.recommend(["ann"], k=60, explore=Random(), seed=0)
    assert np.array(short.counts).tolist() == [50]
    assert np.isnan(logs_of(short)[0, 50:]).all()


def test_the_engines_own_seeds_count_up_and_reproduce() -> None:
    def lists() -> list[Any]:
        engine = made(descending(50, 8), seed=4)
        return [engine.recommend("ann", k=4, explore=Random()).ids.tolist() for _ in range(5)]

    assert lists() == lists()
    assert len(set(map(tuple, lists()))) == 5


def test_sessions_and_strangers_explore_too() -> None:
    engine = Engine(dim=8, seed=0)
    engine.learn_many([1, 1, 2, 2, 3], [10, 11, 10, 12, 13])
    session = engine.recommend(history=[10], k=3, explore=Softmax(1.0), seed=1, exclude_seen=True)
    assert 10 not in session.ids.tolist()
    stranger = engine.recommend(99, k=4, explore=EpsilonGreedy(0.5), seed=1)
    assert sorted(stranger.ids.tolist()) == [10, 11, 12, 13]


def test_whom_nobody_knows_is_shown_items_by_how_popular_they_are() -> None:
    """Softmax(T) in proportion to (1 + count)^(1 / T)."""
    engine = Engine(dim=8, seed=0, objective="bpr", history=0)
    for item, count in enumerate((40, 10, 3, 0)):
        engine.learn_many([1] * count, [item] * count)
    engine.set_items([3], np.zeros((1, 8)))
    whose: list[dict[str, Any]] = [{"user": 99}, {"history": []}]
    for whom in whose:
        ranking = engine.recommend(**whom, k=1, explore=Softmax(2.0), seed=0)
        candidates, scores = ranking.candidates
        assert candidates.tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(scores, np.log1p([40, 10, 3, 0]), rtol=1e-5)
        np.testing.assert_array_equal(engine.recommend(**whom, k=4).scores, [40, 10, 3, 0])
    drawn = engine.recommend([99] * 10_000, k=1, explore=Softmax(2.0), seed=1).ids[:, 0]
    weights = np.sqrt([41, 11, 4, 1])
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 10_000, weights / weights.sum(), atol=0.02)
    own = engine._core.ranking_scores(99, [], candidates, [])
    np.testing.assert_array_equal(own, scores)


# ---- the linear model


def deviations(shown: npt.NDArray[np.float64], shared: bool) -> npt.NDArray[np.float64]:
    """The covariance after rows were shown, oldest first."""
    dim = shown.shape[1]
    precision, kept = np.zeros((dim, dim)), 0.99999 if shared else 0.999
    for row in shown:
        precision = precision * kept + np.outer(row, row)
    precision = precision if shared else np.diag(np.diag(precision))
    return np.asarray(np.linalg.inv(np.eye(dim) + precision), dtype=np.float64)


@pytest.mark.parametrize("precision", ["diagonal", "shared"])
def test_ucb_is_the_score_and_so_many_deviations(precision: Any) -> None:
    random = np.random.default_rng(0)
    rows, scores = random.normal(size=(60, 8)), descending(60, 9)
    engine = made(scores, rows)
    policy = UCB(0.7, precision)
    shown, times = np.zeros((0, 8)), np.zeros(60)
    for _ in range(4):  # 4, 8, 12, 16 rows: of the shared matrix those up to a power of two count
        ranking = engine.recommend("ann", k=4, explore=policy)
        assert np.isnan(logs_of(ranking)).all()
        known = shown if precision == "diagonal" else shown[: 2 ** int(math.log2(len(shown)))] if len(shown) else shown
        square = np.einsum("id,de,ie->i", rows, deviations(known, precision == "shared"), rows)
        spread = np.sqrt(square + 1 / (1 + times))
        bounds = scores + 0.7 * spread
        assert ranking.ids.tolist() == np.argsort(-bounds)[:4].tolist()
        engine.impression(ranking)
        shown = np.vstack([shown, rows[ranking.ids]])
        times[ranking.ids] = times[ranking.ids] * 0.999 + 1


@pytest.mark.parametrize("precision", ["diagonal", "shared"])
def test_thompson_draws_from_the_posterior(precision: Any) -> None:
    """With two candidates the first wins with probability Phi(gap / deviation of the difference)."""
    rows = np.array([[1.0, 0.5, 0, 0], [0.2, -0.3, 0.4, 0]])
    scores = np.array([0.6, 0.0], np.float32)
    engine = made(scores, rows)
    for explore in (UCB(1.0, precision), Greedy()):  # the shared matrix is kept from the first list of UCB on
        engine.impression(engine.recommend("ann", k=2, explore=explore))
    covariance = deviations(np.vstack([rows, rows]), precision == "shared")
    difference = rows[0] - rows[1]
    deviation = 1.5 * math.sqrt(difference @ covariance @ difference + 2 / (1 + 1.999))
    expected = 0.5 * (1 + math.erf(0.6 / deviation / math.sqrt(2)))
    draws = 20_000
    drawn = engine.recommend(["ann"] * draws, k=1, explore=ThompsonSampling(1.5, precision), seed=2)
    share = float(np.mean(drawn.ids == 0))
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / draws)
    ranking = engine.recommend("ann", k=2, explore=ThompsonSampling(1.5, precision, samples=20_000), seed=2)
    logs, errors = ranking.log_propensities, ranking.log_propensity_errors
    assert logs is not None
    assert errors is not None
    truth = expected if ranking.ids[0] == 0 else 1 - expected
    assert abs(logs[0] - math.log(truth)) < 4 * errors[0]
    assert logs[1] == pytest.approx(0, abs=1e-4)  # only one is left


def test_thompson_estimates_match_its_lists() -> None:
    random = np.random.default_rng(1)
    rows, scores = random.normal(size=(6, 4)), descending(6, 10)
    engine = made(scores, rows)
    draws = 20_000
    drawn = engine.recommend(["ann"] * draws, k=2, explore=ThompsonSampling(0.8), seed=5)
    assert np.isnan(logs_of(drawn)).all()
    estimated = engine.recommend(["ann"] * 300, k=2, explore=ThompsonSampling(0.8, samples=4000), seed=6)
    seen = Counter(map(tuple, drawn.ids.tolist()))
    for row, logs in zip(estimated.ids.tolist(), logs_of(estimated).sum(axis=1), strict=True):
        share = seen[tuple(row)] / draws
        assert abs(math.exp(logs) - share) < 5 * math.sqrt(max(share, 1e-3) / draws) + 0.15 * share
    nothing = engine.recommend("ann", k=6, explore=ThompsonSampling(0.0), seed=0)
    assert nothing.ids.tolist() == list(range(6))


# ---- diversity

tables = st.integers(0, 2**32 - 1)


@given(seed=tables, count=st.integers(1, 15), k=st.integers(1, 15), weight=st.sampled_from([0.0, 0.3, 0.7, 1.0]))
@settings(max_examples=60, deadline=None)
def test_mmr_is_that_of_the_reference(seed: int, count: int, k: int, weight: float) -> None:
    random = np.random.default_rng(seed)
    rows, scores = random.normal(size=(count, 5)).astype(np.float32), descending(count, seed)
    found = made(scores, rows).recommend("ann", k=k, diversify=MMR(weight))
    assert found.ids.tolist() == reference.mmr(scores.astype(float), rows.astype(float), weight, k)
    assert found.log_propensities is not None
    assert found.log_propensities.tolist() == [0.0] * found.counts


@given(seed=tables, count=st.integers(1, 12), k=st.integers(1, 5), theta=st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_dpp_is_that_of_the_reference(seed: int, count: int, k: int, theta: float) -> None:
    random = np.random.default_rng(seed)
    rows, scores = random.normal(size=(count, 6)).astype(np.float32), descending(count, seed)
    found = made(scores, rows).recommend("ann", k=k, diversify=DPP(theta)).ids.tolist()
    assert found == reference.dpp(scores.astype(float), rows.astype(float), theta, k)


def test_a_dpp_of_full_rank_ends_by_relevance() -> None:
    rows = np.repeat(np.eye(3, 4, dtype=np.float32), 4, axis=0)  # three directions: rank four
    found = made(descending(12, 2), rows).recommend("ann", k=12, diversify=DPP(0.5)).ids.tolist()
    assert sorted(found) == list(range(12))
    assert found[:3] == [0, 4, 8]
    assert found[3:] == sorted(found[3:])
    zeros = made(descending(5, 2)).recommend("ann", k=5, diversify=DPP(0.5))
    assert zeros.ids.tolist()[0] == 0


def test_a_policy_draws_from_what_diversity_left() -> None:
    random = np.random.default_rng(4)
    rows, scores = random.normal(size=(40, 5)).astype(np.float32), descending(40, 4)
    engine = made(scores, rows)
    for diversify, pool in ((MMR(0.5), 20), (MMR(0.5, pool=7), 7), (DPP(0.6, pool=3), 5)):
        order = engine.recommend("ann", k=pool, diversify=diversify).ids.tolist()
        ranking = engine.recommend("ann", k=5, explore=Softmax(0.7), diversify=diversify, seed=1)
        candidates, candidate_scores = ranking.candidates
        assert candidates.tolist() == sorted(order)
        slate = [candidates.tolist().index(item) for item in ranking.ids.tolist()]
        expected = reference.log_propensities("softmax", 0.7, candidate_scores.astype(np.float64), slate)
        np.testing.assert_allclose(logs_of(ranking), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("diversify", [MMR(0.6), DPP(0.6)])
def test_ucb_is_reordered_and_has_no_propensities(diversify: Any) -> None:
    """A choice without chance: its bounds take the place of the scores."""
    random = np.random.default_rng(4)
    rows, scores = random.normal(size=(40, 5)), descending(40, 4)
    ranking = made(scores, rows).recommend("ann", k=5, explore=UCB(0.5), diversify=diversify)
    bounds = scores + 0.5 * np.sqrt((rows.astype(np.float32) ** 2).sum(axis=1) + 1)
    order = getattr(reference, "mmr" if isinstance(diversify, MMR) else "dpp")
    assert ranking.ids.tolist() == order(bounds, rows, 0.6, 5)
    assert np.isnan(logs_of(ranking)).all()


@pytest.mark.parametrize("diversify", [MMR(0.6, pool=8), DPP(0.6, pool=8)])
def test_thompson_sampling_draws_from_what_diversity_left(diversify: Any) -> None:
    """Its propensities are as often as its lists come, from that pool."""
    random = np.random.default_rng(4)
    rows, scores = random.normal(size=(40, 5)), descending(40, 4)
    engine = made(scores, rows)
    pool = sorted(engine.recommend("ann", k=8, diversify=diversify).ids.tolist())
    draws = 10_000
    drawn = engine.recommend(["ann"] * draws, k=1, explore=ThompsonSampling(0.5), diversify=diversify, seed=2)
    assert np.isnan(logs_of(drawn)).all()
    ranking = engine.recommend("ann", k=3, explore=ThompsonSampling(0.5, samples=10_000), diversify=diversify, seed=1)
    assert ranking.candidates[0].tolist() == pool
    assert set(drawn.ids[:, 0].tolist()) <= set(pool)
    share = float(np.mean(drawn.ids[:, 0] == ranking.ids[0]))
    errors = ranking.log_propensity_errors
    assert errors is not None
    assert abs(math.exp(logs_of(ranking)[0]) - share) < 5 * math.sqrt(share / draws)
    assert (errors > 0).all()


@pytest.mark.parametrize("policy", [policy for policy, _, _ in CLOSED] + [ThompsonSampling(0.5), UCB(0.5)])
def test_groups_have_at_most_n_places(policy: Any) -> None:
    random = np.random.default_rng(4)
    engine = made(descending(40, 4), random.normal(size=(40, 5)))
    engine.set_groups(list(range(30)), [f"g{i % 3}" for i in range(30)])
    ranking = engine.recommend("ann", k=12, explore=policy, diversify=MaxPerGroup(2), seed=1)
    of_groups = Counter(item % 3 for item in ranking.ids.tolist() if item < 30)
    assert max(of_groups.values()) <= 2
    assert ranking.counts == 12
    assert engine.recommend("ann", k=30, explore=policy, diversify=MaxPerGroup(2), seed=1).counts == 16


# ---- bad input


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: EpsilonGreedy(1.5), "1.5"),
        (lambda: EpsilonGreedy(-0.1), "-0.1"),
        (lambda: EpsilonGreedy(float("nan")), "nan"),
        (lambda: Softmax(-1.0), "-1"),
        (lambda: Softmax(0.0), "0"),
        (lambda: Softmax(float("inf")), "inf"),
        (lambda: ThompsonSampling(-1.0), "-1"),
        (lambda: ThompsonSampling(samples=-1), "-1"),
        (lambda: ThompsonSampling(precision="full"), "full"),  # type: ignore[arg-type]
        (lambda: UCB(-2.0), "-2"),
        (lambda: SquareCB(-3.0), "-3"),
        (lambda: Random(candidates=0), "0"),
        (lambda: Random(candidates=5000), "5000"),
        (lambda: MMR(1.1), "1.1"),
        (lambda: MMR(pool=0), "0"),
        (lambda: DPP(1.0), "1.0"),
        (lambda: MaxPerGroup(0), "0"),
    ],
)
def test_values_out_of_range_are_refused(make: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: EpsilonGreedy("x"),  # type: ignore[arg-type]
        lambda: Random(candidates=True),
        lambda: MMR(None),  # type: ignore[arg-type]
    ],
)
def test_values_of_a_wrong_kind_are_refused(make: Any) -> None:
    with pytest.raises(TypeError):
        make()


@pytest.mark.parametrize(
    ("policy", "parameter", "diversity", "weight", "count", "told"),
    [
        ("softmax", -1.0, "none", 0.0, 0, "temperature"),
        ("epsilon_greedy", 2.0, "none", 0.0, 0, "epsilon"),
        ("nothing", 0.0, "none", 0.0, 0, "nothing"),
        ("greedy", 0.0, "mmr", 1.5, 0, "lambda_"),
        ("greedy", 0.0, "dpp", 1.0, 0, "theta"),
        ("greedy", 0.0, "max_per_group", 0.0, 0, "n must"),
    ],
)
def test_the_core_refuses_by_itself(
    policy: str, parameter: float, diversity: str, weight: float, count: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        _core.Explore(policy, parameter, "diagonal", 0, diversity, weight, count, 200)


def test_bad_arguments_of_queries() -> None:
    engine = made(descending(5, 0))
    with pytest.raises(TypeError, match="explore"):
        engine.recommend("ann", explore="softmax")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="diversify"):
        engine.recommend("ann", diversify=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        engine.recommend("ann", explore=Random(), seed=-1)
    with pytest.raises(TypeError, match="seed"):
        engine.recommend("ann", explore=Random(), seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed"):
        engine.recommend("ann", seed=3)
    with pytest.raises(ValueError, match="4097"):
        engine.recommend("ann", k=4097, explore=Random())
    with pytest.raises(ValueError, match="-1"):
        engine.recommend("ann", k=-1, explore=Random())
    with pytest.raises(ValueError, match="dimensions"):
        Engine(dim=300).recommend("ann", explore=UCB(1.0, "shared"))
    with pytest.raises(ValueError, match="not both"):
        engine.recommend("ann", history=[1], explore=Random())
    with pytest.raises(ValueError, match="finite"):
        core_explore(Softmax(1.0), None).log_propensities([float("nan")], [], [0])
    with pytest.raises(ValueError, match="sorted"):
        core_explore(Softmax(1.0), None).log_propensities([1.0, 2.0], [], [0])
    with pytest.raises(ValueError, match="different"):
        core_explore(Softmax(1.0), None).log_propensities([2.0, 1.0], [], [0, 0])
    with pytest.raises(ValueError, match="closed form"):
        core_explore(UCB(1.0), None).log_propensities([2.0, 1.0], [], [0])

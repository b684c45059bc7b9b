"""Static evaluation against rankings and figures written out user by user."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine import Engine
from recengine.baselines import Popularity, WithIds
from recengine.evaluate import holdout
from recengine.evaluate.holdout import hits
from recengine.events import Events

FIGURES = ("recall", "ndcg", "hit_rate", "precision", "mrr")
PAIRS = st.lists(st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcdef"), st.sampled_from([1.0, 1.0, 0.0])))


def made(rows: list[tuple[str, str, float]]) -> Events:
    values = np.array([value for _, _, value in rows], dtype=np.float32)
    return Events([user for user, _, _ in rows], [item for _, item, _ in rows], values=values)


def taught(train: Events) -> WithIds:
    model = WithIds(Popularity())
    model.learn_many(train.users, train.items, values=train.values)
    return model


@settings(deadline=None)
@given(train_rows=PAIRS, test_rows=PAIRS, k=st.integers(1, 8), exclude=st.booleans())
def test_equal_to_the_definitions(train_rows: Any, test_rows: Any, k: int, exclude: bool) -> None:
    train, test = made(train_rows), made(test_rows)
    result = holdout(taught(train), train, test, k=k, exclude_train=exclude)
    counts = {item: sum(v for _, i, v in train_rows if i == item) for _, item, v in train_rows if v > 0}
    expected: list[tuple[float, ...]] = []
    pairs = known = new_items = new_users = 0
    for user in "uvwx":
        owned = {item for one, item, value in train_rows if one == user and value > 0}
        wanted = {item for one, item, value in test_rows if one == user and value > 0}
        known += len(wanted & owned) if exclude else 0
        relevant = wanted - owned if exclude else wanted
        # Everything the user ever met is left out by the model; it is popularity, whose ties all count against.
        met = {item for one, item, _ in train_rows if one == user} if exclude else set()
        ranked = {item: count for item, count in counts.items() if item not in met}
        if not relevant:
            continue
        pairs += len(relevant)
        new_items += sum(item not in {i for _, i, _ in train_rows} for item in relevant)
        new_users += not owned
        # A relevant item comes after all others of its score, and after relevant ones before it.
        order = sorted(ranked, key=lambda item: (-ranked[item], item in relevant))
        place_k1 = sorted(ranked.values(), reverse=True)[k] if len(ranked) > k else -math.inf
        places = [at for at, item in enumerate(order, 1) if item in relevant and at <= k and ranked[item] > place_k1]
        ideal = sum(1 / math.log2(at + 1) for at in range(1, min(k, len(relevant)) + 1))
        expected.append(
            (
                len(places) / len(relevant),
                sum(1 / math.log2(at + 1) for at in places) / ideal,
                float(bool(places)),
                len(places) / k,
                1 / places[0] if places else 0.0,
            )
        )
    assert (result.users, result.pairs, result.known_pairs) == (len(expected), pairs, known)
    assert (result.new_items, result.new_users) == (new_items, new_users)
    means = np.mean(expected, axis=0) if expected else [math.nan] * 5
    assert [getattr(result, name) for name in FIGURES] == pytest.approx(means, nan_ok=True)
    for name in FIGURES:
        low, high = getattr(result, f"{name}_ci")
        assert math.isnan(low) or low <= getattr(result, name) <= high
    json.dumps(result.to_dict(), allow_nan=False)


def test_of_the_engine_itself_as_published_figures_are_computed() -> None:
    """Without ties the figures are those of the usual vectorised formulas."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 40, (900, 2)) ** 2 // 40, axis=0)
    tested = rng.random(len(pairs)) < 0.2
    train, test = (Events(part[:, 0].copy(), part[:, 1].copy()) for part in (pairs[~tested], pairs[tested]))
    engine = Engine(dim=8, objective="bpr")
    for _ in range(5):
        engine.learn_many(train.users, train.items)
    result = holdout(engine, train, test, k=5)
    users, counts = np.unique(np.asarray(test.users), return_counts=True)
    ids = engine.recommend(users, k=5, exclude_seen=True).ids
    found = np.array([[(user, item) in set(map(tuple, pairs[tested].tolist())) for item in row]
                      for user, row in zip(users.tolist(), ids.tolist(), strict=True)])  # fmt: skip
    discount = 1 / np.log2(np.arange(5) + 2)
    assert result.recall == pytest.approx((found.sum(axis=1) / counts).mean())
    assert result.ndcg == pytest.approx((found @ discount / np.cumsum(discount)[np.minimum(counts, 5) - 1]).mean())
    assert result.recall > 0
    assert str(result).startswith(f"{len(users)} users, {tested.sum()} pairs: recall@5 {result.recall:.4f}, NDCG@5 ")


@dataclass
class Fixed:
    """Recommends the same to everybody."""

    ids: list[str]
    scores: list[float]

    def recommend(self, user: Any, /, *, k: int, exclude_seen: bool) -> Any:
        scores = np.array(self.scores[:k], dtype=np.float32)
        return type("Answer", (), {"ids": np.array(self.ids[:k], dtype=object), "scores": scores})


@pytest.mark.parametrize(
    ("scores", "relevant", "places"),
    [
        ([4.0, 3.0, 2.0, 1.0], "a", [True, False, False]),
        ([4.0, 3.0, 2.0, 1.0], "bd", [False, True, False]),
        ([4.0, 4.0, 2.0, 1.0], "a", [False, True, False]),
        ([4.0, 4.0, 2.0, 1.0], "ab", [True, True, False]),
        ([4.0, 2.0, 2.0, 2.0], "ab", [True, False, False]),
        ([1.0, 1.0, 1.0, 1.0], "abc", [False, False, False]),
        ([1.0, 1.0], "a", [False, True, False]),
        ([math.nan, 3.0, 2.0, 1.0], "a", [False, False, False]),
        ([math.nan, 3.0, 2.0, 1.0], "b", [True, False, False]),
        ([], "a", [False, False, False]),
    ],
)
def test_ties_and_nan_count_against(scores: list[float], relevant: str, places: list[bool]) -> None:
    found = hits(list("abcd")[: len(scores)], np.array(scores, dtype=np.float32), set(relevant), 3)
    assert found.tolist() == places


def test_refuses_an_engine_that_did_not_learn_train() -> None:
    train, test = Events(["u"], ["a"]), Events(["u"], ["b"])
    with pytest.raises(ValueError, match="the engine recommends 'a' to 'u', who has it in train"):
        holdout(Fixed(["b", "a"], [2.0, 1.0]), train, test)
    assert holdout(Fixed(["b", "a"], [2.0, 1.0]), train, test, exclude_train=False).recall == 1.0


@pytest.mark.parametrize(
    ("test", "k", "error", "message"),
    [
        (Events(["u"], ["a"]), 0, ValueError, "k must be at least 1, got 0"),
        (Events(["u"], ["a"]), 1.5, TypeError, "k must be an int, got 1.5"),
        (Events(["u"], ["a"], values=np.array([math.nan], dtype=np.float32)), 1, ValueError, "row 0: value must be"),
    ],
)
def test_refuses(test: Events, k: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        holdout(Fixed([], []), Events(["u"], ["b"]), test, k=k)

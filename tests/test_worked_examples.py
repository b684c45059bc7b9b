"""The worked examples of the documentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from recengine import Engine


def test_score_and_prediction_of_one_item() -> None:
    user, item = [[0.1, 0.2, 0.3, 0.4]], [[0.5, 0.6, 0.7, 0.8]]
    engine = Engine.from_factors(["u"], user, ["i"], item, [0.5], objective="logistic")
    assert engine.score("u", ["i"])[0] == pytest.approx(0.70, abs=1e-6)
    assert engine.predict("u", "i") == pytest.approx(1 / (1 + math.exp(-1.2)), abs=1e-6)
    assert engine.predict("u", "i") == pytest.approx(0.7685, abs=5e-5)


@pytest.mark.parametrize("biases", [{"user_bias": [0.5]}, {"item_bias": [0.5]}, {"global_bias": 0.5}])
def test_every_bias_enters_the_prediction(biases: dict[str, Any]) -> None:
    user, item = [[0.1, 0.2, 0.3, 0.4]], [[0.5, 0.6, 0.7, 0.8]]
    engine = Engine.from_factors(["u"], user, ["i"], item, objective="logistic", **biases)
    assert engine.predict("u", "i") == pytest.approx(0.7685, abs=5e-5)
    assert engine.score("u", ["i"])[0] == pytest.approx(1.20 if "item_bias" in biases else 0.70, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranking_of_five_items(dtype: type[np.floating]) -> None:
    items = np.array([[0.2, 0.3, 0.4, 0.5, 0.6]], dtype) + np.arange(5, dtype=dtype)[:, np.newaxis] / 10
    engine = Engine.from_factors(["u"], np.array([[0.1, 0.2, 0.3, 0.4, 0.5]], dtype), list("abcde"), items)
    scores = [0.70, 0.85, 1.00, 1.15, 1.30]
    np.testing.assert_allclose(engine.score("u", list("abcde")), scores, atol=1e-6)

    ranking = engine.recommend("u", k=5)
    assert ranking.ids.tolist() == list("edcba")
    np.testing.assert_allclose(ranking.scores, scores[::-1], atol=1e-6)
    assert ranking.certified
    assert engine.recommend("u", k=1).ids.tolist() == ["e"]
    assert engine.rank("u", ["a", "e", "c"]).ids.tolist() == ["e", "c", "a"]

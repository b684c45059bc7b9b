"""Whole rankings, labels and ratings: arguments, conventions and missing packages. The figures themselves are compared
with the streaming metrics in the tests of those."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from recengine.evaluate import evaluate_labels, evaluate_rankings, evaluate_ratings


@pytest.fixture
def ranx() -> None:
    pytest.importorskip("ranx")


@pytest.fixture
def sklearn() -> None:
    pytest.importorskip("sklearn")


@pytest.mark.usefixtures("ranx")
def test_rankings_of_strings_and_arrays() -> None:
    rankings: list[Any] = [np.array(["a", "b", "c"], dtype=object), ["x"], []]
    relevant: list[Any] = [{"c": 2, "a": 1}, {"y"}, ["z"]]
    figures = evaluate_rankings(rankings, relevant, ["recall", "map", "ndcg@1", "ndcg_burges@3"])
    burges = (1 + 3 / 2) / (3 + 1 / math.log2(3))
    assert figures == pytest.approx(
        {"recall": 1 / 3, "map": (1 + 2 / 3) / 2 / 3, "ndcg@1": 0.5 / 3, "ndcg_burges@3": burges / 3}
    )


@pytest.mark.usefixtures("ranx")
def test_rankings_skip_queries_with_nothing_relevant() -> None:
    assert evaluate_rankings([["a"], ["a"]], [{"a"}, set()], ["recall@1"]) == {"recall@1": 1.0}
    assert all(math.isnan(figure) for figure in evaluate_rankings([["a"]], [{"a": 0.0}]).values())
    assert list(evaluate_rankings([], [])) == ["recall@10", "ndcg@10", "mrr@10"]


@pytest.mark.usefixtures("ranx")
def test_rankings_refuse() -> None:
    with pytest.raises(ValueError, match=r"2 rankings, .* for 1"):
        evaluate_rankings([["a"], ["b"]], [{"a"}])
    with pytest.raises(ValueError, match="'a' twice"):
        evaluate_rankings([["a", "a"]], [{"a"}])
    with pytest.raises(ValueError, match=r"got 0\.5"):
        evaluate_rankings([["a"]], [{"a": 0.5}])
    with pytest.raises(ValueError, match="wishes"):
        evaluate_rankings([["a"]], [{"a"}], ["wishes@3"])


@pytest.mark.usefixtures("sklearn")
def test_labels_by_hand() -> None:
    figures = evaluate_labels([1, 0, 1, 0], [0.9, 0.6, 0.5, 0.1])
    losses = [math.log(0.9), math.log(0.4), math.log(0.5), math.log(0.9)]
    assert figures == pytest.approx(
        {
            "roc_auc": 3 / 4,
            "average_precision": (1 + 2 / 3) / 2,
            "log_loss": -sum(losses) / 4,
            "brier": (0.01 + 0.36 + 0.25 + 0.01) / 4,
            "accuracy": 3 / 4,
        }
    )


@pytest.mark.usefixtures("sklearn")
def test_undefined_is_nan() -> None:
    assert math.isnan(evaluate_labels([1, 1], [0.5, 0.6])["roc_auc"])
    assert math.isnan(evaluate_labels([0, 0], [0.5, 0.6])["average_precision"])
    assert evaluate_labels([0, 0], [0.0, 0.0])["brier"] == 0.0
    assert all(math.isnan(figure) for figure in evaluate_labels([], []).values())
    assert all(math.isnan(figure) for figure in evaluate_ratings([], []).values())
    assert math.isnan(evaluate_ratings([1.0], [2.0])["r2"])


@pytest.mark.usefixtures("sklearn")
def test_labels_and_ratings_refuse() -> None:
    with pytest.raises(ValueError, match="'wishes'"):
        evaluate_labels([1], [0.5], ["wishes"])
    with pytest.raises(ValueError, match=r"got 2\.0"):
        evaluate_labels([0, 2], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"got 7\.0"):
        evaluate_labels([0, 1], [0.5, 7.0])
    assert evaluate_labels([0, 1], [-3.0, 7.0], ["roc_auc"]) == {"roc_auc": 1.0}
    for bad in ([1.0, 2.0], [[1.0]]):
        with pytest.raises(ValueError, match="shapes"):
            evaluate_ratings([1.0], bad)
    with pytest.raises(ValueError, match="nan"):
        evaluate_ratings([1.0], [math.nan])


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("ranx", lambda: evaluate_rankings([["a"]], [{"a"}])),
        ("sklearn.metrics", lambda: evaluate_labels([1], [0.5])),
        ("sklearn.metrics", lambda: evaluate_ratings([1], [0.5])),
    ],
)
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str, call: Any) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "recengine\[evaluate\]"'):
        call()

"""Scores of given items, and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.columns import id_column
from recengine.engine.arguments import Id, is_id, plain
from recengine.engine.base import Base
from recengine.explanation import Explanation, Part
from recengine.ranking import Ranking, single


class Scores(Base):
    """Scores of given items, and what they are made of."""

    __slots__ = ()

    def score(self, user: Id, items: Any) -> npt.NDArray[np.float32]:
        """``<x_u, q_i> + b_i`` of each of n items, float32 (n,). An unknown user has a zero vector.

        Raises KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 2.0]], ["tea"], [[3.0, 4.0]])
        >>> engine.score("ann", ["tea"]).tolist()
        [11.0]
        """
        return self._core.score(user, id_column(items))

    def rank(self, user: Id, items: Any, *, context: Mapping[str, float] | None = None) -> Ranking:
        """These items, each once, as `recommend` would order and score them.

        Raises KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea", "cup"], [[0.5, 1.0], [2.0, 0.0]])
        >>> engine.rank("ann", ["tea", "cup"]).ids.tolist()
        ['cup', 'tea']
        """
        return single(*self._core.rank(user, id_column(items), self._context(context)))

    def predict(self, user: Id, item: Any) -> Any:
        """The probability (logistic: ``sigmoid(score + b_u + b)``) or rating (squared: ``score + b_u + mean``) of an
        item.

        One id gives a float, a column of n ids float32 (n,). An unknown user has no vector and no bias.

        Raises ValueError for other objectives, KeyError naming the first unknown item.

        Examples
        --------
        >>> factors = [1], [[1.0]], [2], [[3.0]], [0.25], [0.5]
        >>> engine = Engine.from_factors(*factors, objective="squared", global_bias=0.25)
        >>> engine.predict(1, 2)
        4.0
        """
        if is_id(item):
            return float(self._core.predict(user, [item])[0])
        return self._core.predict(user, id_column(item))

    def explain(self, user: Id, item: Id) -> Explanation:
        """Why `rank` and `recommend` score an item as they do: the parts that add up to the score.

        The embedding's score falls into the user's row, each item of the history, the bias and the offset; with a
        ranker all of them times its weight, and each other signal times its own, and with ``ranker="mlp"`` what the
        network adds. (A vector that is solved, ``user_model="als"``, is one part.) An unknown user sees the popularity
        ranking.

        Raises KeyError for an unknown item.

        Examples
        --------
        >>> engine = Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea"], [[0.5, 1.0]], item_bias=[0.25])
        >>> explanation = engine.explain("ann", "tea")
        >>> explanation.score, [(part.name, part.contribution) for part in explanation.parts]
        (0.75, [('user', 0.5), ('bias', 0.25)])
        >>> engine = Engine.from_factors([], np.zeros((0, 2)), ["tea", "cup"], [[1.0, 0.0], [1.0, 0.1]], history=2)
        >>> engine.learn_one("ann", "tea", weight=0.0)
        >>> engine.explain("ann", "cup").sentence()
        'because you bought tea'
        """
        score, parts = self._core.explain(user, item)
        return Explanation(user, item, score, tuple(Part(name, plain(other), *rest) for name, other, *rest in parts))

    def ranker_features(self, user: Id, items: Any) -> dict[str, npt.NDArray[np.float32]]:
        """The signals of n items for a user, as the ranker weighs them: by name, float32 (n,). docs/ranker.md has their
        formulas.

        Raises ValueError without a ranker, KeyError naming the first unknown item.

        Examples
        --------
        >>> engine = Engine(dim=4, seed=0)
        >>> engine.learn_many(["ann", "ann", "bob"], ["tea", "cup", "tea"])
        >>> features = engine.ranker_features("ann", ["tea", "cup"])
        >>> features["in_session"].tolist(), features["after_last"].tolist(), len(features)
        ([1.0, 1.0], [0.0, 0.0], 16)
        """
        values = self._core.ranker_signals(user, id_column(items))
        return {name: values[:, place].copy() for place, name in enumerate(self._core.ranker_names())}

    def ranker_weights(self) -> dict[str, tuple[float, float]]:
        """The ranker's weight of each signal, by name: while a session goes on, and when it is over. Empty without a
        ranker.

        >>> Engine(dim=4).ranker_weights()["score"]
        (1.0, 1.0)
        """
        names, weights = self._core.ranker_names(), self._core.ranker_weights().tolist()
        return dict(zip(names, zip(weights[: len(names)], weights[len(names) :], strict=True), strict=True))

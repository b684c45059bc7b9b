"""Why an item scores what it scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Explanation", "Part"]

Names = Mapping[Any, str] | Callable[[Any], str]


@dataclass(frozen=True)
class Part:
    """A part of a score.

    Attributes
    ----------
    name
        ``"user"``, the learned row; ``"history"``, one of the last items, or ``"disliked"``; ``"bias"``; ``"offset"``,
        of items of the history; ``"popularity"``, for users who are not known; or a signal of the ranker
        (`Engine.ranker_weights`).
    item
        Of "history", "disliked", "after_last" and "before_last" the item that the part is due to, else None; the
        latter two have none where there is nothing but dislikes.
    value, weight
        What the part is made of. With a ranker, parts of the embedding's score have its weight.
    contribution
        ``value * weight``.
    """

    name: str
    item: Any
    value: float
    weight: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """What `Engine.explain` returns: a score and the parts that add up to it.

    Attributes
    ----------
    user, item
        What was asked.
    score
        As `Engine.rank` and `Engine.recommend` show it; the sum of the contributions, but for rounding (1e-5 beside
        scores of order 1).
    parts
        `Part`, in the order in which they are added up; a history from its newest item.

    Examples
    --------
    >>> import recengine
    >>> engine = recengine.Engine.from_factors(["ann"], [[1.0, 0.0]], ["tea"], [[0.5, 1.0]], item_bias=[0.25])
    >>> for part in engine.explain("ann", "tea").parts:
    ...     print(part.name, part.contribution)
    user 0.5
    bias 0.25
    """

    user: Any
    item: Any
    score: float
    parts: tuple[Part, ...]

    def sentence(self, names: Names | None = None, verb: str = "bought") -> str:
        """The reason in words: "because you bought tea and cup".

        Parameters
        ----------
        names
            A mapping from items to their names, or a function; an item without one is named by its id.
        verb
            What users do with items.

        Examples
        --------
        >>> parts = Part("history", 7, 0.5, 1.0, 0.5), Part("history", 8, 0.1, 1.0, 0.1), Part("bias", None, 1, 1, 1.0)
        >>> Explanation("ann", 9, 1.6, parts).sentence({7: "tea"})
        'because you bought tea and 8'
        """
        reasons: dict[Any, float] = {}
        for part in self.parts:
            if part.item is not None and part.name != "disliked":
                reasons[part.item] = reasons.get(part.item, 0.0) + part.contribution
        owned = sum(part.contribution for part in self.parts if part.name.startswith("owned"))
        best = sorted((item for item in reasons if reasons[item] > 0), key=lambda item: -reasons[item])
        if self.item in best[:1] or owned > max([0.0, *reasons.values()]):
            return f"because you {verb} it before"
        # A second item, if it weighs a tenth of the first: more would say nothing.
        shown = [item for item in best[:2] if reasons[item] >= 0.1 * reasons[best[0]] and item != self.item]
        if not shown:
            popularity = sum(part.contribution for part in self.parts if part.name.startswith(("popularity", "bias")))
            return "because it is popular" if popularity > 0 else "because it may suit you"
        return f"because you {verb} {' and '.join(_name(item, names) for item in shown)}"


def _name(item: Any, names: Names | None) -> str:
    if names is None:
        return str(item)
    if callable(names):
        return names(item)
    return names.get(item, str(item))

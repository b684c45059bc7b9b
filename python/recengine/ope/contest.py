"""Whether one policy is ahead of all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .estimate import Floats, estimate

CONFIDENCE = 0.95  # that no wrong one is named


@dataclass(frozen=True, slots=True)
class Lead:
    """How far a policy is ahead of another one on the same impressions.

    Attributes
    ----------
    policy, over
        Names; "logged" for what ran.
    value
        Mean difference of their rewards an impression, as the log tells it.
    low, high
        Its interval, wide enough for all leads of a comparison at once.

    >>> Lead("new", "logged", 0.2, 0.1, 0.3)
    Lead(policy='new', over='logged', value=0.2, low=0.1, high=0.3)
    """

    policy: str
    over: str
    value: float
    low: float
    high: float


def leads_of(terms: Mapping[str, Floats], logged: Floats, options: Mapping[str, Any]) -> tuple[Lead, ...]:
    """Of the policy with the highest mean over each other one, and over what was logged; none without policies.

    `terms` (n,): what each earns by each impression. Differences are taken impression by impression, so that what all
    policies have in common cancels, and their intervals hold at once (Bonferroni): a policy that is not the best one is
    ahead of all others in at most 5 % of logs, however many there are.

    >>> rewards = np.arange(100.0) % 2
    >>> [(lead.policy, lead.over) for lead in leads_of({"a": rewards + 1, "b": rewards}, rewards, {"seed": 0})]
    [('a', 'b'), ('a', 'logged')]
    """
    if not terms:
        return ()
    first = max(terms, key=lambda name: float(terms[name].mean()))
    others = {name: values for name, values in terms.items() if name != first} | {"logged": logged}
    confidence = 1 - (1 - CONFIDENCE) / len(others)
    shared: dict[str, Any] = {"clusters": None, **options}
    leads = []
    for name, values in others.items():
        found = estimate(
            "lead", terms[first] - values, None,
            normalised=False, method="bootstrap", confidence=confidence, bound=None, **shared,
        )  # fmt: skip
        leads.append(Lead(first, name, found.value, found.low, found.high))
    return tuple(leads)


def winner(leads: tuple[Lead, ...]) -> str | None:
    """Who is ahead of all others for certain."""
    return leads[0].policy if leads and all(lead.low > 0 for lead in leads) else None

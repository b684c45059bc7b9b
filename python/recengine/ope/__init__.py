"""Off-policy evaluation: what another policy would have earned, from the log of the one that ran.

- Of single choices: ``dm``, ``ips``, ``snips``, ``dr``, ``switch_dr``; of lists: ``independent_ips``,
  ``reward_interaction_ips``, ``cascade_dr``. Each takes columns and gives an ``Estimate``: value, 95 % interval,
  effective sample size.
- ``compare`` scores the logged candidates of an ``ImpressionLog`` anew under other policies, and says which would have
  won.

Where the log hardly shows what the other policy would do, an ``OverlapWarning`` says so. docs/ope.md has the formulas.
"""

from __future__ import annotations

from .compare import Comparison, Row, compare
from .contest import Lead
from .estimate import Estimate, OverlapWarning
from .single import dm, dr, ips, snips, switch_dr
from .slates import cascade_dr, independent_ips, reward_interaction_ips

__all__ = [
    "Comparison",
    "Estimate",
    "Lead",
    "OverlapWarning",
    "Row",
    "cascade_dr",
    "compare",
    "dm",
    "dr",
    "independent_ips",
    "ips",
    "reward_interaction_ips",
    "snips",
    "switch_dr",
]

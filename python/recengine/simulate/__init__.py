"""Simulated worlds whose truth is known, for demonstrations, tests and experiments.

- ``Shop``: customers who choose by themselves, with tastes that change; a stream of events.
- ``Audience``: people who answer the lists they are shown: drifting tastes, boredom, position bias, late purchases.
- ``Trial``, ``run_trials``: an engine and a policy that recommend to an audience and learn from it.
"""

from __future__ import annotations

from recengine.simulate.audience import Audience, Night, Purchase
from recengine.simulate.shop import Day, Shop
from recengine.simulate.trial import DayFigures, Trial, TrialResult, run_trials

__all__ = ["Audience", "Day", "DayFigures", "Night", "Purchase", "Shop", "Trial", "TrialResult", "run_trials"]

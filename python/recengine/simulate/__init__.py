"""Simulated worlds whose truth is known, for demonstrations, tests and experiments."""

from __future__ import annotations

from recengine.simulate.shop import Day, Shop

__all__ = ["Day", "Shop"]

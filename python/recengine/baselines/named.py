"""The baselines by name, with the settings that all comparisons use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .base import Baseline
from .cooccurrence import Cooccurrence
from .ials import IALS
from .isgd import ISGD
from .personal import Personal
from .popularity import WEEK, Popularity
from .softmax import Softmax

NAMES: Mapping[str, Callable[[], Baseline]] = MappingProxyType(
    {
        "popularity": Popularity,
        "popularity_7d": lambda: Popularity(half_life=WEEK),
        "personal": Personal,
        "isgd": ISGD,
        "softmax": Softmax,
        "ials": IALS,
        "cooccurrence": Cooccurrence,
        "cooccurrence_wide": lambda: Cooccurrence(window=10, decay=0.9, normalise=0.5),
    }
)


def make(name: str) -> Baseline:
    """A new baseline; ValueError for an unknown name.

    >>> type(make("isgd")).__name__
    'ISGD'
    """
    if name not in NAMES:
        raise ValueError(f"unknown baseline {name!r}, expected one of {', '.join(NAMES)}")
    return NAMES[name]()

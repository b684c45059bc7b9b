"""Recommenders to compare with: simple, honest, incremental, in numpy.

Each learns from one event at a time and ranks all items it has met; ``recengine.evaluate.prequential(compare=...)``
asks them before each event, by the same rules as the engine. ``WithIds`` gives one the engine's interface, for use
anywhere else. They are made to be read and trusted, not to be fast: tens to hundreds of microseconds an event.

=================== ====================================================================================
"popularity"        items by their events, of all time; runs beside every prequential run
"popularity_7d"     the same, an event counting half as much after 7 days; runs beside every run
"personal"          what the user took most often, then what all users did
"isgd"              incremental matrix factorisation, positive-only (Vinagre et al., 2014)
"softmax"           matrix factorisation with a sampled softmax, an item bias and Adagrad
"ials"              implicit ALS (Hu et al., 2008), retrained at intervals, users folded in at each query
"cooccurrence"      live item co-occurrence in bounded lists: neighbours of the last item, mostly
"cooccurrence_wide" the same over the user's last 10 items
=================== ====================================================================================
"""

from __future__ import annotations

from .base import Baseline
from .cooccurrence import Cooccurrence
from .ials import IALS
from .isgd import ISGD
from .named import NAMES, make
from .personal import Personal
from .popularity import WEEK, Popularity
from .softmax import Softmax
from .with_ids import WithIds

__all__ = [
    "IALS",
    "ISGD",
    "NAMES",
    "WEEK",
    "Baseline",
    "Cooccurrence",
    "Personal",
    "Popularity",
    "Softmax",
    "WithIds",
    "make",
]

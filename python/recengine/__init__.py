"""recengine: an in-process engine for real-time recommendation.

>>> from recengine import Engine
>>> engine = Engine(dim=16, seed=0)
>>> engine.learn_one("ann", "tea")
>>> engine.learn_one("ann", "cup")
>>> engine.recommend("ann", k=1, exclude=["cup"]).ids.tolist()
['tea']
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from recengine._core import FormatError
from recengine.engine import Engine
from recengine.explanation import Explanation
from recengine.feedback import Feedback
from recengine.filters import Filter
from recengine.fit import FitResult, Ials, Sgd, Softmax
from recengine.impressions import ImpressionLog
from recengine.ranking import Ranking
from recengine.retrieval import Cells, Flat, Graph
from recengine.system import info

__all__ = [
    "Cells",
    "Engine",
    "Explanation",
    "Feedback",
    "Filter",
    "FitResult",
    "Flat",
    "FormatError",
    "Graph",
    "Ials",
    "ImpressionLog",
    "Ranking",
    "Sgd",
    "Softmax",
    "__version__",
    "info",
]

try:
    __version__ = version("recengine")
except PackageNotFoundError:  # run from a source tree
    __version__ = "0+source"

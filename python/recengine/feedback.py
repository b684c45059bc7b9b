"""How what came of impressions is joined and weighed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from recengine.impressions import Impression, ImpressionLog

__all__ = ["Feedback", "Impression", "ImpressionLog"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """How `Engine.feedback` joins and weighs; `Engine.feedback_settings` takes it.

    Parameters
    ----------
    capacity
        The latest impressions that are kept, in memory: each 12 bytes a candidate (16 where `MaxPerGroup` limits them),
        and the characters of its ids, where those are str.
    window
        Seconds after an impression in which feedback to it is taken; ``math.inf``: always. By timestamps alone: what
        was shown before the engine saw its first one has no time, and no window.
    correction
        "ips": feedback weighs one over the probability that the item was shown there, given the slots above: on average
        (but for `clip`) as if each slot had been filled by any of the candidates left, all alike. In lists of one all
        candidates then count alike, however rarely they are shown; in longer ones an item counts for each slot that it
        is left for, so that what often stands at the top counts up to k times less than what is hardly ever chosen.
        "top_k": the policy gradient's correction for lists of K items, with the softmax of the scores for the policy
        (Chen et al. 2019). "none": 1.
    clip
        Of that ratio.
    position_bias
        Slot j, from 1, is taken to be looked at with the probability ``j ** -position_bias`` (Joachims et al. 2017);
        0: all alike.

    >>> Feedback(correction="top_k").clip
    10.0
    """

    capacity: int = 10_000
    window: float = 86_400.0
    correction: Literal["none", "ips", "top_k"] = "ips"
    clip: float = 10.0
    position_bias: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.capacity, bool) or not isinstance(self.capacity, int):
            raise TypeError(f"capacity must be an int, not {self.capacity!r}")
        if not 1 <= self.capacity <= 10**8:
            raise ValueError(f"capacity must be between 1 and 1e8, not {self.capacity}")
        if self.correction not in ("none", "ips", "top_k"):
            raise ValueError(f"correction must be 'none', 'ips' or 'top_k', not {self.correction!r}")
        for name, most in (("window", math.inf), ("clip", 1e6), ("position_bias", 10.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, not {value!r}")
            least_is_fine = value > 0 or (name == "position_bias" and value == 0)
            if not (least_is_fine and value <= most):
                raise ValueError(f"{name} must be positive and at most {most:g}, not {value}")

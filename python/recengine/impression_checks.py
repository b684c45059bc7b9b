"""What an impression log may hold, wherever it comes from: checked once, many rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recengine.impressions import Impression

TOGETHER = 4_096  # rows
TEXTS = ("policy", "precision", "diversity")
NUMBERS = ("parameter", "diversity_weight")
COUNTS = ("number", "seed", "samples", "diversity_count")
# Columns by what they have one each of.
BY_CANDIDATE = ("scores",)
BY_SLOT = ("log_propensities", "rewards")
MAYBE = {"groups": "candidates", "log_propensity_errors": "slate"}  # or none at all


def check_impressions(rows: Sequence[Impression]) -> None:
    """Raises ValueError or TypeError naming the first impression, and its field, that no engine could have logged:
    columns of unequal length, places that are not among the candidates or come twice, scores that are not finite,
    probabilities above 1, infinite rewards.

    >>> check_impressions([])
    """
    for first in range(0, len(rows), TOGETHER):
        _check(rows[first : first + TOGETHER])


def _check(rows: Sequence[Impression]) -> None:
    for row in rows:
        _check_shapes(row)
    slots = np.array([len(row.slate) for row in rows])
    candidates = np.repeat([len(row.candidates) for row in rows], slots)
    slate = _joined(rows, "slate").astype(np.int64)
    wrong = (slate < 0) | (slate >= candidates)
    _refuse(rows, "slate", slate, wrong, lambda row: f"places below {len(row.candidates)}")
    # Places of different rows never meet.
    starts = np.repeat(np.cumsum([len(row.candidates) for row in rows]), slots)
    _, firsts = np.unique(starts + slate, return_index=True)
    again = np.ones(len(slate), dtype=bool)
    again[firsts] = False
    _refuse(rows, "slate", slate, again, lambda row: f"different places, {row.slate.tolist()}")
    for name, is_wrong, expected in (
        ("scores", lambda values: ~np.isfinite(values), "finite numbers"),
        ("context", lambda values: ~np.isfinite(values), "finite numbers"),
        ("log_propensities", lambda values: values > 1e-9, "logarithms of probabilities, at most 0"),
        ("rewards", np.isinf, "finite numbers, or NaN for none"),
        ("groups", lambda values: values < 0, "numbers of at least 0"),
        ("log_propensity_errors", lambda values: values < 0, "numbers of at least 0"),
    ):
        values = _joined(rows, name)
        _refuse(rows, name, values, is_wrong(values), lambda row, expected=expected: expected)  # type: ignore[misc]


def _check_shapes(row: Impression) -> None:
    for name in COUNTS:
        value = getattr(row, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"impression {row.number}: {name} must be an int, not {value!r}")
    for name in TEXTS:
        if not isinstance(getattr(row, name), str):
            raise TypeError(f"impression {row.number}: {name} must be a str, not {getattr(row, name)!r}")
    for name in ("time", *NUMBERS):
        value = getattr(row, name)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise TypeError(f"impression {row.number}: {name} must be a number, not {value!r}")
        if math.isinf(value) or (math.isnan(value) and name != "time"):
            raise ValueError(f"impression {row.number}: {name} must be finite, not {value}")
    for name in ("candidates", "slate", "history", "context", *BY_CANDIDATE, *BY_SLOT, *MAYBE):
        column = getattr(row, name)
        if not isinstance(column, np.ndarray) or column.ndim != 1:
            raise TypeError(f"impression {row.number}: {name} must be an array of one dimension, not {column!r}")
    if row.slate.dtype.kind not in "iu" and len(row.slate):
        raise TypeError(f"impression {row.number}: slate must hold ints, not {row.slate.dtype}")
    lengths = dict.fromkeys(BY_CANDIDATE, "candidates") | dict.fromkeys(BY_SLOT, "slate")
    lengths |= {name: of for name, of in MAYBE.items() if len(getattr(row, name))}
    for name, of in lengths.items():
        size, expected = len(getattr(row, name)), len(getattr(row, of))
        if size != expected:
            raise ValueError(f"impression {row.number}: {name} must be {expected}, one for each of {of}, not {size}")


def _joined(rows: Sequence[Impression], name: str) -> npt.NDArray[Any]:
    return np.concatenate([getattr(row, name) for row in rows])


def _refuse(
    rows: Sequence[Impression],
    name: str,
    values: npt.NDArray[Any],
    wrong: npt.NDArray[np.bool_],
    expected: Callable[[Impression], str],
) -> None:
    if not wrong.any():
        return
    at = int(np.argmax(wrong))
    ends = np.cumsum([len(getattr(row, name)) for row in rows])
    row = rows[int(np.searchsorted(ends, at, side="right"))]
    raise ValueError(f"impression {row.number}: {name} must hold {expected(row)}, not {values[at]}")

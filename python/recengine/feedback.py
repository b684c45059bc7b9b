"""What was shown and what came of it: settings, and the log."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Feedback", "Impression", "ImpressionLog"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """How `Engine.feedback` joins and weighs; `Engine.feedback_settings` takes it.

    Parameters
    ----------
    capacity
        The latest impressions that are kept, in memory: some 10 bytes a candidate each.
    window
        Seconds after an impression in which feedback to it is taken; ``math.inf``: always. By timestamps alone: what
        was shown before the engine saw its first one has no time, and no window.
    correction
        "ips": feedback weighs one over the probability that the item was shown there, so that what is rarely shown
        counts as much as what is shown always. "top_k": the policy gradient's correction for lists of K items, with the
        softmax of the scores for the policy (Chen et al. 2019). "none": 1.
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


@dataclass(frozen=True, slots=True)
class Impression:
    """One list that was shown.

    Attributes
    ----------
    number, time
        That of `Engine.impression`; seconds, NaN if the engine had seen no timestamp by then.
    user
        The id that was asked for, whether the engine knew it or not; None for a visitor.
    policy, parameter, diversity, seed
        What chose it.
    context
        What the query added to the weights of the item features, in their order: float32 (f,), or empty.
    history
        Of a visitor, the items of the session that the query named and the engine knew, the last 1,024; empty for a
        user. Removed items have left it.
    candidates, scores
        What it was chosen from, best first: (n,) and float32 (n,). None stands for items that were removed since:
        their place, score and chance are kept, so that estimates from the log stay what they were, but not their ids.
    slate
        Places among the candidates, in the order of the slots, int64 (k,).
    log_propensities, rewards
        Of each slot, float64 (k,) and float32 (k,); a reward is NaN where no feedback came.
    """

    number: int
    time: float
    user: Any
    policy: str
    parameter: float
    diversity: str
    seed: int
    context: npt.NDArray[np.float32]
    history: npt.NDArray[Any]
    candidates: npt.NDArray[Any]
    scores: npt.NDArray[np.float32]
    slate: npt.NDArray[np.int64]
    log_propensities: npt.NDArray[np.float64]
    rewards: npt.NDArray[np.float32]

    @property
    def items(self) -> npt.NDArray[Any]:
        """The ids that were shown, (k,)."""
        return self.candidates[self.slate]


_FIELDS = tuple(Impression.__dataclass_fields__)
_SINCE_CONTEXT = ("context", "history")  # tables that were written before have no such columns


class ImpressionLog:
    """Impressions in the order in which they were shown: a sequence of `Impression`.

    >>> from recengine import Engine
    >>> from recengine.explore import Greedy
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
    >>> engine.feedback(engine.impression(engine.recommend("ann", k=2, explore=Greedy())), "tea", 1.0, learn=False)
    1.0
    >>> log = engine.impressions()
    >>> log[0].items.tolist(), log[0].rewards.tolist()
    (['cup', 'tea'], [nan, 1.0])
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Sequence[Impression]) -> None:
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Impression:
        return self._rows[place]

    def __iter__(self) -> Iterator[Impression]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"ImpressionLog({len(self._rows)} impressions)"

    def to_arrow(self) -> Any:
        """A pyarrow Table, one row an impression, lists for what there are several of. ImportError without pyarrow.

        >>> ImpressionLog([]).to_arrow().column_names[:3]
        ['number', 'time', 'user']
        """
        pa = _arrow()
        columns = {name: [getattr(row, name) for row in self._rows] for name in _FIELDS}
        ids = pa.string() if any(_is_text(row.candidates) for row in self._rows) else pa.int64()
        users = pa.string() if any(isinstance(user, str) for user in columns["user"]) else pa.int64()
        kinds = {
            "number": pa.int64(),
            "time": pa.float64(),
            "user": users,
            "policy": pa.string(),
            "parameter": pa.float64(),
            "diversity": pa.string(),
            "seed": pa.int64(),
            "context": pa.list_(pa.float32()),
            "history": pa.list_(ids),
            "candidates": pa.list_(ids),
            "scores": pa.list_(pa.float32()),
            "slate": pa.list_(pa.int64()),
            "log_propensities": pa.list_(pa.float64()),
            "rewards": pa.list_(pa.float32()),
        }
        return pa.table({name: pa.array(columns[name], type=kind) for name, kind in kinds.items()})

    @classmethod
    def from_arrow(cls, table: Any) -> ImpressionLog:
        """The log that `to_arrow` gave as a table. ValueError naming a column that is missing.

        >>> len(ImpressionLog.from_arrow(ImpressionLog([]).to_arrow()))
        0
        """
        there = [name for name in _FIELDS if name in table.column_names]
        missing = [name for name in _FIELDS if name not in there and name not in _SINCE_CONTEXT]
        if missing:
            raise ValueError(f"the table has no column {missing[0]!r}, it has {table.column_names}")
        kinds: dict[str, Any] = {
            "context": np.float32,
            "scores": np.float32,
            "slate": np.int64,
            "log_propensities": np.float64,
            "rewards": np.float32,
        }
        rows = []
        for record in table.select(there).to_pylist():
            record = {"context": [], "history": [], **record}
            for name in ("history", "candidates"):
                record[name] = _ids(record[name])
            for name, kind in kinds.items():
                record[name] = np.array(record[name], dtype=kind)
            rows.append(Impression(**record))
        return cls(rows)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes one Parquet file. ImportError without pyarrow.

        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ImpressionLog([]).to_parquet(pathlib.Path(folder) / "log.parquet")
        ...     len(ImpressionLog.from_parquet(pathlib.Path(folder) / "log.parquet"))
        0
        """
        table = self.to_arrow()
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, path)

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str]) -> ImpressionLog:
        """Reads what `to_parquet` wrote. ImportError without pyarrow.

        >>> ImpressionLog.from_parquet("missing.parquet")
        Traceback (most recent call last):
        FileNotFoundError: missing.parquet
        """
        _arrow()
        import pyarrow.parquet

        return cls.from_arrow(pyarrow.parquet.read_table(path))


def _is_text(ids: npt.NDArray[Any]) -> bool:
    return ids.dtype == object and any(isinstance(item, str) for item in ids)


def _ids(ids: Sequence[Any]) -> npt.NDArray[Any]:
    return np.array(ids, dtype=np.int64 if all(isinstance(item, int) for item in ids) else object)


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError('Arrow and Parquet need pyarrow: pip install "recengine[arrow]"') from error
    return pyarrow


def _without(candidates: npt.NDArray[Any], removed: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    if len(removed) == 0:
        return candidates
    left = candidates.astype(object)
    left[removed] = None
    return left


def log_of(rows: Sequence[tuple[int, float, Any, npt.NDArray[np.float32]]]) -> ImpressionLog:
    """The core's impressions as a log."""
    return ImpressionLog(
        [
            Impression(
                number=number,
                time=time,
                user=decision.user,
                policy=decision.policy,
                parameter=decision.parameter,
                diversity=decision.diversity,
                seed=decision.seed,
                context=decision.context,
                history=decision.history,
                candidates=_without(decision.candidates, decision.removed),
                scores=decision.candidate_scores,
                slate=decision.slate,
                log_propensities=decision.log_propensities,
                rewards=rewards,
            )
            for number, time, decision, rewards in rows
        ]
    )

"""The log: what was shown, what it was chosen from and how, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.diversify import DPP, MMR, Diversity, MaxPerGroup
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Random, Softmax, SquareCB, ThompsonSampling
from recengine.impression_checks import check_impressions

__all__ = ["Impression", "ImpressionLog"]


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
        What chose it: names, and the policy's epsilon, temperature, scale, alpha or gamma.
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
    precision, samples
        Of ThompsonSampling and UCB, and of ThompsonSampling.
    diversity_weight, diversity_count
        lambda_ of MMR or theta of DPP; their pool (0: by itself), or n of MaxPerGroup.
    groups
        Of the candidates, by number, 0 for none, int64 (n,), where `MaxPerGroup` limited them; else empty.
    log_propensity_errors
        Standard errors of log-propensities that are estimates, float64 (k,); else empty.
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
    precision: str = "diagonal"
    samples: int = 0
    diversity_weight: float = 0.0
    diversity_count: int = 0
    groups: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    log_propensity_errors: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def items(self) -> npt.NDArray[Any]:
        """The ids that were shown, (k,)."""
        return self.candidates[self.slate]

    @property
    def explore(self) -> Policy:
        """The policy, as `Engine.recommend` takes it, with so many candidates as there are. ValueError for one that is
        not of `recengine.explore`.

        >>> from recengine import Engine
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> shown = engine.impression(engine.recommend("ann", k=1, explore=Softmax(0.5), diversify=MaxPerGroup(2)))
        >>> engine.impressions()[0].explore, engine.impressions()[0].diversify
        (Softmax(temperature=0.5, candidates=2), MaxPerGroup(n=2))
        """
        count = {"candidates": max(len(self.candidates), 1)}
        precision: Any = self.precision
        match self.policy:
            case "greedy":
                return Greedy(**count)
            case "random":
                return Random(**count)
            case "epsilon_greedy":
                return EpsilonGreedy(self.parameter, **count)
            case "softmax":
                return Softmax(self.parameter, **count)
            case "thompson":
                return ThompsonSampling(self.parameter, precision, self.samples, **count)
            case "ucb":
                return UCB(self.parameter, precision, **count)
            case "squarecb":
                return SquareCB(self.parameter, **count)
        raise ValueError(f"impression {self.number} was chosen by {self.policy!r}, which is not of recengine.explore")

    @property
    def diversify(self) -> Diversity | None:
        """The diversity, as `Engine.recommend` takes it. ValueError for one that is not of `recengine.diversify`, or
        was logged without its settings (before they were kept).
        """
        match self.diversity:
            case "none":
                return None
            case "mmr":
                return MMR(self.diversity_weight, self.diversity_count or None)
            case "dpp":
                return DPP(self.diversity_weight, self.diversity_count or None)
            case "max_per_group":
                return MaxPerGroup(self.diversity_count)
        raise ValueError(
            f"impression {self.number} was chosen by {self.diversity!r}, which is not of recengine.diversify"
        )


_FIELDS = tuple(Impression.__dataclass_fields__)
# Tables that were written before these were logged have no such columns.
_OLDER: dict[str, Any] = {
    "context": [],
    "history": [],
    "precision": "diagonal",
    "samples": 0,
    "diversity_weight": 0.0,
    "diversity_count": 0,
    "groups": [],
    "log_propensity_errors": [],
}
_KINDS: dict[str, Any] = {
    "context": np.float32,
    "scores": np.float32,
    "slate": np.int64,
    "log_propensities": np.float64,
    "rewards": np.float32,
    "groups": np.int64,
    "log_propensity_errors": np.float64,
}


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

    __slots__ = ("_is_checked", "_rows")

    def __init__(self, rows: Sequence[Impression]) -> None:
        self._rows = tuple(rows)
        self._is_checked = False

    def check(self) -> None:
        """Raises ValueError or TypeError naming the first impression, and its field, that no engine could have logged:
        columns of unequal length, places that are not among the candidates or come twice, scores that are not finite,
        probabilities above 1, infinite rewards. `recengine.ope` asks; logs of engines and files have been checked.

        >>> ImpressionLog([]).check()
        """
        if not self._is_checked:
            check_impressions(self._rows)
            self._is_checked = True

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
            "precision": pa.string(),
            "samples": pa.int64(),
            "diversity_weight": pa.float64(),
            "diversity_count": pa.int64(),
            "groups": pa.list_(pa.int64()),
            "log_propensity_errors": pa.list_(pa.float64()),
        }
        return pa.table({name: pa.array(columns[name], type=kind) for name, kind in kinds.items()})

    @classmethod
    def from_arrow(cls, table: Any) -> ImpressionLog:
        """The log that `to_arrow` gave as a table, or an older version did. ValueError or TypeError naming a column
        that is missing, or the impression and the field that no engine could have logged.

        >>> len(ImpressionLog.from_arrow(ImpressionLog([]).to_arrow()))
        0
        """
        there = [name for name in _FIELDS if name in table.column_names]
        missing = [name for name in _FIELDS if name not in there and name not in _OLDER]
        if missing:
            raise ValueError(f"the table has no column {missing[0]!r}, it has {table.column_names}")
        rows = []
        for record in table.select(there).to_pylist():
            record = {**_OLDER, **record}
            for name in ("history", "candidates"):
                record[name] = _ids(record[name])
            for name, kind in _KINDS.items():
                record[name] = _column(record["number"], name, record[name], kind)
            rows.append(Impression(**record))
        log = cls(rows)
        log.check()
        return log

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


def _column(number: Any, name: str, values: Any, kind: Any) -> npt.NDArray[Any]:
    """TypeError for what is no list of such numbers: ints are not made of fractions."""
    try:
        column = np.asarray(values)
        if kind is np.int64 and column.size and column.dtype.kind not in "iu":
            raise TypeError
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
            return column.astype(kind)
    except (TypeError, ValueError):
        raise TypeError(f"impression {number}: {name} must be a list of {np.dtype(kind)}, not {values!r}") from None


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
    log = ImpressionLog(
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
                precision=decision.precision,
                samples=decision.samples,
                diversity_weight=decision.weight,
                diversity_count=decision.count,
                groups=decision.groups,
                log_propensity_errors=decision.errors,
            )
            for number, time, decision, rewards in rows
        ]
    )
    log._is_checked = True  # the core has never let anything else in
    return log

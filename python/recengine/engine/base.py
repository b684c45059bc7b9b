"""The engine's constructor and running settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from recengine import _core
from recengine.engine.arguments import names_of, positive_or_none, shortest
from recengine.fit import Ials
from recengine.tables import Ids

Objective = Literal["softmax", "bpr", "logistic", "squared"]
Ranker = Literal["auto", "linear", "mlp"]

ALS = Ials()
_NO_RANKER = "none"  # as the core calls it

# What each objective starts from where the caller says nothing: (learning_rate with Adagrad, with SGD, negatives).
_DEFAULTS: dict[str, tuple[float, float, int]] = {
    "softmax": (0.1, 0.05, 64),
    "bpr": (0.1, 0.05, 1),
    "logistic": (0.1, 0.05, 0),
    "squared": (0.05, 0.01, 0),
}


def shown_settings(core: Mapping[str, Any]) -> dict[str, Any]:
    """The core's settings as the constructor takes them."""
    settings = dict(core)
    settings["item_features"] = tuple(settings["item_features"])
    for name in ("max_users", "max_items", "user_budget"):
        settings[name] = settings[name] or None
    if settings["ranker"] == _NO_RANKER:
        settings["ranker"] = None
    doubles = (
        "popularity_half_life",
        "neighbors_half_life",
        "user_budget",
        "max_weight",
        "max_value",
        "max_ahead",
    )  # the others are float32 in the core
    return {
        name: shortest(value) if isinstance(value, float) and name not in doubles else value
        for name, value in settings.items()
    }


class Base:
    """What every part of the engine has: the core, and views of the ids it knows."""

    __slots__ = ("_core", "items", "users")

    users: Ids
    items: Ids

    def __init__(
        self,
        *,
        dim: int = 64,
        objective: Objective = "softmax",
        seed: int = 0,
        learning_rate: float | None = None,
        learning_rate_decay: float = 0.0,
        optimizer: Literal["adagrad", "sgd"] = "adagrad",
        l2: float = 0.0,
        max_step: float = 1.0,
        init_scale: float = 0.1,
        negatives: int | None = None,
        recent_share: float = 0.5,
        history: int = 32,
        history_decay: float = 0.5,
        session_gap: float = 3600.0,
        popularity_half_life: float | None = None,
        storage: Literal["fp32", "fp16"] = "fp32",
        ranker: Ranker | None = "auto",
        item_features: Sequence[str] = (),
        neighbors: int | None = None,
        neighbors_window: int = 8,
        neighbors_half_life: float = 120 * 86400.0,
        user_model: Literal["learned", "als"] = "learned",
        als_unobserved_weight: float = ALS.unobserved_weight,
        als_l2: float = ALS.l2,
        als_l2_exponent: float = ALS.l2_exponent,
        max_users: int | None = None,
        max_items: int | None = None,
        evict: Literal["error", "lru"] = "error",
        user_budget: float | None = None,
        max_weight: float = 1e6,
        max_value: float = 1e6,
        max_ahead: float = 86400.0,
        threads: int | None = None,
        maintenance: bool = True,
    ) -> None:
        adagrad_rate, sgd_rate, default_negatives = _DEFAULTS.get(objective, (0.0, 0.0, 0))
        if learning_rate is None:
            learning_rate = sgd_rate if optimizer == "sgd" else adagrad_rate
            if user_model == "als":
                learning_rate = 0.0
        if ranker == "auto":
            ranker = "linear" if objective == "softmax" and history != 0 and user_model == "learned" else None
        if neighbors is None:
            neighbors = 0 if ranker is None else 64
        core = _core.Engine(
            {
                "dim": dim,
                "objective": objective,
                "optimizer": optimizer,
                "seed": seed,
                "learning_rate": learning_rate,
                "learning_rate_decay": learning_rate_decay,
                "l2": l2,
                "max_step": max_step,
                "init_scale": init_scale,
                "negatives": default_negatives if negatives is None else negatives,
                "recent_share": recent_share,
                "history": history,
                "history_decay": history_decay,
                "session_gap": session_gap,
                "popularity_half_life": popularity_half_life,
                "storage": storage,
                "ranker": _NO_RANKER if ranker is None else ranker,
                "item_features": names_of(item_features),
                "neighbors": neighbors,
                "neighbors_window": neighbors_window,
                "neighbors_half_life": neighbors_half_life,
                "user_model": user_model,
                "als_unobserved_weight": als_unobserved_weight,
                "als_l2": als_l2,
                "als_l2_exponent": als_l2_exponent,
                "max_users": positive_or_none("max_users", max_users),
                "max_items": positive_or_none("max_items", max_items),
                "evict": evict,
                "user_budget": positive_or_none("user_budget", user_budget),
                "max_weight": max_weight,
                "max_value": max_value,
                "max_ahead": max_ahead,
            }
        )
        if threads is not None:
            core.threads = threads
        core.maintenance = maintenance
        self._adopt(core)

    def _adopt(self, core: _core.Engine) -> None:
        self._core = core
        self.users = Ids(core, "user")
        self.items = Ids(core, "item")

    def _context(self, context: Mapping[str, float] | None) -> list[float]:
        if context is None:
            return []
        if not isinstance(context, Mapping):
            raise TypeError(f"context must map names of item features to numbers, not {context!r}")
        names = self._core.settings()["item_features"]
        for name, value in context.items():
            if name not in names:
                raise ValueError(f"context must name item features, which are {names}, not {name!r}")
            if not isinstance(value, (int, float, np.number)):
                raise TypeError(f"context[{name!r}] must be a number, not {value!r}")
        return [float(context.get(name, 0.0)) for name in names] if context else []

    @property
    def learning_rate(self) -> float:
        """The base learning rate; may be set while the engine runs. ValueError unless finite and at least 0."""
        return shortest(self._core.learning_rate)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._core.learning_rate = rate

    @property
    def threads(self) -> int:
        """The most threads one call may use; may be set while the engine runs. ValueError unless 1 to 1024."""
        return self._core.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._core.threads = threads

    @property
    def settings(self) -> dict[str, Any]:
        """All hyper-parameters of this engine, as the constructor takes them.

        >>> Engine(dim=32).settings["dim"]
        32
        """
        return shown_settings(
            {**self._core.settings(), "learning_rate": self._core.learning_rate, "threads": self.threads}
        )

    @property
    def maintenance(self) -> bool:
        """Whether a background thread keeps retrieval fast.

        >>> Engine(maintenance=False).maintenance
        False
        """
        return self._core.maintenance

    @maintenance.setter
    def maintenance(self, on: bool) -> None:
        self._core.maintenance = bool(on)

    def maintain(self) -> int:
        """Does the upkeep of retrieval now, on all `threads`: builds cells, moves rows to where they belong, tightens
        bounds, relinks a graph. Queries and learners go on meanwhile. Returns the number of steps.

        >>> engine = Engine.from_factors([1], [[1.0]], range(5_000), [[float(i)] for i in range(5_000)])
        >>> engine.maintain() >= 0, engine.plan(1)["cells"] > 0
        (True, True)
        """
        return self._core.maintain()

    def stats(self) -> dict[str, Any]:
        """Counters, latencies (microseconds, percentiles within 9 %), memory (bytes), the kernels in use, the number of
        cells, and of answers that were not certified the mean recall of a sample (None if there is none).

        ``"bad_events"``: what `learn_many` skipped, by reason, ``"over_budget"``: events of users who were over their
        budget, both since this engine was made, loaded or opened. ``"sources"``: the last offset of each.
        ``"durability"`` of an engine with a folder: the number of the log's next record, its length since the last
        snapshot, how often it was synced, checkpoints so far, what recovery replayed and cut off, errors that wait to
        be made good, whether it is closed. ``"mapping"`` of an engine that is mapped (`load`): its file, the file's
        length, whether all of it has been verified, and the damage that was found (None if there was none).

        >>> sorted(Engine().stats())[:4]
        ['bad_events', 'cells', 'durability', 'events']
        """
        return self._core.stats()

    def __repr__(self) -> str:
        settings = self._core.settings()
        return (
            f"Engine(objective={settings['objective']!r}, dim={settings['dim']}, "
            f"users={len(self.users)}, items={len(self.items)}, events={self.stats()['events']})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        figures = {**self.stats(), **self.settings}
        shown = (
            "objective",
            "dim",
            "users",
            "items",
            "events",
            "queries",
            "optimizer",
            "learning_rate",
            "kernels",
            "threads",
        )
        rows = "".join(f"<tr><th>{name}</th><td>{escape(str(figures[name]))}</td></tr>" for name in shown)
        return f"<table><caption>recengine.Engine</caption><tbody>{rows}</tbody></table>"

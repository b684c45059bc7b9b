"""Which policy would have won, from one log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recengine.explore import UCB, Policy, ThompsonSampling, core_explore
from recengine.feedback import Impression, ImpressionLog

from .estimate import Estimate, Floats
from .model import RewardModel
from .single import dm, dr, ips, snips, switch_dr
from .slates import cascade_dr, independent_ips, reward_interaction_ips

if TYPE_CHECKING:
    from recengine.engine import Engine


@dataclass(frozen=True, slots=True)
class Row:
    """A policy's name, and its estimates by the name of the estimator."""

    policy: str
    estimates: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What policies would have earned, beside what was earned. ``str()`` is a table.

    Attributes
    ----------
    logged
        What the policy that ran earned, with its interval.
    rows
        One a policy, in the order they were given.
    estimator
        The one that `best` goes by: "DR" for single choices, "cascade DR" for lists.
    """

    logged: Estimate
    rows: tuple[Row, ...]
    estimator: str

    @property
    def best(self) -> str | None:
        """The policy whose interval lies above the values of all others and of what was logged; None: the log does not
        tell."""
        ranked = sorted(self.rows, key=lambda row: row.estimates[self.estimator].value, reverse=True)
        first, *others = ranked
        rest = [row.estimates[self.estimator].value for row in others] + [self.logged.value]
        return first.policy if first.estimates[self.estimator].low > max(rest) else None

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Plain figures, by policy and estimator."""
        rows = {row.policy: row.estimates for row in self.rows}
        return {
            policy: {name: _plain(estimate) for name, estimate in estimates.items()}
            for policy, estimates in {"logged": {"mean": self.logged}, **rows}.items()
        }

    def __str__(self) -> str:
        names = list(self.rows[0].estimates)
        lines = [["policy", *names, "effective sample"]]
        lines.append(["logged", _cell(self.logged), *[""] * (len(names) - 1), f"{self.logged.rows:,}"])
        for row in self.rows:
            sample = row.estimates[self.estimator]
            mark = " !" if sample.overlap_is_bad else ""
            cells = [_cell(row.estimates[name]) for name in names]
            lines.append([row.policy, *cells, f"{sample.effective_sample_size:,.0f}{mark}"])
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join(text)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Intervals of all policies, as a picture. ImportError without matplotlib."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ImportError('plots need matplotlib: pip install "recengine[cli]"') from error
        figure = Figure(figsize=(7, 1.5 + 0.5 * len(self.rows)), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        names = list(self.rows[0].estimates)
        for number, name in enumerate(names):
            found = [row.estimates[name] for row in self.rows]
            heights = [place + 0.6 * (number / max(len(names) - 1, 1) - 0.5) for place in range(len(found))]
            values = np.array([one.value for one in found])
            reach = np.abs(np.array([[one.value - one.low, one.high - one.value] for one in found]).T)
            axes.errorbar(values, heights, xerr=reach, fmt="o", markersize=4, capsize=2, label=name)
        axes.axvspan(self.logged.low, self.logged.high, color="0.85", label="logged")
        axes.set_yticks(range(len(self.rows)), [row.policy for row in self.rows])
        axes.invert_yaxis()
        axes.set_xlabel("reward an impression, with 95 % intervals")
        axes.legend(fontsize="small")
        figure.savefig(path)


def compare(
    log: ImpressionLog,
    policies: Mapping[str, Policy | tuple[Policy, Engine]],
    *,
    clusters: bool = False,
    seed: int = 0,
) -> Comparison:
    """What other policies would have earned with the candidates that were logged.

    Logs of single choices are judged by IPS, SNIPS, DM, DR and Switch-DR, logs of longer lists by independent and
    reward-interaction IPS and cascade DR. The reward model of these is, for each slot, a ridge regression on the logged
    score, its square and the place among the candidates, cross-fitted in two halves; what the slots below earn, it
    takes from the policy's best candidates.

    Parameters
    ----------
    log
        Of `Engine.impressions`, or read back from Parquet. A missing reward counts 0.
    policies
        By name: a policy, over the logged scores; or a policy and an engine that ranks the logged candidates anew, for
        the logged user, or the visitor's session, and context. Candidates that the engine does not know it would not
        choose. ThompsonSampling (with `samples`) and UCB need an engine: they are judged by what it knows of its
        uncertainty now, as if they did not learn on; Thompson sampling's propensities are estimates from its samples.
    clusters
        Take the impressions of one user as one observation.
    seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        For an empty log or no policies, for impressions without propensities (UCB, Thompson sampling without samples,
        diversity behind a policy), for policies of the linear model without an engine, and for an engine whose item
        features are not those of the logged context.

    >>> from recengine import Engine, ope
    >>> from recengine.explore import EpsilonGreedy, Random
    >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
    >>> for seed in range(400):
    ...     ranking = engine.recommend("ann", k=1, explore=Random(), seed=seed)
    ...     shown = engine.impression(ranking)
    ...     _ = engine.feedback(shown, ranking.ids[0], float(ranking.ids[0] == "cup"), learn=False)
    >>> ope.compare(engine.impressions(), {"epsilon": EpsilonGreedy(0.1), "random": Random()}).best
    'epsilon'
    """
    if len(log) == 0:
        raise ValueError("the log is empty")
    if not policies:
        raise ValueError("policies must hold at least one policy")
    for name, choice in policies.items():
        _check_policy(name, *_parts(choice))
    rows = list(log)
    lists = max(len(row.slate) for row in rows)
    if lists == 0:
        raise ValueError("the log holds empty lists only")
    shown, rewards = np.ones((len(rows), lists)), np.zeros((len(rows), lists))
    for place, row in enumerate(rows):
        if np.isnan(row.log_propensities).any():
            raise ValueError(
                f"impression {row.number} was chosen by {row.policy!r} with diversity {row.diversity!r} and has no "
                "propensities"
            )
        shown[place, : len(row.slate)] = np.exp(row.log_propensities)
        rewards[place, : len(row.slate)] = np.nan_to_num(row.rewards)
    options: dict[str, Any] = {"seed": seed, "clusters": _users(rows) if clusters else None}
    ran = np.ones(len(rows))
    logged = ips(rewards.sum(axis=1), ran, ran, **options)
    model = RewardModel(rows, rewards)
    judge = _single if lists == 1 else _lists
    found = []
    for name, choice in policies.items():
        views = [_view(row, *_parts(choice), seed) for row in rows]
        found.append(Row(name, {one.estimator: one for one in judge(views, rewards, shown, model, options)}))
    return Comparison(logged, tuple(found), "DR" if lists == 1 else "cascade DR")


@dataclass(frozen=True, slots=True)
class _View:
    """How a policy sees an impression: how probable it makes each candidate for each slot, given the logged slots
    before it, (k, n); and given its own best candidates before it."""

    slate: npt.NDArray[np.int64]
    shares: Floats
    best: Floats


def _single(
    views: list[_View], rewards: Floats, shown: Floats, model: RewardModel, options: dict[str, Any]
) -> list[Estimate]:
    means = [model.means(place)[:, 0] for place in range(len(views))]
    target = np.array([min(view.shares[0, view.slate[0]], 1.0) for view in views])
    expected = np.array([view.shares[0] @ mean for view, mean in zip(views, means, strict=True)])
    predicted = np.array([mean[view.slate[0]] for view, mean in zip(views, means, strict=True)])
    weighted = (rewards[:, 0], shown[:, 0], target)
    return [
        ips(*weighted, **options),
        snips(*weighted, **options),
        dm(expected, **options),
        dr(*weighted, predicted, expected, **options),
        switch_dr(*weighted, predicted, expected, **options),
    ]


def _lists(
    views: list[_View], rewards: Floats, shown: Floats, model: RewardModel, options: dict[str, Any]
) -> list[Estimate]:
    target, predicted, expected = np.ones_like(shown), np.zeros_like(shown), np.zeros_like(shown)
    for place, view in enumerate(views):
        slots = np.arange(len(view.slate))
        means = model.means(place)[:, : len(slots)]
        target[place, slots] = np.minimum(view.shares[slots, view.slate], 1.0)
        below = np.cumsum((view.best * means.T).sum(axis=1)[::-1])[::-1]
        below = np.append(below[1:], 0.0)
        predicted[place, slots] = means[view.slate, slots] + below
        expected[place, slots] = (view.shares * means.T).sum(axis=1) + below
    return [
        independent_ips(rewards, shown, target, **options),
        reward_interaction_ips(rewards, shown, target, **options),
        cascade_dr(rewards, shown, target, predicted, expected, **options),
    ]


def _parts(choice: Policy | tuple[Policy, Engine]) -> tuple[Policy, Engine | None]:
    return choice if isinstance(choice, tuple) else (choice, None)


def _check_policy(name: str, policy: Policy, engine: Engine | None) -> None:
    core_explore(policy, None)  # TypeError for what is no policy
    if not isinstance(policy, (UCB, ThompsonSampling)):
        return
    kind = type(policy).__name__
    if engine is None:
        raise ValueError(
            f"{name!r}: {kind} goes by what an engine knows of its uncertainty, not by scores alone: give "
            f"({kind}(...), engine)"
        )
    if isinstance(policy, ThompsonSampling) and policy.samples == 0:
        raise ValueError(f"{name!r}: ThompsonSampling has no propensities in closed form: samples=n estimates them")


def _view(row: Impression, policy: Policy, engine: Engine | None, seed: int) -> _View:
    slots, count = len(row.slate), len(row.candidates)
    scores = row.scores.astype(np.float64) if engine is None else _scores(row, engine)
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(-scores[known], kind="stable")]
    places = np.full(count, -1)
    places[order] = np.arange(len(order))
    # Below an item that the policy does not know nothing is ever shown by it.
    unknown = np.flatnonzero(places[row.slate] < 0)
    reached = int(unknown[0]) + 1 if len(unknown) else slots
    prefix = places[row.slate[: reached - 1]] if len(unknown) else places[row.slate]

    def shares_of(slate: npt.NDArray[Any], of: int) -> Floats:
        explore = core_explore(policy, None)
        sorted_scores = scores[order].astype(np.float32)
        # The slot below a prefix is asked for by any candidate that is left.
        left = np.setdiff1d(np.arange(len(order)), slate)[: max(of - len(slate), 0)]
        asked = np.append(slate, left)[:of]
        if engine is not None and isinstance(policy, (UCB, ThompsonSampling)):
            drawn = (seed * 1_000_003 + row.number) % 2**63
            found = engine._core.slot_propensities(
                row.user, row.candidates[order].tolist(), sorted_scores, asked, explore, drawn
            )
        else:
            found = explore.slots(sorted_scores, asked)
        shares = np.zeros((slots, count))
        shares[: len(asked), order] = found
        return shares

    return _View(row.slate, shares_of(prefix, reached), shares_of(np.arange(min(slots, len(order))), slots))


def _scores(row: Impression, engine: Engine) -> Floats:
    """Of the logged candidates, by an engine; -inf for what it does not know."""
    known = [item for item in row.candidates.tolist() if item is not None and item in engine.items]
    names = list(engine.settings["item_features"])
    if len(row.context) not in (0, len(names)):
        raise ValueError(
            f"impression {row.number} has a context of {len(row.context)} item features, the engine has {names}"
        )
    context = dict(zip(names, row.context.tolist(), strict=True)) if len(row.context) else None
    if not known:
        return np.full(len(row.candidates), -np.inf)
    if row.user is not None:
        ranking = engine.rank(row.user, known, context=context)
    else:
        ranking = engine.recommend(history=row.history.tolist(), k=len(known), among=known, context=context)
    by_id = dict(zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True))
    return np.array([by_id.get(item, -np.inf) for item in row.candidates.tolist()])


def _users(rows: list[Impression]) -> npt.NDArray[np.intp]:
    """A number for each user; visitors are one each."""
    codes: dict[Any, int] = {}
    return np.array(
        [codes.setdefault(("visitor", row.number) if row.user is None else row.user, len(codes)) for row in rows],
        dtype=np.intp,
    )


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in Estimate.__dataclass_fields__ if name != "estimator"}

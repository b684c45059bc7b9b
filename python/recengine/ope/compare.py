"""Which policy would have won, from one log."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.diversify import Diversity
from recengine.engine import Engine
from recengine.explore import Policy
from recengine.impressions import Impression, ImpressionLog

from .contender import contender
from .contest import Lead, leads_of, winner
from .estimate import Estimate, Floats
from .lists import Log, Views, views_of
from .marginals import Marginals, logged_marginals, settings_of_contender
from .model import RewardModel
from .single import dm, dr, dr_terms, ips, snips, switch_dr
from .slates import cascade_dr, cascade_terms, independent_ips, reward_interaction_ips

Choice = Policy | tuple[Policy, Engine] | tuple[Policy, Diversity] | tuple[Policy, Diversity, Engine]


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
        The one that `leads` and `best` go by: "DR" for single choices, "cascade DR" for lists.
    leads
        How far the policy with the highest estimate is ahead of each other one and of what was logged: differences on
        the same impressions, with intervals that hold all at once. Policies of which the log shows too little (an
        `OverlapWarning`) are left out; there are none if that is true of all.
    """

    logged: Estimate
    rows: tuple[Row, ...]
    estimator: str
    leads: tuple[Lead, ...]

    @property
    def best(self) -> str | None:
        """The policy that is ahead of all others, and of what was logged, for certain (`leads`); None: the log does not
        tell. In at most 5 % of logs it names a policy that is not the best of them."""
        return winner(self.leads)

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
    policies: Mapping[str, Choice],
    *,
    clusters: bool = False,
    seed: int = 0,
) -> Comparison:
    """What other policies would have earned with the candidates that were logged.

    Logs of single choices are judged by IPS, SNIPS, DM, DR and Switch-DR, logs of longer lists by independent and
    reward-interaction IPS and cascade DR. The reward model of these is, for each slot, a ridge regression on the logged
    score, its square and the place among the candidates, cross-fitted in two halves; what the slots below earn, it
    takes from the policy's best candidates. Independent IPS goes by marginal propensities, which are estimated from
    lists that the policies draw again.

    An engine that has learned from this very log knows its rewards, and a policy that is judged by it looks better than
    it is. Judge by one from before the log: a snapshot that was saved then, or an engine that learned from other days.

    Parameters
    ----------
    log
        Of `Engine.impressions`, or read back from Parquet. A missing reward counts 0.
    policies
        By name: a policy, over the logged scores; or a tuple of it and of an engine that ranks the logged candidates
        anew, for the logged user, or the visitor's session, and context. Candidates that the engine does not know it
        would not choose. ThompsonSampling (with `samples`) and UCB need an engine: they are judged by what it knows of
        its uncertainty now, as if they did not learn on; Thompson sampling's propensities are estimates from its
        samples. A tuple may hold a diversity as well: `MaxPerGroup` by the groups that were logged, else by those of
        the engine; `MMR` and `DPP` by the rows of an engine, before any policy but UCB.
    clusters
        Take the impressions of one user as one observation.
    seed
        Of the bootstrap, and of lists that are drawn again.

    Raises
    ------
    TypeError, ValueError
        For an empty log or no policies, for what is no policy, for an impression that no engine could have logged, by
        number and field, for impressions without propensities (UCB, Thompson sampling without samples), for policies or
        diversity that lack an engine, and for an engine whose item features are not those of the logged context.

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
    if "logged" in policies:
        raise ValueError("'logged' is the name of what ran: give the policy another one")
    contenders = [contender(name, choice) for name, choice in policies.items()]
    checked = Log(log)
    if checked.is_slot.shape[1] == 0:
        raise ValueError("the log holds empty lists only")
    users = _users(checked.rows)
    options: dict[str, Any] = {"seed": seed, "clusters": users if clusters else None}
    ran = np.ones(len(checked.rows))
    logged = checked.rewards.sum(axis=1)
    model = RewardModel(checked, (users if clusters else np.arange(len(ran))) % 2)
    is_single = checked.is_slot.shape[1] == 1
    marginals = None if is_single else _known(logged_marginals(checked, seed))
    rows, terms = [], {}
    for one in contenders:
        views = views_of(checked, one, model.features, seed)
        named = {**options, "policy": one.name}
        if marginals is None:
            estimates, earned = _single(checked, views, model, named)
        else:
            settings = settings_of_contender(one)
            same = None if settings is None else marginals.of.get(settings)
            estimates, earned = _lists(checked, views, model, marginals, same, named)
        rows.append(Row(one.name, {found.estimator: found for found in estimates}))
        if not estimates[-1 if marginals is not None else 3].overlap_is_bad:
            terms[one.name] = earned
    return Comparison(
        ips(logged, ran, ran, **options),
        tuple(rows),
        "DR" if is_single else "cascade DR",
        leads_of(terms, logged, options),
    )


def _single(log: Log, views: Views, model: RewardModel, options: dict[str, Any]) -> tuple[list[Estimate], Floats]:
    """Estimates, and what DR says of each impression."""
    weighted = log.rewards[:, 0], log.shown[:, 0], log.by_slot(views.target, 1.0)[:, 0]
    predicted = log.by_slot(model.shown, 0.0)[:, 0]
    expected = log.by_slot(model.rewards(views.expected), 0.0)[:, 0]
    estimates = [
        ips(*weighted, **options),
        snips(*weighted, **options),
        dm(expected, **options),
        dr(*weighted, predicted, expected, **options),
        switch_dr(*weighted, predicted, expected, **options),
    ]
    return estimates, dr_terms(*weighted, predicted, expected)


def _lists(
    log: Log,
    views: Views,
    model: RewardModel,
    marginals: Marginals,
    same: npt.NDArray[np.intp] | None,
    options: dict[str, Any],
) -> tuple[list[Estimate], Floats]:
    """The same of lists, by cascade DR. `same`: slots that the policy itself chose."""
    target = log.by_slot(views.target, 1.0)
    ahead = log.by_slot(model.rewards(views.ahead), 0.0)
    below = np.cumsum(ahead[:, ::-1], axis=1)[:, ::-1] - ahead
    below = np.where(log.is_slot, below, 0.0)
    predicted = log.by_slot(model.shown, 0.0) + below
    expected = log.by_slot(model.rewards(views.expected), 0.0) + below
    wanted = views.marginals.copy()
    if same is not None:
        wanted[same] = marginals.shares[same]  # one distribution: not by two estimates of it
    columns = log.rewards, log.shown, target
    estimates = [
        _independent(log, marginals, wanted, options),
        reward_interaction_ips(*columns, **options),
        cascade_dr(*columns, predicted, expected, **options),
    ]
    return estimates, cascade_terms(*columns, predicted, expected)


def _known(marginals: Marginals) -> Marginals:
    if marginals.unknown is not None:
        row = marginals.unknown
        warnings.warn(
            f"independent IPS is NaN: impression {row.number} was chosen by {row.policy!r} with diversity "
            f"{row.diversity!r}, whose marginal propensities the log does not tell",
            UserWarning,
            stacklevel=3,
        )
    return marginals


def _independent(log: Log, marginals: Marginals, wanted: Floats, options: dict[str, Any]) -> Estimate:
    if marginals.unknown is not None:
        nan, rows = float("nan"), len(log.rows)
        return Estimate("independent IPS", nan, nan, nan, nan, nan, rows, False)
    shown, target = log.by_slot(marginals.shares, 1.0), log.by_slot(wanted, 1.0)
    return independent_ips(log.rewards, shown, target, **options)


def _users(rows: Sequence[Impression]) -> npt.NDArray[np.intp]:
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

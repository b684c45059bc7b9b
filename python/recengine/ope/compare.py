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
from .slates import independent_ips, reward_interaction_ips

if TYPE_CHECKING:
    from recengine.engine import Engine

SINGLE = ("IPS", "SNIPS", "DM", "DR", "Switch-DR")


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
        The one that `best` goes by: "DR" for single choices, "reward-interaction IPS" for lists.
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

    Logs of single choices are judged by IPS, SNIPS, DM, DR and Switch-DR; the reward model of these is a ridge
    regression on the logged score, its square and the place among the candidates, cross-fitted in two halves. Logs of
    longer lists are judged by independent and reward-interaction IPS.

    Parameters
    ----------
    log
        Of `Engine.impressions`, or read back from Parquet. A missing reward counts 0.
    policies
        By name: a policy with known propensities, over the logged scores; or such a policy and an engine that ranks the
        logged candidates anew.
    clusters
        Take the impressions of one user as one observation.
    seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        For an empty log or no policies, for impressions without propensities (UCB, diversity behind a policy), and for
        policies that have none.

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
        policy = choice[0] if isinstance(choice, tuple) else choice
        core_explore(policy, None)  # TypeError for what is no policy
        if isinstance(policy, (UCB, ThompsonSampling)):
            raise ValueError(f"{name!r}: {type(policy).__name__} has no propensities in closed form")
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
    model = RewardModel(rows) if lists == 1 else None
    found = []
    for name, choice in policies.items():
        if model is not None:
            found.append(Row(name, _single(rows, choice, rewards[:, 0], shown[:, 0], model, options)))
            continue
        target = np.ones_like(shown)
        for place, row in enumerate(rows):
            target[place, : len(row.slate)] = np.exp(_propensities(row, choice))
        target = np.minimum(target, 1.0)
        lists_found = [independent_ips(rewards, shown, target, **options)]
        lists_found.append(reward_interaction_ips(rewards, shown, target, **options))
        found.append(Row(name, {one.estimator: one for one in lists_found}))
    return Comparison(logged, tuple(found), "DR" if model is not None else "reward-interaction IPS")


def _single(
    rows: list[Impression],
    choice: Policy | tuple[Policy, Engine],
    rewards: Floats,
    shown: Floats,
    model: RewardModel,
    options: dict[str, Any],
) -> dict[str, Estimate]:
    target, expected = np.empty(len(rows)), np.empty(len(rows))
    predicted = np.empty(len(rows))
    for place, row in enumerate(rows):
        # The whole distribution: of each candidate the probability to be chosen first.
        shares = _first_slot(row, choice)
        means = model.means(place)
        target[place] = min(shares[row.slate[0]], 1.0)
        expected[place] = shares @ means
        predicted[place] = means[row.slate[0]]
    weighted = (rewards, shown, target)
    found = [
        ips(*weighted, **options),
        snips(*weighted, **options),
        dm(expected, **options),
        dr(*weighted, predicted, expected, **options),
        switch_dr(*weighted, predicted, expected, **options),
    ]
    return {one.estimator: one for one in found}


def _scored(row: Impression, engine: Engine | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Scores of the candidates, best first, and where each candidate then is."""
    scores = row.scores
    if engine is not None:
        ids, found = engine.rank(row.user, row.candidates) if row.user is not None else _nobody(row)
        by_id = dict(zip(ids.tolist(), found.tolist(), strict=True))
        scores = np.array([by_id[item] for item in row.candidates.tolist()], dtype=np.float32)
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    places = np.empty(len(order), dtype=np.intp)
    places[order] = np.arange(len(order))
    return scores[order], places


def _nobody(row: Impression) -> Any:
    raise ValueError(f"impression {row.number} is of a visitor, whom an engine cannot rank for again")


def _propensities(row: Impression, choice: Policy | tuple[Policy, Engine]) -> Floats:
    policy, engine = choice if isinstance(choice, tuple) else (choice, None)
    scores, places = _scored(row, engine)
    return core_explore(policy, None).log_propensities(scores, [], places[row.slate])


def _first_slot(row: Impression, choice: Policy | tuple[Policy, Engine]) -> Floats:
    policy, engine = choice if isinstance(choice, tuple) else (choice, None)
    scores, places = _scored(row, engine)
    return core_explore(policy, None).first_slot(scores)[places]


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

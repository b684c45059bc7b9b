"""Policies on trial: an engine that recommends to an audience and learns from its answers, day by day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recengine.diversify import Diversity
from recengine.engine import Engine
from recengine.evaluate.catalogue import gini
from recengine.explore import Greedy, Policy, core_explore
from recengine.feedback import Feedback, ImpressionLog
from recengine.simulate.audience import Audience

CLICK, PURCHASE = 1.0, 2.0
FEEDBACK = Feedback(capacity=20_000, window=3 * 86_400.0, correction="none")


@dataclass(frozen=True, slots=True)
class DayFigures:
    """One day of a trial.

    Attributes
    ----------
    day
        From 1.
    reward
        Of the day: 1 a click, 2 more a purchase.
    regret
        Clicks that the best lists would have got beyond those that the ones shown were worth, on average.
    coverage
        Share of the catalogue that was shown in the day.
    exposure_gini
        Gini coefficient of how often items were shown in the day: 0, all alike.
    diversity
        Mean number of groups in a list, over its length.
    """

    day: int
    reward: float
    regret: float
    coverage: float
    exposure_gini: float
    diversity: float


class Trial:
    """One policy, one audience, one engine that starts knowing nothing.

    >>> trial = Trial(Greedy(), seed=0, audience={"users": 20, "items": 60, "visits": 30})
    >>> [figures.day for figures in trial.run(2)]
    [1, 2]
    """

    def __init__(
        self,
        policy: Policy | None,
        *,
        diversify: Diversity | None = None,
        seed: int = 0,
        k: int = 5,
        audience: Mapping[str, Any] | None = None,
        engine: Mapping[str, Any] | None = None,
        feedback: Feedback = FEEDBACK,
        learn: bool = True,
    ) -> None:
        self.policy, self.diversify, self.k = policy or Greedy(), diversify, k
        self.audience = Audience(**{"seed": seed, **(audience or {})})
        self.engine = Engine(**{"dim": 16, "seed": seed, "maintenance": False, "ranker": None, **(engine or {})})
        self.engine.feedback_settings = feedback
        self.learn = learn
        self._day = 0
        self._rng = np.random.default_rng(seed)
        self._add(self.audience.items)  # of users it learns by what they do

    def run(self, days: int) -> Iterator[DayFigures]:
        """So many days, one by one."""
        for _ in range(days):
            yield self._one_day()

    def judge(self, policies: Mapping[str, Policy], visits: int) -> dict[str, float]:
        """What each policy's first item would be clicked, on average, in visits that the trial's own policy serves,
        without learning: the truth that off-policy estimates of lists of one are to find. The log then holds these
        visits. ValueError unless k is 1.

        >>> from recengine.explore import Random, Softmax
        >>> small = {"users": 20, "items": 60, "visits": 30}
        >>> trial = Trial(Softmax(), k=1, audience=small)
        >>> sorted(trial.judge({"greedy": Greedy(), "random": Random()}, 10)), len(trial.log)
        (['greedy', 'random'], 10)
        """
        if self.k != 1:
            raise ValueError(f"judge needs lists of one, not of {self.k}")
        audience, engine = self.audience, self.engine
        engine.feedback_settings = replace(engine.feedback_settings, capacity=max(visits, 1))  # what was before goes
        totals = dict.fromkeys(policies, 0.0)
        for _ in range(visits):
            user = audience.visitor()
            ranking = engine.recommend(user, k=1, explore=self.policy)
            ids, scores = ranking.candidates
            chances = audience.chances(user, ids)
            for name, policy in policies.items():
                totals[name] += float(core_explore(policy, None).first_slot(scores) @ chances)
            number = engine.impression(ranking, timestamp=audience.now)
            if audience.respond(user, ranking.ids, number)[0]:
                engine.feedback(number, ranking.ids[0], CLICK, timestamp=audience.now, learn=False)
        return {name: total / max(visits, 1) for name, total in totals.items()}

    @property
    def log(self) -> ImpressionLog:
        """What was shown, and what came of it."""
        return self.engine.impressions()

    def _one_day(self) -> DayFigures:
        audience, engine = self.audience, self.engine
        groups = dict(zip(audience.items.tolist(), audience.groups.tolist(), strict=True))
        shown: dict[int, int] = {}
        reward = regret = kinds = 0.0
        for _ in range(audience.visits):
            user = audience.visitor()
            ranking = engine.recommend(user, k=self.k, explore=self.policy, diversify=self.diversify)
            number = engine.impression(ranking, timestamp=audience.now)
            items = ranking.ids.tolist()
            regret += audience.best(user, len(items)) - audience.expected(user, items)
            kinds += len({groups[item] for item in items}) / max(len(items), 1)
            for item in items:
                shown[item] = shown.get(item, 0) + 1
            for slot in np.flatnonzero(audience.respond(user, items, number)).tolist():
                engine.feedback(number, items[slot], CLICK, timestamp=audience.now, learn=self.learn)
                reward += CLICK
            for bought in audience.due():
                reward += PURCHASE
                self._tell(bought.token, bought.item, bought.time)
        self._day += 1
        size = len(audience.items)
        figures = DayFigures(
            self._day,
            reward,
            regret,
            len(shown) / size,
            gini(shown.values(), size),
            kinds / audience.visits,
        )
        night = audience.night()
        if len(night.removed):
            engine.remove_items(night.removed)
            self._add(night.arrived)
        return figures

    def _tell(self, number: int, item: int, time: float) -> None:
        """A purchase, if it came within the window."""
        try:
            self.engine.feedback(number, item, PURCHASE, timestamp=max(time, 0.0), learn=self.learn)
        except KeyError:  # too late: nobody knows any more what it came from
            return

    def _add(self, items: npt.NDArray[np.int64]) -> None:
        self.engine.set_items(items, self._small(len(items)))
        groups = dict(zip(self.audience.items.tolist(), self.audience.groups.tolist(), strict=True))
        self.engine.set_groups(items, np.array([groups[item] for item in items.tolist()], dtype=np.int64))

    def _small(self, count: int) -> npt.NDArray[np.float32]:
        return self._rng.uniform(-0.1, 0.1, size=(count, self.engine.settings["dim"])).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Trials of several policies over several seeds.

    Attributes
    ----------
    figures
        By policy: `DayFigures` of each seed, of each day.
    """

    figures: dict[str, tuple[tuple[DayFigures, ...], ...]]

    def total(self, policy: str, figure: str = "reward") -> npt.NDArray[np.float64]:
        """Of each seed the sum over the days (reward, regret) or their mean (the others)."""
        days = np.array([[getattr(day, figure) for day in run] for run in self.figures[policy]])
        return np.asarray(days.sum(axis=1) if figure in ("reward", "regret") else days.mean(axis=1))

    def difference(self, policy: str, other: str, figure: str = "reward") -> tuple[float, float, float]:
        """How much more the one has than the other, relative to the other: the mean over seeds, each beside itself, and
        its 95 % interval by Student's t."""
        ratios = self.total(policy, figure) / self.total(other, figure) - 1
        mean = float(ratios.mean())
        if len(ratios) < 2:
            return mean, float("nan"), float("nan")
        reach = student_quantile(len(ratios) - 1) * float(ratios.std(ddof=1)) / len(ratios) ** 0.5
        return mean, mean - reach, mean + reach


def run_trials(
    policies: Mapping[str, tuple[Policy | None, Diversity | None]],
    *,
    days: int = 40,
    seeds: int = 10,
    progress: Callable[[str, int, DayFigures], None] | None = None,
    **settings: Any,
) -> TrialResult:
    """Each policy on the same audiences, one a seed. `progress(name, seed, figures)` is called after each day; the rest
    as `Trial` takes it. ValueError for less than one day or seed.

    >>> small = {"users": 20, "items": 60, "visits": 30}
    >>> result = run_trials({"greedy": (Greedy(), None)}, days=2, seeds=1, audience=small)
    >>> len(result.figures["greedy"][0])
    2
    """
    for name, count in (("days", days), ("seeds", seeds)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")
    figures: dict[str, list[tuple[DayFigures, ...]]] = {name: [] for name in policies}
    for seed in range(seeds):
        for name, (policy, diversify) in policies.items():
            run = []
            for day in Trial(policy, diversify=diversify, seed=seed, **settings).run(days):
                run.append(day)
                if progress is not None:
                    progress(name, seed, day)
            figures[name].append(tuple(run))
    return TrialResult({name: tuple(runs) for name, runs in figures.items()})


def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t by Hill's expansion (1970, algorithm 396), within .3 % from 3 degrees on;
    exact for one and two.

    >>> [round(student_quantile(n), 2) for n in (1, 2, 3, 9, 100)]
    [12.71, 4.3, 3.18, 2.26, 1.98]
    """
    if freedom == 1:
        return 12.706204736
    if freedom == 2:
        return 4.30265273
    z, n = 1.959963984540054, float(freedom)
    terms = (
        (z**3 + z) / 4 / n,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96 / n**2,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / n**3,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160 / n**4,
    )
    return z + sum(terms)

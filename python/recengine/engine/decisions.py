"""What was shown, and what came of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from recengine.engine.arguments import Id, finite_seconds
from recengine.engine.base import Base
from recengine.feedback import Feedback
from recengine.impressions import ImpressionLog, log_of
from recengine.ranking import Ranking


class Decisions(Base):
    """Impressions and feedback."""

    __slots__ = ()

    def impression(self, ranking: Ranking, timestamp: Any = None) -> Any:
        """Records that a ranking which a policy chose was shown; the number to give to `feedback`.

        Its items make the model of `ThompsonSampling` and `UCB` more certain. The engine keeps the latest impressions
        (`feedback_settings`); `save` writes them, and in an engine with a folder they are logged like events: one whose
        number was returned survives. What a removed user was shown is gone; of removed items the ids are. A user whom
        the engine does not know is kept by the id that was asked for, and becomes known by the first feedback that
        teaches something.

        Parameters
        ----------
        ranking
            Of `recommend` with `explore` or `diversify`; of n queries, n numbers, int64 (n,), are returned.
        timestamp
            As in `learn_one`; omitted before any was seen, the impression has no time, and `Feedback.window` no
            beginning.

        Raises ValueError for a ranking that no policy chose, TypeError for anything else.

        Examples
        --------
        >>> from recengine.explore import Softmax
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]], objective="bpr")
        >>> shown = engine.impression(engine.recommend("ann", k=1, explore=Softmax(0.1), seed=0))
        >>> engine.feedback(shown, "cup", 1.0) > 0
        True
        """
        if not isinstance(ranking, Ranking):
            raise TypeError(f"impression takes a Ranking, not {ranking!r}")
        if not ranking._decisions and not (ranking.ids.ndim == 2 and len(ranking.ids) == 0):
            raise ValueError("impression takes a ranking that a policy chose: recommend(..., explore=Greedy())")
        moment = np.nan if timestamp is None else finite_seconds(timestamp)
        numbers = [self._core.impression(decision, moment) for decision in ranking._decisions]
        return np.array(numbers, dtype=np.int64) if ranking.ids.ndim == 2 else numbers[0]

    def feedback(self, impression: int, item: Id, reward: float, timestamp: Any = None, *, learn: bool = True) -> float:
        """Joins what the user did with what was shown, and learns from it. Returns the weight it counts with.

        The event is that of `learn_one`, of a user who may be new, with a weight that corrects for how probable the
        item was to be shown, and looked at, there (`feedback_settings`); 1 where that is not known. Softmax and bpr: a
        positive reward is a choice that counts so much, a negative one a dislike, 0 is recorded and teaches nothing.
        Logistic: label 1 if the reward is positive, else 0. Squared: the reward is the rating.

        An event needs a user: what was shown to a visitor (``history=``) is recorded, teaches nothing and weighs 0. To
        learn from sessions, ask by an id for each: ``recommend("session 17")``.

        Parameters
        ----------
        impression
            A number that `impression` gave.
        item
            One of the items that were shown.
        reward
            Within 1e6. Several for one item add up in the log.
        timestamp
            As in `learn_one`; before the impression's counts as at its time.
        learn
            False: only join and record.

        Raises
        ------
        KeyError
            For an impression that is not known or has expired, whose user was removed, or an item that it did not show
            or that was removed since.
        ValueError
            For a reward that is not a number, or a new user where there is no
            room (`max_users`). Nothing has changed then.

        Examples
        --------
        >>> from recengine.explore import Greedy
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]], objective="bpr")
        >>> shown = engine.impression(engine.recommend("ann", k=1, explore=Greedy()))
        >>> engine.feedback(shown, "cup", -1.0)
        1.0
        """
        moment = np.nan if timestamp is None else finite_seconds(timestamp)
        if isinstance(impression, bool) or not isinstance(impression, (int, np.integer)):
            raise TypeError(f"impression must be an int, not {impression!r}")
        if impression < 0:
            raise KeyError(f"unknown impression {impression}")
        return self._core.feedback(int(impression), item, reward, moment, learn)

    @property
    def feedback_settings(self) -> Feedback:
        """How many impressions are kept, how long feedback is taken, and how it is weighed; may be set while the engine
        runs.

        >>> engine = Engine()
        >>> engine.feedback_settings = Feedback(window=1800.0)
        >>> engine.feedback_settings.window
        1800.0
        """
        return Feedback(**self._core.feedback_settings())

    @feedback_settings.setter
    def feedback_settings(self, settings: Feedback) -> None:
        if not isinstance(settings, Feedback):
            raise TypeError(f"feedback_settings must be a Feedback, not {settings!r}")
        core = self._core
        core.set_feedback_settings(
            settings.capacity, settings.window, settings.correction, settings.clip, settings.position_bias
        )

    def impressions(self) -> ImpressionLog:
        """The impressions that are kept, oldest first, with what came of them: for `recengine.ope`, Arrow and Parquet.

        >>> from recengine.explore import Random
        >>> engine = Engine.from_factors(["ann"], [[1.0]], ["tea", "cup"], [[1.0], [2.0]])
        >>> shown = engine.impression(engine.recommend("ann", k=2, explore=Random(), seed=5))
        >>> len(engine.impressions())
        1
        """
        return log_of(self._core.impressions())

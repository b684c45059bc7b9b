"""A simulated audience: people who answer the lists they are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DAY = 86_400.0
SHARPNESS = 5.0  # of tastes: the utility of an item that fits perfectly
THRESHOLD = 3.5  # utility at which half of those who look click
APPEAL_SPREAD = 0.7
GROUP_SPREAD = 0.35  # of items around the direction of their group, each coordinate
FORGETTING = 0.5  # of boredom, a day


@dataclass(frozen=True, slots=True)
class Night:
    """What changed between two days: items that arrived and items that went, int64."""

    arrived: Integers
    removed: Integers


@dataclass(frozen=True, slots=True)
class Purchase:
    """An item bought some time after it was clicked.

    Attributes
    ----------
    time
        Seconds.
    token
        What `Audience.respond` was given: the number of an impression, say.
    user, item
        Who bought what.
    """

    time: float
    token: int
    user: int
    item: int


class Audience:
    """People with tastes that drift, who look at lists from the top, get bored of what they are shown again, click, and
    sometimes buy later; over a catalogue whose items arrive and go.

    Who looks at an item clicks with probability ``sigmoid(5 <taste, item> + appeal - 3.5 - boredom)``, slot j is looked
    at with probability ``j ** -position_bias`` (Craswell et al. 2008, the examination hypothesis). One seed, one
    audience: the same calls get the same answers.

    Parameters
    ----------
    seed
        Of everything that is drawn.
    users, items
        How many there are; items that go make room for new ones, whose numbers go on. Users are 0 to ``users - 1``.
    groups
        Kinds of items; those of a group are alike.
    visits
        A day.
    drift
        Share of the users who take up a new taste in a night.
    churn
        Share of the items replaced in a night.
    position_bias
        How fast attention falls with the slot; 0: all are looked at.
    boredom
        Utility that an item loses to a user each time the user looks at it; half of it comes back in a day.
    purchases
        Share of clicks that become purchases, on average half a day later.

    Raises ValueError for a number out of range.

    >>> audience = Audience(seed=0, users=10, items=50)
    >>> user = audience.visitor()
    >>> audience.respond(user, audience.items[:3], token=1).tolist()
    [False, False, False]
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        users: int = 200,
        items: int = 500,
        groups: int = 20,
        visits: int = 400,
        drift: float = 0.02,
        churn: float = 0.02,
        position_bias: float = 0.7,
        boredom: float = 0.5,
        purchases: float = 0.2,
    ) -> None:
        for name, count in (("users", users), ("items", items), ("groups", groups), ("visits", visits)):
            if count < 1:
                raise ValueError(f"{name} must be positive, not {count}")
        for name, share in (("drift", drift), ("churn", churn), ("purchases", purchases)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share between 0 and 1, not {share}")
        for name, weight in (("position_bias", position_bias), ("boredom", boredom)):
            if not 0 <= weight < np.inf:
                raise ValueError(f"{name} must be at least 0 and finite, not {weight}")
        self._rng = rng = np.random.default_rng(seed)
        self.visits, self.users = visits, users
        self._drift, self._churn, self._purchases = drift, churn, purchases
        self._position_bias, self._boredom_step = position_bias, boredom
        self._directions = _units(rng.normal(size=(groups, 8)))
        self._ids = np.arange(items, dtype=np.int64)
        self._places = {item: place for place, item in enumerate(self._ids.tolist())}
        self._next = items
        self._group = rng.integers(groups, size=items)
        self._rows, self._appeal = np.zeros((items, 8)), np.zeros(items)
        self._stock(np.arange(items))
        self._taste = self._tastes(users)
        self._boredom = np.zeros((users, items))
        self._bought: list[Purchase] = []
        self._day, self._visit = 0, 0

    @property
    def items(self) -> Integers:
        """The items there are, int64."""
        return self._ids.copy()

    @property
    def groups(self) -> Integers:
        """Their groups, int64."""
        return self._group.astype(np.int64)

    @property
    def now(self) -> float:
        """Seconds since the first day began."""
        return (self._day + self._visit / self.visits) * DAY

    def visitor(self) -> int:
        """Who comes next."""
        self._visit += 1
        return int(self._rng.integers(self.users))

    def chances(self, user: int, items: npt.ArrayLike) -> Floats:
        """The probabilities that the user, looking at these items, clicks. KeyError for an item that is not there."""
        places = np.array([self._places[item] for item in np.asarray(items).tolist()], dtype=np.intp)
        return self._chances(user)[places]

    def best(self, user: int, k: int) -> float:
        """The clicks that the best list of k items would get, on average."""
        chances = np.sort(self._chances(user))[::-1][:k]
        return float((chances * self._attention(len(chances))).sum())

    def expected(self, user: int, items: npt.ArrayLike) -> float:
        """The clicks that this list would get, on average."""
        chances = self.chances(user, items)
        return float((chances * self._attention(len(chances))).sum())

    def respond(self, user: int, items: npt.ArrayLike, token: int) -> npt.NDArray[np.bool_]:
        """What the user clicks of a list, bool (k,). Looking bores, and some clicks become purchases later."""
        shown = np.asarray(items).tolist()
        places = np.array([self._places[item] for item in shown], dtype=np.intp)
        looked = self._rng.random(len(shown)) < self._attention(len(shown))
        clicked = looked & (self._rng.random(len(shown)) < self._chances(user)[places])
        self._boredom[user, places[looked]] += self._boredom_step
        for slot in np.flatnonzero(clicked & (self._rng.random(len(shown)) < self._purchases)).tolist():
            time = self.now + self._rng.exponential(DAY / 2)
            self._bought.append(Purchase(time, token, user, shown[slot]))
        return np.asarray(clicked)

    def due(self) -> list[Purchase]:
        """Purchases that were made since the last call, in time order."""
        now = self.now
        made = sorted((one for one in self._bought if one.time <= now), key=lambda one: one.time)
        self._bought = [one for one in self._bought if one.time > now]
        return made

    def night(self) -> Night:
        """Ends the day: tastes drift, items go and arrive, boredom fades."""
        rng = self._rng
        self._day, self._visit = self._day + 1, 0
        changing = np.flatnonzero(rng.random(self.users) < self._drift)
        self._taste[changing] = self._tastes(len(changing))
        self._boredom *= FORGETTING
        places = np.flatnonzero(rng.random(len(self._ids)) < self._churn)
        removed = self._ids[places].copy()
        arrived = np.arange(self._next, self._next + len(places), dtype=np.int64)
        self._next += len(places)
        self._ids[places] = arrived
        self._group[places] = rng.integers(len(self._directions), size=len(places))
        self._boredom[:, places] = 0
        self._stock(places)
        self._places = {item: place for place, item in enumerate(self._ids.tolist())}
        return Night(arrived, removed)

    def _chances(self, user: int) -> Floats:
        utility = SHARPNESS * (self._rows @ self._taste[user]) + self._appeal - THRESHOLD - self._boredom[user]
        return np.asarray(1 / (1 + np.exp(-utility)))

    def _attention(self, slots: int) -> Floats:
        return np.asarray(np.arange(1, slots + 1, dtype=np.float64) ** -self._position_bias)

    def _tastes(self, count: int) -> Floats:
        """Near one group's direction, with some of another's."""
        chosen = self._rng.integers(len(self._directions), size=(count, 2))
        mixed = self._directions[chosen[:, 0]] + 0.6 * self._directions[chosen[:, 1]]
        return _units(mixed + self._rng.normal(scale=0.2, size=mixed.shape))

    def _stock(self, places: npt.NDArray[np.intp]) -> None:
        noise = self._rng.normal(scale=GROUP_SPREAD, size=(len(places), 8))
        self._rows[places] = _units(self._directions[self._group[places]] + noise)
        self._appeal[places] = self._rng.normal(scale=APPEAL_SPREAD, size=len(places))


def _units(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

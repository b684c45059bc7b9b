"""A simulated shop: customers with tastes that change, items that come and go, waves of popularity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recengine.events import Events
from recengine.simulate.catalogue import CATEGORIES, KINDS, Catalogue

DAY = 86_400.0
OPENING, CLOSING = 8 * 3_600.0, 22 * 3_600.0
SESSION_LENGTH = 4.0  # events, on average
PAUSE = 60.0  # seconds between two events of a session, on average
TASTE_SPREAD = 2.5  # of a customer's utilities over the categories
STYLE_WEIGHT = 3.0  # how much style counts against an item's appeal
MOOD = 0.3  # spread of a session's style around the customer's own
WAVE = 1.0  # utility a category gains at the height of its season
SEASONS = (20.0, 90.0)  # days, shortest and longest


@dataclass(frozen=True)
class Day:
    """One day of a shop: what changed in the night before it, and its events in time order.

    Attributes
    ----------
    number
        Days since the shop opened.
    arrived, removed
        Items that are new today and items no longer sold, int64.
    users, items
        Who picked what, int64 (n,).
    timestamps
        When, float64 (n,): seconds since the shop opened.
    """

    number: int
    arrived: NDArray[np.int64]
    removed: NDArray[np.int64]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def events(self) -> Events:
        """The events of the day by themselves."""
        return Events(self.users, self.items, self.timestamps)


class Shop:
    """A shop whose customers choose by a nested logit model (McFadden, "Modelling the choice of residential
    location", 1978): a session has one category, drawn by the customer's taste and the category's season; its items
    are drawn by the customer's style in that category, the item's appeal, and how new it is.

    Overnight some customers change their taste, and some items make room for new ones. One seed, one shop: the same
    calls give the same events.

    Parameters
    ----------
    seed
        Of everything that is drawn.
    users
        Number of customers; their ids are 0 to ``users - 1``. Few come often, most seldom.
    places
        Items on sale in each of the 16 categories. Ids of items count up and are never reused.
    sessions
        Visits a day; a visit has 4 events on average.
    drift
        Share of the customers whose taste changes in a night.
    churn
        Share of the items replaced in a night.

    Raises
    ------
    ValueError
        For a number out of range.

    Examples
    --------
    >>> shop = Shop(seed=1, users=100, places=20, sessions=50)
    >>> days = list(shop.stream(1000))
    >>> sum(len(day) for day in days)
    1000
    >>> shop.name(days[0].items[0])
    'Winter gloves 313'
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        users: int = 2_000,
        places: int = 150,
        sessions: int = 500,
        drift: float = 0.01,
        churn: float = 0.01,
    ) -> None:
        for name, count in (("users", users), ("places", places), ("sessions", sessions)):
            if count < 1:
                raise ValueError(f"{name} must be positive, not {count}")
        for name, share in (("drift", drift), ("churn", churn)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share between 0 and 1, not {share}")
        self._rng = rng = np.random.default_rng(seed)
        self._sessions, self._drift, self._churn = sessions, drift, churn
        self._catalogue = Catalogue(places, rng)
        self._day = 0
        activity = rng.lognormal(size=users)
        self._activity = np.cumsum(activity / activity.sum())
        self._taste = rng.normal(scale=TASTE_SPREAD, size=(users, len(CATEGORIES)))
        favourite_kind = rng.integers(KINDS, size=self._taste.shape)
        self._style = self._catalogue.kind_styles[np.arange(len(CATEGORIES)), favourite_kind]
        self._season = rng.uniform(*SEASONS, size=len(CATEGORIES))
        self._phase = rng.uniform(0, 2 * np.pi, size=len(CATEGORIES))

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the categories."""
        return CATEGORIES

    @property
    def items(self) -> NDArray[np.int64]:
        """The items on sale, (categories, places)."""
        return self._catalogue.ids.copy()

    def name(self, item: int) -> str:
        """What the shop calls an item, gone or not: category, kind, id."""
        return self._catalogue.name(item)

    def category(self, item: int) -> str:
        """The category of an item, gone or not."""
        return self._catalogue.category(item)

    def favourite(self, user: int) -> str:
        """The category a customer likes best, seasons aside."""
        return CATEGORIES[self._favourite(user)]

    def change_taste(self, user: int, category: str) -> None:
        """Make a category the customer's favourite; it changes places with the favourite so far.

        >>> shop = Shop(users=10)
        >>> shop.change_taste(3, "Garden")
        >>> shop.favourite(3)
        'Garden'
        """
        if category not in CATEGORIES:
            raise ValueError(f"no category {category!r}; there are {', '.join(CATEGORIES)}")
        self._check_user(user)
        self._swap(np.array([user]), np.array([CATEGORIES.index(category)]))

    def visit(self, user: int, events: int) -> NDArray[np.int64]:
        """Different items that a customer picks in a visit to the favourite category, int64 (events,).

        >>> shop = Shop(users=10)
        >>> {shop.category(item) for item in shop.visit(3, 8).tolist()} == {shop.favourite(3)}
        True
        """
        category = self._favourite(user)
        ids = self._catalogue.ids[category]
        if not 0 <= events <= len(ids):
            raise ValueError(f"a visit is of 0 to {len(ids)} different items, not {events}")
        utility = self._utility(category, self._style[user, category])
        # Highest utility plus Gumbel noise first: a logit choice, and then another among the rest (Plackett-Luce).
        picked: NDArray[np.int64] = ids[np.argsort(-utility - self._rng.gumbel(size=len(ids)))[:events]]
        return picked

    def stream(self, events: int) -> Iterator[Day]:
        """The days to come until there were that many events; the last day is cut short."""
        while events > 0:
            day = self._next_day(events)
            events -= len(day)
            yield day

    def _favourite(self, user: int) -> int:
        self._check_user(user)
        return int(self._taste[user].argmax())

    def _check_user(self, user: int) -> None:
        if not 0 <= user < len(self._taste):
            raise ValueError(f"no customer {user}; there are 0 to {len(self._taste) - 1}")

    def _night(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Change some tastes, replace some items: the items that arrived and those that went."""
        if self._day == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        changing = np.flatnonzero(self._rng.random(len(self._taste)) < self._drift)
        self._swap(changing, self._rng.integers(len(CATEGORIES), size=len(changing)))
        return self._catalogue.replace(self._churn, self._day, self._rng)

    def _next_day(self, limit: int) -> Day:
        rng = self._rng
        arrived, removed = self._night()
        visitors = np.searchsorted(self._activity, rng.random(self._sessions)).clip(max=len(self._taste) - 1)
        wave = WAVE * np.sin(2 * np.pi * self._day / self._season + self._phase)
        missions = _draw(np.exp(self._taste[visitors] + wave), rng)
        styles = self._style[visitors, missions]
        styles = styles + rng.normal(scale=MOOD, size=styles.shape)

        lengths = rng.geometric(1 / SESSION_LENGTH, size=self._sessions)
        session = np.repeat(np.arange(self._sessions), lengths)
        first = np.cumsum(lengths) - lengths
        elapsed = np.cumsum(rng.exponential(PAUSE, size=len(session)))
        opened = rng.uniform(OPENING, CLOSING, size=self._sessions)
        seconds = (opened - elapsed[first])[session] + elapsed
        items = self._pick(missions[session], styles[session])
        order = np.argsort(seconds, kind="stable")[:limit]
        times = self._day * DAY + np.minimum(seconds, DAY - 1)
        self._day += 1
        users = visitors.astype(np.int64)[session]
        return Day(self._day - 1, arrived, removed, users[order], items[order], times[order])

    def _swap(self, users: NDArray[np.intp], categories: NDArray[np.intp]) -> None:
        favourites = self._taste[users].argmax(axis=1)
        high, low = self._taste[users, favourites], self._taste[users, categories]
        self._taste[users, favourites], self._taste[users, categories] = low, high

    def _pick(self, categories: NDArray[np.intp], styles: NDArray[np.float64]) -> NDArray[np.int64]:
        """One item each, by a logit over the items of the category."""
        items = np.empty(len(categories), dtype=np.int64)
        for category in np.unique(categories).tolist():
            rows = np.flatnonzero(categories == category)
            places = _draw(np.exp(self._utility(category, styles[rows])), self._rng)
            items[rows] = self._catalogue.ids[category, places]
        return items

    def _utility(self, category: int, styles: NDArray[np.float64]) -> NDArray[np.float64]:
        """What customers of these styles see in the items of a category, (..., places)."""
        match = styles @ self._catalogue.styles[category].T
        utility: NDArray[np.float64] = STYLE_WEIGHT * match + self._catalogue.popularity(category, self._day)
        return utility


def _draw(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """One column for each row, with probability in proportion to its weight."""
    bounds = np.cumsum(weights, axis=1)
    drawn: NDArray[np.intp] = np.argmax(bounds > rng.random((len(bounds), 1)) * bounds[:, -1:], axis=1)
    return drawn

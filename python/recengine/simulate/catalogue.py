"""What a simulated shop sells: shelves of items that keep arriving and going, and a name for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHELVES = {
    "Garden": ("lamp", "chair", "planter", "hose", "fountain", "rake"),
    "Kitchen": ("knife", "pan", "kettle", "scale", "apron", "jar"),
    "Coffee": ("grinder", "mug", "press", "filter", "beans", "machine"),
    "Cycling": ("helmet", "light", "pump", "saddle", "bag", "lock"),
    "Running": ("shoes", "belt", "watch", "bottle", "shirt", "socks"),
    "Camping": ("tent", "stove", "lantern", "hammock", "mat", "cooler"),
    "Music": ("guitar", "record", "stand", "microphone", "drum", "speaker"),
    "Film": ("poster", "projector", "screen", "tripod", "camera", "lens"),
    "Games": ("puzzle", "dice", "console", "cards", "board", "figure"),
    "Books": ("novel", "atlas", "cookbook", "biography", "comic", "diary"),
    "Office": ("desk", "pen", "shredder", "notebook", "monitor", "keyboard"),
    "Bath": ("towel", "mirror", "soap", "robe", "shelf", "mat"),
    "Baby": ("cradle", "rattle", "stroller", "blanket", "monitor", "bib"),
    "Pet": ("collar", "basket", "bowl", "toy", "brush", "carrier"),
    "Party": ("balloon", "banner", "candle", "costume", "lights", "confetti"),
    "Winter": ("scarf", "sledge", "gloves", "boots", "heater", "hat"),
}
CATEGORIES = tuple(SHELVES)
KINDS = len(SHELVES["Garden"])
STYLE_DIMENSIONS = 4
STYLE_SPREAD = 0.3  # of the items of one kind around their common style
HYPE = 1.5  # utility that a new item has on top, fading within days
HYPE_DAYS = 10.0


class Catalogue:
    """A grid of items on sale, (categories, places); an item that goes leaves its place to a new one.

    An item is an integer that is never given out again. Its style is a point near that of its kind ("lamp"), its
    appeal what makes it sell to everybody.
    """

    def __init__(self, places: int, rng: np.random.Generator) -> None:
        shape = (len(CATEGORIES), places)
        directions = rng.normal(size=(len(CATEGORIES), KINDS, STYLE_DIMENSIONS))
        self.kind_styles = directions / np.linalg.norm(directions, axis=2, keepdims=True)
        self.ids = np.arange(len(CATEGORIES) * places, dtype=np.int64).reshape(shape)
        self.styles = np.zeros((*shape, STYLE_DIMENSIONS))
        self.appeal = np.zeros(shape)
        self.birthday = np.zeros(shape)
        self._kinds: list[tuple[int, int]] = []  # (category, kind) of every item there ever was
        rows, columns = np.indices(shape).reshape(2, -1)
        self._stock(rows, columns, rng, birthdays=rng.uniform(-10 * HYPE_DAYS, 0, size=rows.size))

    def category(self, item: int) -> str:
        return CATEGORIES[self._kinds[item][0]]

    def name(self, item: int) -> str:
        category, kind = self._kinds[item]
        return f"{CATEGORIES[category]} {SHELVES[CATEGORIES[category]][kind]} {item}"

    def replace(
        self, share: float, today: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Renew a random share of the places; the items that arrived and those that went."""
        rows, columns = np.nonzero(rng.random(self.ids.shape) < share)
        gone = self.ids[rows, columns]
        new = np.arange(len(self._kinds), len(self._kinds) + len(gone), dtype=np.int64)
        self.ids[rows, columns] = new
        self._stock(rows, columns, rng, birthdays=np.full(len(gone), today))
        return new, gone

    def popularity(self, category: int, today: float) -> NDArray[np.float64]:
        """The utility everybody sees in each item of a category today, (places,): its appeal and its hype."""
        age = today - self.birthday[category]
        utility: NDArray[np.float64] = self.appeal[category] + HYPE * np.exp(-age / HYPE_DAYS)
        return utility

    def _stock(
        self,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        rng: np.random.Generator,
        *,
        birthdays: NDArray[np.float64],
    ) -> None:
        kinds = rng.integers(KINDS, size=rows.size)
        noise = rng.normal(scale=STYLE_SPREAD, size=(rows.size, STYLE_DIMENSIONS))
        self.styles[rows, columns] = self.kind_styles[rows, kinds] + noise
        self.appeal[rows, columns] = rng.normal(size=rows.size)
        self.birthday[rows, columns] = birthdays
        self._kinds.extend(zip(rows.tolist(), kinds.tolist(), strict=True))

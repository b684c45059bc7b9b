"""The simulated shop: reproducible, consistent with itself, and with the structure that it promises."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recengine.simulate import Shop
from recengine.simulate.shop import _draw


def small(**options: Any) -> Shop:
    return Shop(**({"users": 60, "places": 12, "sessions": 40} | options))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), events=st.integers(0, 1500))
def test_one_seed_one_stream(seed: int, events: int) -> None:
    first, second = (list(small(seed=seed).stream(events)) for _ in range(2))
    assert sum(map(len, first)) == events
    for one, other in zip(first, second, strict=True):
        for column in ("users", "items", "timestamps", "arrived", "removed"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


def test_another_seed_is_another_shop() -> None:
    first, second = (np.concatenate([day.items for day in small(seed=seed).stream(500)]) for seed in (1, 2))
    assert np.any(first != second)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_only_what_is_on_sale_is_picked_and_time_goes_on(seed: int) -> None:
    shop = small(seed=seed, churn=0.1)
    on_sale = set(shop.items.ravel().tolist())
    ever, last = set(on_sale), 0.0
    for number, day in enumerate(shop.stream(2000)):
        arrived, removed = set(day.arrived.tolist()), set(day.removed.tolist())
        assert removed <= on_sale
        assert not arrived & ever
        on_sale = (on_sale - removed) | arrived
        ever |= arrived
        assert set(day.items.tolist()) <= on_sale
        assert 0 <= day.users.min() <= day.users.max() < 60
        assert last <= day.timestamps[0]
        assert day.events.is_sorted()
        last = day.timestamps[-1]
        assert day.number == number
        assert number * 86400 <= day.timestamps[0] <= last < (number + 1) * 86400
    assert on_sale == set(shop.items.ravel().tolist())


def test_items_have_readable_names() -> None:
    shop = small()
    for category, row in zip(shop.categories, shop.items, strict=True):
        for item in row.tolist():
            assert shop.category(item) == category
            first, *kind, number = shop.name(item).split()
            assert (first, int(number)) == (category, item)
            assert kind


def test_without_churn_and_drift_the_shop_stands_still() -> None:
    shop = small(churn=0, drift=0)
    items, favourites = shop.items, [shop.favourite(user) for user in range(60)]
    assert sum(len(day.arrived) + len(day.removed) for day in shop.stream(2000)) == 0
    np.testing.assert_array_equal(items, shop.items)
    assert favourites == [shop.favourite(user) for user in range(60)]


def test_tastes_drift() -> None:
    shop = small(drift=1)
    before = [shop.favourite(user) for user in range(60)]
    list(shop.stream(400))
    assert np.mean([shop.favourite(user) != was for user, was in enumerate(before)]) > 0.5


def test_customers_come_back_for_what_they_like() -> None:
    shop = small(drift=0)
    picked = [
        shop.category(item) == shop.favourite(user)
        for day in shop.stream(4000)
        for user, item in zip(day.users.tolist(), day.items.tolist(), strict=True)
    ]
    assert np.mean(picked) > 0.3  # without tastes 1 / 16


def test_sessions_stay_in_one_category() -> None:
    shop = small(users=5_000, sessions=300)
    by_user: dict[int, set[str]] = {}
    day = next(shop.stream(10_000))
    for user, item in zip(day.users.tolist(), day.items.tolist(), strict=True):
        by_user.setdefault(user, set()).add(shop.category(item))
    assert np.mean([len(categories) == 1 for categories in by_user.values()]) > 0.9  # few came twice that day


def test_popularity_comes_in_waves() -> None:
    shop = small(drift=0, churn=0, sessions=200)
    shares = [Counter(map(shop.category, day.items.tolist())) for day in shop.stream(40_000)]
    garden = np.array([counts["Garden"] for counts in shares[:-1]])
    months = garden[: len(garden) // 10 * 10].reshape(-1, 10).mean(axis=1)
    assert months.max() > 1.3 * months.min()


def test_new_items_sell_better_than_the_same_items_later() -> None:
    shop = small(users=500, places=40, sessions=400, churn=0.05)
    arrived: dict[int, int] = {}
    age: Counter[int] = Counter()
    for day in shop.stream(60_000):
        arrived |= dict.fromkeys(day.arrived.tolist(), day.number)
        age.update(day.number - arrived[item] for item in day.items.tolist() if item in arrived)
    young, older = sum(age[days] for days in range(5)), sum(age[days] for days in range(20, 25))
    assert young > 1.5 * older * (1 / 0.95) ** 20  # of the items that arrived, .95^20 are left after 20 nights


def test_a_changed_taste_changes_the_visits() -> None:
    shop = small()
    for category in ("Garden", "Winter"):
        shop.change_taste(7, category)
        assert shop.favourite(7) == category
        visit = shop.visit(7, 12)
        assert len(set(visit.tolist())) == 12
        assert {shop.category(item) for item in visit.tolist()} == {category}


def test_visits_choose_as_sessions_do() -> None:
    shop = small(drift=0)
    category, style = shop._favourite(7), shop._style[7, shop._favourite(7)]
    first = [shop.visit(7, 1).item() for _ in range(4_000)]
    picked = shop._pick(np.full(4_000, category), np.tile(style, (4_000, 1)))
    for item in shop.items[category].tolist():
        assert first.count(item) / 4_000 == pytest.approx(np.mean(picked == item), abs=0.05)


def test_a_visit_cannot_be_longer_than_the_shelf() -> None:
    with pytest.raises(ValueError, match="0 to 12 different items, not 13"):
        small().visit(0, 13)


def test_drawing_follows_the_weights() -> None:
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0])
    drawn = _draw(np.tile(weights, (40_000, 1)), np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)
    assert shares[0] == shares[3] == 0


@pytest.mark.parametrize("option", [{"users": 0}, {"places": 0}, {"sessions": -1}, {"drift": 1.5}, {"churn": -0.1}])
def test_numbers_out_of_range_are_refused(option: dict[str, Any]) -> None:
    ((name, number),) = option.items()
    with pytest.raises(ValueError, match=f"{name} must be .*{number}"):
        Shop(**option)


def test_unknown_categories_and_customers_are_refused() -> None:
    shop = small()
    with pytest.raises(ValueError, match="no category 'Cars'"):
        shop.change_taste(0, "Cars")
    for user in (-1, 60):
        with pytest.raises(ValueError, match=f"no customer {user}"):
            shop.change_taste(user, "Garden")
        with pytest.raises(ValueError, match=f"no customer {user}"):
            shop.visit(user, 1)
        with pytest.raises(ValueError, match=f"no customer {user}"):
            shop.favourite(user)

"""The engine against a dictionary: whatever is learned, set, removed, evicted and added again, in any order; in memory,
and in a folder whose process is killed now and then.

With a learning rate of 0, rows that are born as zeros and vectors of small integers, every score is exact in float32,
and what the engine should answer is known without knowing how it learns: the rows as they were set, the users' last
items, the events' counts. Each vector names its item, so that a slot that shows its last owner's row would be seen.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recengine import Engine

DIM = 2
HISTORY = 3
DECAY = 0.5
ITEMS = range(160)  # removals are swept in bulk from 64 on
USERS = range(6)

items = st.sampled_from(ITEMS)
users = st.sampled_from(USERS)
many_items = st.lists(items, max_size=8) | st.integers(0, 80).map(lambda first: list(range(first, first + 80)))


def code(item: int, version: int) -> list[float]:
    """The vector of an item that was set for the version-th time: no two alike."""
    return [float(item + 1), float(version % 64)]


class Life:
    """An item from its arrival to its removal; by the same name it may come again, as another."""

    def __init__(self) -> None:
        self.vector = [0.0] * DIM
        self.events = 0
        self.alive = True
        self.used = 0  # when it was last learned from or set


class Person:
    def __init__(self) -> None:
        self.vector = [0.0] * DIM
        self.pushed: list[Life] = []
        self.seen: set[int] = set()
        self.used = 0


class EngineMachine(RuleBasedStateMachine):
    make_id: Callable[[int], Any] = int

    def __init__(self) -> None:
        super().__init__()
        self.engine = self.make_engine()
        self.items: dict[int, Life] = {}
        self.users: dict[int, Person] = {}
        self.version = 0
        self.events = 0
        self.clock = 0

    settings: ClassVar[dict[str, Any]] = {
        "dim": DIM,
        "learning_rate": 0.0,
        "init_scale": 0.0,
        "history": HISTORY,
        "history_decay": DECAY,
        "ranker": None,
        "negatives": 2,
        "popularity_half_life": math.inf,
    }
    max_users = max_items = 1000  # more than there are

    def make_engine(self) -> Engine:
        return Engine(**self.settings)

    def ids(self, numbers: Any) -> list[Any]:
        return [type(self).make_id(number) for number in numbers]

    def id(self, number: int) -> Any:
        return type(self).make_id(number)

    # ---- the model

    def use(self, table: dict[int, Any], most: int, numbers: list[int], make: Callable[[], Any]) -> None:
        """All at once: those used least recently make room for the new ones, one in 32 of the capacity at least."""
        excess = len(set(table) | set(numbers)) - most
        if excess > 0:
            others = sorted((one.used, number) for number, one in table.items() if number not in numbers)
            for _, number in others[: max(excess, most // 32)]:
                self.forget(table, number)
        for number in numbers:
            self.clock += 1
            table.setdefault(number, make()).used = self.clock

    def forget(self, table: dict[int, Any], number: int) -> None:
        one = table.pop(number)
        if isinstance(one, Life):
            one.alive = False
            for person in self.users.values():
                person.seen.discard(number)

    def saw(self, user: int, item: int) -> None:
        self.use(self.users, self.max_users, [user], Person)
        self.use(self.items, self.max_items, [item], Life)
        life, person = self.items[item], self.users[user]
        person.pushed.append(life)
        person.seen.add(item)
        life.events += 1
        self.events += 1

    def vector(self, person: Person) -> list[float]:
        last = [life for life in reversed(person.pushed[-HISTORY:]) if life.alive]
        return [
            person.vector[d] + sum(DECAY**age * life.vector[d] for age, life in enumerate(last)) for d in range(DIM)
        ]

    def check(
        self, ranking: Any, k: int, allowed: set[int], score: Callable[[Life], float], tolerance: float = 0.0
    ) -> None:
        """The k best of the allowed items by this score; those that are equal in any order."""
        assert ranking.counts == len(ranking.ids) == min(k, len(allowed))
        numbers = [int(item) for item in ranking.ids.tolist()]
        assert self.ids(numbers) == ranking.ids.tolist()
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) <= allowed
        own = [score(self.items[number]) for number in numbers]
        best = sorted((score(self.items[number]) for number in allowed), reverse=True)[:k]
        np.testing.assert_allclose(ranking.scores, own, rtol=tolerance)
        np.testing.assert_allclose(ranking.scores, best, rtol=tolerance)

    # ---- changes

    @rule(user=users, item=items)
    def learn_one(self, user: int, item: int) -> None:
        self.engine.learn_one(self.id(user), self.id(item))
        self.saw(user, item)

    @rule(events=st.lists(st.tuples(users, items), max_size=30), threads=st.sampled_from([1, 3]))
    def learn_many(self, events: list[tuple[int, int]], threads: int) -> None:
        self.engine.learn_many(self.ids(u for u, _ in events), self.ids(i for _, i in events), threads=threads)
        for user, item in events:
            self.saw(user, item)

    @rule(numbers=many_items)
    def set_items(self, numbers: list[int]) -> None:
        self.version += 1
        vectors = [code(number, self.version + at) for at, number in enumerate(numbers)]
        self.engine.set_items(self.ids(numbers), np.array(vectors).reshape(-1, DIM))
        self.use(self.items, self.max_items, numbers, Life)
        for number, vector in zip(numbers, vectors, strict=True):
            self.items[number].vector = vector

    @rule(user=users, vector=st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
    def set_user(self, user: int, vector: tuple[int, int]) -> None:
        self.engine.set_users(self.ids([user]), [vector])
        self.use(self.users, self.max_users, [user], Person)
        self.users[user].vector = [float(value) for value in vector]

    @rule(numbers=many_items)
    def remove_items(self, numbers: list[int]) -> None:
        present = [number for number in numbers if number in self.items]
        self.engine.remove_items(self.ids(present))
        for number in set(present):
            self.forget(self.items, number)

    @rule(user=users)
    def remove_user(self, user: int) -> None:
        if self.users.pop(user, None) is not None:
            self.engine.remove_users(self.ids([user]))

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.engine.save(Path(folder) / "engine")
            self.engine = Engine.load(Path(folder) / "engine")

    # ---- questions

    @rule(
        user=users,
        k=st.sampled_from([0, 1, 5, 200]),
        exclude_seen=st.booleans(),
        exclude=many_items,
        among=st.none() | many_items,
    )
    def recommend(self, user: int, k: int, exclude_seen: bool, exclude: list[int], among: list[int] | None) -> None:
        person = self.users.get(user)
        allowed = set(self.items) - set(exclude)
        if among is not None:
            allowed &= set(among)
        if exclude_seen and person is not None:
            allowed -= person.seen
        options: dict[str, Any] = {"k": k, "exclude_seen": exclude_seen, "exclude": self.ids(exclude)}
        if among is not None:
            options["among"] = self.ids(among)
        one = self.engine.recommend(self.id(user), **options)
        if person is None:
            self.check(one, k, allowed, lambda life: float(life.events), 1e-3)
        else:
            x = self.vector(person)
            self.check(one, k, allowed, lambda life: float(np.dot(x, life.vector)))
        batch = self.engine.recommend(self.ids([user, user]), **options)
        for row in range(2):
            assert batch.ids[row, : one.counts].tolist() == one.ids.tolist()

    @rule(history=many_items, exclude_seen=st.booleans())
    def recommend_to_a_visitor(self, history: list[int], exclude_seen: bool) -> None:
        ranking = self.engine.recommend(history=self.ids(history), exclude_seen=exclude_seen, k=20)
        known = [item for item in history if item in self.items]
        allowed = set(self.items) - (set(known) if exclude_seen else set())
        if not known:
            self.check(ranking, 20, allowed, lambda life: float(life.events), 1e-3)
            return
        last = [self.items[item].vector for item in reversed(known[-HISTORY:])]
        x = [sum(DECAY**age * vector[d] for age, vector in enumerate(last)) for d in range(DIM)]
        self.check(ranking, 20, allowed, lambda life: float(np.dot(x, life.vector)))

    @rule(vector=st.tuples(st.integers(-9, 9), st.integers(-9, 9)), k=st.integers(0, 30))
    def search(self, vector: tuple[int, int], k: int) -> None:
        self.check(self.engine.search(vector, k=k), k, set(self.items), lambda life: float(np.dot(vector, life.vector)))

    # ---- what always holds

    @invariant()
    def ids_are_exact(self) -> None:
        assert len(self.engine.items) == len(self.items)
        assert len(self.engine.users) == len(self.users)
        assert Counter(self.engine.items) == Counter(self.ids(self.items))
        assert Counter(self.engine.users) == Counter(self.ids(self.users))
        for number in (0, 70, 140):
            assert (self.id(number) in self.engine.items) == (number in self.items)

    @invariant()
    def rows_are_those_of_their_owners(self) -> None:
        known = list(self.items)
        np.testing.assert_array_equal(
            self.engine.item_vector(self.ids(known)), np.array([self.items[i].vector for i in known]).reshape(-1, DIM)
        )
        for user, person in self.users.items():
            np.testing.assert_array_equal(self.engine.user_vector(self.id(user)), self.vector(person))

    @invariant()
    def events_are_counted(self) -> None:
        assert self.engine.stats()["events"] == self.events
        popular = self.engine.recommend(history=[], k=len(ITEMS))
        np.testing.assert_allclose(popular.scores.sum(), sum(life.events for life in self.items.values()), rtol=1e-3)


class StringMachine(EngineMachine):
    make_id = str


class FolderMachine(EngineMachine):
    """In a folder, with room for fewer users and items than there are, and with named sets of items."""

    make_id = str
    max_users, max_items = 4, 90

    def make_engine(self) -> Engine:
        self.scratch = tempfile.TemporaryDirectory()
        self.lives = 0
        self.sets: dict[str, set[int]] = {}
        return Engine.open(
            Path(self.scratch.name) / "0",
            checkpoint_bytes=0,
            max_users=self.max_users,
            max_items=self.max_items,
            evict="lru",
            **self.settings,
        )

    def teardown(self) -> None:
        self.engine.close()
        self.scratch.cleanup()

    def forget(self, table: dict[int, Any], number: int) -> None:
        super().forget(table, number)
        if table is self.items:
            for members in self.sets.values():
                members.discard(number)

    def save_and_load(self) -> None:  # its engine would have no folder
        pass

    @rule()
    def crash(self) -> None:
        """What a killed process leaves is opened again."""
        last, self.lives = self.lives, self.lives + 1
        shutil.copytree(Path(self.scratch.name) / str(last), Path(self.scratch.name) / str(self.lives))
        self.engine.close()
        self.engine = Engine.open(Path(self.scratch.name) / str(self.lives), checkpoint_bytes=0)

    @rule()
    def checkpoint(self) -> None:
        self.engine.checkpoint()

    @rule()
    def save(self) -> None:
        path = Path(self.scratch.name) / "saved"
        self.engine.save(path)
        loaded = Engine.load(path)
        assert Counter(loaded.items) == Counter(self.engine.items)
        assert loaded.filters == sorted(self.sets)

    @rule(name=st.sampled_from("ab"), numbers=many_items)
    def set_filter(self, name: str, numbers: list[int]) -> None:
        present = [number for number in numbers if number in self.items]
        self.engine.set_filter(name, self.ids(present))
        self.sets[name] = set(present)

    @rule(name=st.sampled_from("ab"), add=many_items, remove=many_items)
    def update_filter(self, name: str, add: list[int], remove: list[int]) -> None:
        if name not in self.sets:
            return
        present = [number for number in add if number in self.items]
        self.engine.update_filter(name, self.ids(present), self.ids(remove))
        self.sets[name] = (self.sets[name] | set(present)) - set(remove)

    @invariant()
    def filters_hold_what_they_should(self) -> None:
        for name, members in self.sets.items():
            for filtered, expected in ((self.engine.filter(name), members), (~self.engine.filter(name), None)):
                allowed = set(self.items) - members if expected is None else expected
                found = self.engine.recommend(history=[], k=len(ITEMS), filter=filtered)
                assert sorted(found.ids.tolist()) == sorted(self.ids(allowed))


for machine, steps in ((EngineMachine, 30), (StringMachine, 30), (FolderMachine, 40)):
    machine.TestCase.settings = settings(
        max_examples=20, stateful_step_count=steps, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
TestIntIds = EngineMachine.TestCase
TestStringIds = StringMachine.TestCase
TestFolder = FolderMachine.TestCase

"""Programs of changes for tests of durability, and what a plain engine makes of them."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from recengine import Engine, Feedback
from recengine.diversify import MaxPerGroup
from recengine.explore import UCB, EpsilonGreedy, Greedy, Policy, Random, Softmax, ThompsonSampling

Operation = tuple[Any, ...]

SETTINGS: list[dict[str, Any]] = [
    {"dim": 4, "objective": "softmax", "negatives": 4, "item_features": ["price"]},
    {"dim": 4, "objective": "softmax", "negatives": 4, "history": 3, "ranker": "mlp"},
    {"dim": 3, "objective": "bpr", "history": 0},
    {"dim": 3, "objective": "bpr", "history": 2, "storage": "fp16"},
    {"dim": 2, "objective": "logistic", "negatives": 1, "learning_rate_decay": 0.01},
    {"dim": 2, "objective": "squared", "optimizer": "sgd"},
]

# Of which an operation may be several records: each eviction is one, and a batch ends before it.
LIMITED: dict[str, Any] = {
    "dim": 3,
    "negatives": 3,
    "max_users": 5,
    "max_items": 75,
    "evict": "lru",
    "user_budget": 6.0,
}

POLICIES: list[Policy] = [
    Greedy(),
    Random(),
    EpsilonGreedy(0.5),
    Softmax(0.1),
    ThompsonSampling(1.0, "shared", samples=20),
    UCB(0.5),
]
USERS, ITEMS = 8, 90  # removals are swept in bulk from 64 on

_users, _items = st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)
_times = st.none() | st.integers(0, 10**6).map(float)
_values = st.sampled_from([0.0, 1.0])
_events = st.lists(st.tuples(_users, _items, _values, st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40)
_many_items = st.lists(_items, min_size=1, max_size=6) | st.integers(0, 10).map(lambda k: list(range(k, k + 70)))

operations: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("learn_one"), _users, _items, _values, _times),
    st.tuples(st.just("learn_many"), _events, st.booleans(), st.booleans()),
    st.tuples(st.just("learn_many"), _events, st.booleans(), st.booleans()),
    st.tuples(st.just("deliver"), _events, st.integers(0, 60)),
    st.tuples(st.just("set_items"), _many_items, st.integers(-9, 9)),
    st.tuples(st.just("set_users"), st.lists(_users, min_size=1, max_size=3), st.integers(-9, 9)),
    st.tuples(st.just("set_item_features"), _many_items, st.integers(-9, 9)),
    st.tuples(st.just("remove_items"), _many_items),
    st.tuples(st.just("remove_users"), st.lists(_users, min_size=1, max_size=3)),
    st.tuples(st.just("set_filter"), st.sampled_from("ab"), _many_items),
    st.tuples(st.just("update_filter"), st.sampled_from("ab"), _many_items, _many_items),
    st.tuples(st.just("remove_filter"), st.sampled_from("ab")),
    st.tuples(st.just("set_groups"), _many_items, st.integers(0, 3)),
    st.tuples(st.just("learning_rate"), st.sampled_from([0.0, 0.05, 0.2])),
    st.tuples(st.just("global_bias"), st.sampled_from([-1.0, 0.5])),
    st.tuples(st.just("show"), _users, st.integers(0, 5), _times, st.booleans()),
    st.tuples(st.just("show"), _users, st.integers(0, 5), _times, st.booleans()),
    st.tuples(st.just("feedback"), st.integers(1, 9), st.integers(0, 2), st.sampled_from([-1.0, 0.0, 2.0]), _times),
    st.tuples(st.just("feedback_settings"), st.integers(1, 4)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("save")),  # forgets removed items as well: a record of its own
)


def run(engine: Engine, operation: Operation, strings: bool, scratch: Path) -> None:
    """Carries it out, as far as the engine knows what it names."""
    name, *arguments = operation

    def valued(value: float) -> float:
        """1, or what says that an item was not chosen."""
        return 2 * value - 1 if engine.settings["objective"] in ("softmax", "bpr") else value

    def item(number: int) -> Any:
        return f"ítem {number}" if strings else number * 10**10

    def user(number: int) -> Any:
        return f"u{number}" if strings else -number

    def known(numbers: list[int]) -> list[Any]:
        return [item(number) for number in dict.fromkeys(numbers) if item(number) in engine.items]

    if name == "learn_one":
        who, what, value, time = arguments
        engine.learn_one(user(who), item(what), valued(value), timestamp=time)
    elif name in ("learn_many", "deliver"):
        events, *rest = arguments
        users, items = [user(event[0]) for event in events], [item(event[1]) for event in events]
        values, weights = [valued(event[2]) for event in events], [event[3] for event in events]
        if name == "deliver":
            engine.learn_many(users, items, values, source="qüeue", offset=rest[0])
        else:
            times = np.arange(len(events)) * 1000.0 if rest[0] else None
            engine.learn_many(users, items, values if rest[1] else None, times, weights if rest[1] else None)
    elif name in ("set_items", "set_users"):
        numbers, level = arguments
        ids = [item(number) if name == "set_items" else user(number) for number in numbers]
        vectors = np.full((len(ids), engine.settings["dim"]), level / 8.0)
        getattr(engine, name)(ids, vectors, [0.5] * len(ids) if level > 0 else None)
    elif name == "set_item_features":
        features = len(engine.settings["item_features"])
        if features and known(arguments[0]):
            ids = known(arguments[0])
            engine.set_item_features(ids, np.full((len(ids), features), float(arguments[1])))
    elif name == "remove_items":
        engine.remove_items(known(arguments[0]))
    elif name == "remove_users":
        shown = {row.user for row in engine.impressions()}  # some of whom have no row
        there = [user(number) for number in set(arguments[0])]
        engine.remove_users([who for who in there if who in engine.users or who in shown])
    elif name == "set_filter":
        engine.set_filter(arguments[0], known(arguments[1]))
    elif name == "update_filter":
        if arguments[0] in engine.filters:
            engine.update_filter(
                arguments[0], add=known(arguments[1]), remove=[item(number) for number in arguments[2]]
            )
    elif name == "remove_filter":
        if arguments[0] in engine.filters:
            engine.remove_filter(arguments[0])
    elif name == "set_groups":
        ids = known(arguments[0])
        engine.set_groups(ids, [f"g{arguments[1]}"] * len(ids))
    elif name == "show":
        who, policy, time, is_visitor = arguments
        whose: dict[str, Any] = {"history": known([1, 2, 40])} if is_visitor else {"user": user(who)}
        features = engine.settings["item_features"]
        limit = MaxPerGroup(1) if policy % 2 else None
        ranking = engine.recommend(
            **whose, k=3, explore=POLICIES[policy], diversify=limit, context={features[0]: 0.5} if features else None
        )
        engine.impression(ranking, timestamp=time)
    elif name == "feedback":
        number, slot, reward, time = arguments
        rows = [row for row in engine.impressions() if row.number == number]
        if rows and slot < len(rows[0].items) and rows[0].items[slot] is not None:
            with suppress(KeyError):  # too late
                engine.feedback(
                    number,
                    str(rows[0].items[slot]) if strings else int(rows[0].items[slot]),
                    abs(reward),
                    time,
                    learn=reward >= 0,
                )
    elif name == "feedback_settings":
        engine.feedback_settings = Feedback(capacity=arguments[0], window=math.inf, correction="top_k")
    elif name == "checkpoint":
        if engine.stats()["durability"] is None:
            engine.save(scratch / "checkpoint")  # forgets removed items at the same place
        else:
            engine.checkpoint()
    elif name == "save":
        engine.save(scratch / "saved")
    elif name == "global_bias":
        engine._core.global_bias = arguments[0]
    else:
        engine.learning_rate = arguments[0]


def plain(settings: dict[str, Any], program: list[Operation], strings: bool, scratch: Path) -> Engine:
    """An engine without a folder that never stopped."""
    engine = Engine(**settings)
    for operation in program:
        run(engine, operation, strings, scratch)
    return engine


def state(engine: Engine, scratch: Path) -> bytes:
    """Everything there is to know of an engine, bit for bit, but for how often it was asked."""
    engine.save(scratch / "state")
    file = bytearray((scratch / "state").read_bytes())
    count, table = struct.unpack_from("<IQ", file, 12)
    for entry in range(table, table + 40 * count, 40):
        name, _, _, offset, _ = struct.unpack_from("<16sIIQQ", file, entry)
        if name.rstrip(b"\0") == b"counters":
            struct.pack_into("<Q", file, offset + 8, 0)
            struct.pack_into("<I", file, entry + 20, 0)  # its checksum, and thereby those of table and header
    struct.pack_into("<I", file, 32, 0)
    struct.pack_into("<I", file, 60, 0)
    return bytes(file)

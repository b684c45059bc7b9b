"""Learn from a few events, recommend, learn one more, and see the recommendations follow.

python examples/quickstart.py
"""

from __future__ import annotations

import numpy as np

from recengine import Engine

# A shop with two kinds of customers: the even ones buy even products, the odd ones odd products.
rng = np.random.default_rng(0)
customers = rng.integers(0, 200, size=20_000)
products = 2 * rng.integers(0, 50, size=20_000) + customers % 2

engine = Engine(dim=32, objective="softmax", seed=0)
engine.learn_many(customers, products)
print(engine)

ids, scores = engine.recommend(4, k=5)
print("customer 4 likes even products:    ", ids, scores.round(2))

ids, _ = engine.recommend([4, 5], k=5)
print("customers 4 and 5 at once:         ", *ids)

ids, _ = engine.recommend(history=[11, 17], k=5)
print("a visitor who looked at 11 and 17: ", ids)

for product in (1, 3, 5, 7, 9):
    engine.learn_one(4, product)
ids, _ = engine.recommend(4, k=5)
print("customer 4 after five odd products:", ids)

print("products similar to product 10:    ", engine.similar_items(10, k=5).ids)

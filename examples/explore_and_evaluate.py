"""Explore, learn from the answers, and ask the log which policy would have earned more, before anything ships.

python examples/explore_and_evaluate.py
"""

from __future__ import annotations

from recengine import Engine, Feedback, ope
from recengine.explore import EpsilonGreedy, Policy, Random, Softmax
from recengine.simulate import Audience


def main() -> None:
    audience = Audience(seed=0, users=100, items=200, purchases=0.0)
    engine = Engine(dim=16, ranker=None, seed=0)
    engine.feedback_settings = Feedback(capacity=20_000, correction="none")
    engine.learn_many(list(range(100)), audience.items[:100].tolist())  # something to start from
    engine.set_items(audience.items, [[0.01 * (i % 7)] * 16 for i in range(200)])

    policy = Softmax(1.0)
    for day in range(10):
        clicks = 0
        for _ in range(audience.visits):
            user = audience.visitor()
            ranking = engine.recommend(user, k=1, explore=policy)
            shown = engine.impression(ranking, timestamp=audience.now)
            if audience.respond(user, ranking.ids, shown)[0]:
                engine.feedback(shown, ranking.ids[0], 1.0, timestamp=audience.now)
                clicks += 1
        night = audience.night()
        engine.remove_items(night.removed)
        engine.set_items(night.arrived, [[0.01] * 16] * len(night.arrived))
        print(f"day {day + 1}: {clicks} clicks of {audience.visits} lists")

    candidates: dict[str, Policy] = {"sharper": Softmax(0.7), "half at random": EpsilonGreedy(0.5), "random": Random()}
    comparison = ope.compare(engine.impressions(), candidates)
    print(comparison)
    print("ship:", comparison.best or "nothing yet")


if __name__ == "__main__":
    main()

"""Matrix factorisation by Bayesian personalised ranking on Gowalla's check-ins: recall@20 and NDCG@20 over all items.

python examples/gowalla_bpr.py --data DIR [--epochs N]

DIR holds gowalla_train.parquet and gowalla_test.parquet, the split of the LightGCN line of papers, with columns
user_id and item_id. Needs `pip install "recengine[arrow]"`. Published for BPR-MF: recall@20 .1291, NDCG@20 .1109.

References
----------
He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020.
Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np

from gowalla import evaluate, read
from recengine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two Parquet files")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--every", type=int, default=10, help="epochs between two evaluations")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--l2", type=float, default=0.0005)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    users, items = read(options.data / "gowalla_train.parquet")
    test = read(options.data / "gowalla_test.parquet")
    engine = Engine(
        dim=options.dim,
        objective="bpr",
        history=0,
        negatives=options.negatives,
        learning_rate=options.learning_rate,
        l2=options.l2,
        seed=options.seed,
    )
    rng = np.random.default_rng(options.seed)
    start = perf_counter()
    for epoch in range(1, options.epochs + 1):
        order = rng.permutation(len(users))
        engine.learn_many(users[order], items[order], threads=options.threads)
        if epoch % options.every == 0 or epoch == options.epochs:
            recall, ndcg = evaluate(engine, *test)
            seconds = perf_counter() - start
            print(f"epoch {epoch:4}  recall@20 {recall:.4f}  NDCG@20 {ndcg:.4f}  {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()

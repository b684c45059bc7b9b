"""Offline training on Gowalla's check-ins: recall@20 and NDCG@20 over all items, on the split of the LightGCN papers.

python examples/gowalla_fit.py --data DIR [--method softmax|ials] [--dim N] [--epochs N] [--validation SHARE]

DIR holds gowalla_train.parquet and gowalla_test.parquet, with columns user_id and item_id. Needs `pip install
"recengine[arrow]"`. Published: BPR-MF .1291/.1109, LightGCN .1830/.1554, UltraGCN .1862/.1580, SimpleX .1872/.1557.
The options of both methods are the defaults, which were chosen on 15 % of the train pairs, held out, not by the test
pairs.

References
----------
He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020.
Mao et al., SimpleX: A Simple and Strong Baseline for Collaborative Filtering, CIKM 2021.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from gowalla import evaluate, read
from recengine import Engine, Ials, Softmax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two Parquet files")
    parser.add_argument("--method", choices=["softmax", "ials"], default="softmax")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=0, help="default: 160 for softmax, 15 for ials")
    parser.add_argument("--validation", type=float, default=0.0, help="judge by this share of the train pairs instead")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the method")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    values: dict[str, Any] = {}
    for text in options.option:
        name, _, value = text.partition("=")
        values[name] = int(value) if value.isdecimal() else float(value)
    method = replace(Softmax() if options.method == "softmax" else Ials(), **values)
    epochs = options.epochs or (160 if options.method == "softmax" else 15)
    users, items = read(options.data / "gowalla_train.parquet")
    engine = Engine(dim=options.dim, history=0, seed=options.seed)
    result = engine.fit(
        users,
        items,
        method=method,
        epochs=epochs,
        validation=options.validation,
        threads=options.threads,
        progress=lambda epoch: print(f"epoch {epoch.number:3}  recall {epoch.recall:.4f}  {epoch.seconds:6.1f} s"),
    )
    print(f"{method}, dim {options.dim}: {result.epochs} epochs in {result.seconds:.1f} s")
    if options.validation == 0:
        recall, ndcg = evaluate(engine, *read(options.data / "gowalla_test.parquet"))
        print(f"recall@20 {recall:.4f}  NDCG@20 {ndcg:.4f}")


if __name__ == "__main__":
    main()

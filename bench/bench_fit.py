"""Offline training: an epoch of alternating least squares, and what it finds, beside implicit's on the same pairs.

Both sides' hyper-parameters were chosen on 15 % of the train pairs, held out; neither has seen the test pairs.
"""

from __future__ import annotations

import numpy as np
import pytest
from bench.figures import Report
from bench.pairs import Pairs
from bench.side_by_side import in_turns, whole
from pytest_benchmark.fixture import BenchmarkFixture

from recengine import Engine, Ials

THREADS = 2
EPOCHS = 4  # of each round
MORE = 12  # after which recall is taken
K = 20

# By dimension: our options; implicit's alpha and regularization.
TUNED: dict[int, tuple[Ials, float, float]] = {
    64: (Ials(unobserved_weight=0.01, l2=0.003), 30, 10),
    256: (Ials(unobserved_weight=0.01, l2=0.003), 30, 10),
}


def recall(ids: np.ndarray[tuple[int, int], np.dtype[np.int64]], users: list[int], test: dict[int, set[int]]) -> float:
    """Of each user's test items those among the first 20; the mean over users."""
    hits = [len(test[user].intersection(row.tolist())) / len(test[user]) for user, row in zip(users, ids, strict=True)]
    return float(np.mean(hits))


@pytest.mark.parametrize("dim", [64, 256])
def bench_implicit_als(benchmark: BenchmarkFixture, report: Report, pairs: Pairs, rounds: int, dim: int) -> None:
    """One round is a whole call of `fit` with four epochs; both go on from where their last call ended."""
    implicit = pytest.importorskip("implicit.cpu.als", reason="implicit is not installed")
    options, alpha, regularization = TUNED[dim]
    model = implicit.AlternatingLeastSquares(
        factors=dim,
        alpha=alpha,
        regularization=regularization,
        iterations=EPOCHS,
        num_threads=THREADS,
        random_state=0,
        calculate_training_loss=False,
    )
    matrix = pairs.matrix()
    engine = Engine(dim=dim, history=0, seed=0)

    times = in_turns(
        benchmark,
        whole(lambda: engine.fit(pairs.users, pairs.items, method=options, epochs=EPOCHS, threads=THREADS)),
        whole(lambda: model.fit(matrix, show_progress=False)),
        rounds=min(rounds, 3),
    )
    report("seconds an epoch", float(np.min(times.ours)) / EPOCHS)
    report("seconds an epoch, implicit", float(np.min(times.peer)) / EPOCHS)
    report("speed-up over implicit, median", times.speedup(), at_least=2)

    test = pairs.test
    if test is None:
        return
    engine.fit(pairs.users, pairs.items, method=options, epochs=MORE, threads=THREADS)
    model.iterations = MORE
    model.fit(matrix, show_progress=False)
    users = sorted(test)
    ours = engine.recommend(users, k=K, exclude_seen=True).ids
    theirs, _ = model.recommend(np.array(users), matrix[users], N=K, filter_already_liked_items=True)
    theirs_recall = recall(theirs, users, test)
    report("recall@20", recall(ours, users, test), at_least=theirs_recall)
    report("recall@20, implicit", theirs_recall)

"""Offline training in epochs: what `Engine.fit` does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from recengine import _core
from recengine.columns import id_column, number_column, seconds_column

if TYPE_CHECKING:
    from recengine.engine import Engine

__all__ = ["Epoch", "FitResult", "Ials", "Method", "Sgd", "Softmax", "fit"]

K = 20
MOST_JUDGED = 5_000  # users whose rankings are compared with what was held out


@dataclass(frozen=True, slots=True)
class Sgd:
    """The engine's own objective: `learn_many`, epoch after epoch.

    Parameters
    ----------
    shuffle
        A new order in every epoch, drawn by the engine's seed. None: where the engine has no history, to which order
        means something.

    >>> from recengine import Engine
    >>> Engine(history=3, dim=4).fit(["ann"] * 3, ["tea", "cup", "tea"], method=Sgd(shuffle=True), epochs=2).epochs
    2
    """

    shuffle: bool | None = None


@dataclass(frozen=True, slots=True)
class Ials:
    """Implicit alternating least squares: ``sum w (s - 1)^2`` over the pairs, plus `unobserved_weight` times ``s^2``
    over all users and items, plus ``l2 (n + unobserved_weight N)^l2_exponent |row|^2`` for each row with n pairs, N
    being the number of rows on the other side; w is the pair's value.

    Parameters
    ----------
    unobserved_weight
        What a pair that did not occur weighs, beside 1 for one that did.
    l2, l2_exponent
        Regularisation, and how far it grows with the number of pairs; 0: the same for every row.
    steps
        Conjugate gradients for each row and epoch.

    References
    ----------
    Hu, Koren, Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008. Rendle, Krichene, Zhang,
    Koren, Revisiting the performance of iALS on item recommendation benchmarks, RecSys 2022.

    Examples
    --------
    >>> from recengine import Engine
    >>> engine = Engine(dim=4, history=0)
    >>> result = engine.fit([1, 1, 2, 2, 3], [10, 11, 10, 11, 10], method=Ials(l2=0.01), epochs=10)
    >>> engine.recommend(3, k=1, exclude_seen=True).ids.tolist()
    [11]
    """

    unobserved_weight: float = 0.1
    l2: float = 0.003
    l2_exponent: float = 1.0
    steps: int = 2


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax over the whole catalogue, of cosines divided by `temperature`, plus a bias by the item's popularity. A
    user's vector is a learned row plus `history_weight` times the mean of the user's items, each of length one.

    Parameters
    ----------
    temperature
        At least 0.025. Small ones let those items count more that are nearest to the user's.
    history_weight
        0: the learned row alone.
    user_exponent
        A user with n pairs weighs ``n ** user_exponent``: 1 counts every pair alike, 0 every user.
    learning_rate, user_rate
        Of Adam, for items; for users' rows the product of both. The rate falls linearly to zero over the epochs. Slow
        rows of users leave more to what their items share.
    popularity
        An item with n pairs has the bias ``popularity * log(n)``, in training and after: rows need not learn what all
        users have in common. 0: no bias.
    negatives
        Items, drawn for each batch, that stand for the catalogue.
    batch
        Users.

    References
    ----------
    Wu et al., On the effectiveness of sampled softmax loss for item recommendation, 2022. Mao et al., SimpleX: a simple
    and strong baseline for collaborative filtering, CIKM 2021. Menon et al., Long-tail learning via logit adjustment,
    ICLR 2021.

    Examples
    --------
    >>> from recengine import Engine
    >>> engine = Engine(dim=4, history=0)
    >>> method = Softmax(temperature=0.2, popularity=0)
    >>> result = engine.fit([1, 1, 2, 2, 3], [10, 11, 10, 11, 10], method=method, epochs=10)
    >>> float(abs(engine.score(3, [10, 11])).max()) <= 1 / 0.2 + 1e-4  # cosines over the temperature
    True
    """

    temperature: float = 0.11
    history_weight: float = 1.0
    user_exponent: float = 1.0
    learning_rate: float = 0.02
    user_rate: float = 0.25
    popularity: float = 0.7
    negatives: int = 4096
    batch: int = 512


Method: TypeAlias = Literal["sgd", "ials", "softmax"] | Sgd | Ials | Softmax
_METHODS: dict[str, Sgd | Ials | Softmax] = {"sgd": Sgd(), "ials": Ials(), "softmax": Softmax()}


@dataclass(frozen=True, slots=True)
class Epoch:
    """What `progress` is told after each epoch: its number from 1, of how many, recall@20 on the pairs held out (NaN
    without any), seconds since the start.

    >>> Epoch(number=1, planned=10, recall=0.25, seconds=1.5).recall
    0.25
    """

    number: int
    planned: int
    recall: float
    seconds: float


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a fit went.

    Attributes
    ----------
    epochs
        Epochs that were finished.
    recalls
        Recall@20 on the pairs held out, after each of them; empty if none were.
    best_epoch
        The one, from 1, that the engine was left with: the last, or, with pairs held out, that of the highest recall.
    seconds
        How long it took.
    stopped_early
        By `patience`.
    interrupted
        By Ctrl-C.

    Examples
    --------
    >>> from recengine import Engine
    >>> users, items = [1, 1, 2, 2, 3, 3] * 10, [10, 11, 10, 11, 10, 11] * 10
    >>> result = Engine(dim=4, history=0).fit(users, items, method="ials", epochs=9, validation=0.3, patience=1)
    >>> len(result.recalls) == result.epochs, result.stopped_early, result.interrupted
    (True, True, False)
    """

    epochs: int
    recalls: tuple[float, ...]
    best_epoch: int
    seconds: float
    stopped_early: bool = False
    interrupted: bool = False


Reporter: TypeAlias = Callable[[Epoch], object]
_Column: TypeAlias = npt.NDArray[Any]


class _Trainer(Protocol):
    def run(self, epoch: int) -> None: ...  # rows of the engine may lag behind until `store`
    def store(self) -> None: ...
    def keep(self) -> None: ...  # the state as it is, for `restore`
    def restore(self) -> None: ...
    def finish(self) -> None: ...  # what was held out has been recorded


@dataclass(frozen=True)
class _Pairs:
    users: _Column
    items: _Column
    values: _Column | None
    timestamps: _Column | None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, chosen: _Column) -> _Pairs:
        return _Pairs(
            self.users[chosen],
            self.items[chosen],
            None if self.values is None else self.values[chosen],
            None if self.timestamps is None else self.timestamps[chosen],
        )

    def record(self, engine: Engine, threads: int) -> None:
        """Lets the engine see these events without learning from them."""
        weights = np.zeros(len(self), dtype=np.float32)
        engine.learn_many(self.users, self.items, None, self.timestamps, weights, threads=threads)


class _SgdTrainer:
    def __init__(self, engine: Engine, pairs: _Pairs, method: Sgd, threads: int) -> None:
        self._engine, self._pairs, self._threads = engine, pairs, threads
        settings = engine.settings
        self._seed = settings["seed"]
        self._shuffle = settings["history"] == 0 if method.shuffle is None else method.shuffle
        self._kept: Any = None

    def run(self, epoch: int) -> None:
        pairs = self._pairs
        if self._shuffle:
            pairs = pairs.take(np.random.default_rng([self._seed, epoch]).permutation(len(pairs)))
        self._engine.learn_many(pairs.users, pairs.items, pairs.values, pairs.timestamps, threads=self._threads)

    def store(self) -> None:
        """Learned in place."""

    def keep(self) -> None:
        self._kept = self._engine.factors()

    def restore(self) -> None:
        kept = self._kept
        self._engine.set_items(kept.item_ids, kept.item_vectors, kept.item_biases)
        self._engine.set_users(kept.user_ids, kept.user_vectors, kept.user_biases)
        self._engine._core.global_bias = kept.global_bias

    def finish(self) -> None:
        """Nothing depends on what was recorded."""


class _CoreTrainer:
    """Trains on copies of the rows in the core."""

    def __init__(self, core: _core.AlsFit | _core.SoftmaxFit, engine: Engine, pairs: _Pairs, threads: int) -> None:
        self._core, self._threads = core, threads
        pairs.record(engine, threads)

    def run(self, epoch: int) -> None:
        self._core.run(self._threads)

    def store(self) -> None:
        self._core.store()

    def keep(self) -> None:
        self._core.keep()

    def restore(self) -> None:
        self._core.restore()
        self._core.store()

    def finish(self) -> None:
        self._core.store()  # the history that is a part of users' vectors has changed


def _trainer(engine: Engine, pairs: _Pairs, method: Method, epochs: int, threads: int) -> _Trainer:
    core = engine._core
    if isinstance(method, str):
        if method not in _METHODS:
            raise ValueError(f"method must be 'sgd', 'ials' or 'softmax', or a value with options, not {method!r}")
        method = _of_engine(engine) if method == "ials" else _METHODS[method]
    if isinstance(method, Sgd):
        return _SgdTrainer(engine, pairs, method, threads)
    if isinstance(method, Ials):
        als = {name: getattr(method, name) for name in Ials.__dataclass_fields__}
        return _CoreTrainer(_core.begin_als(core, pairs.users, pairs.items, pairs.values, als), engine, pairs, threads)
    if isinstance(method, Softmax):
        if pairs.values is not None:
            raise ValueError("values must be None for method 'softmax', which counts every pair once")
        options = {name: getattr(method, name) for name in Softmax.__dataclass_fields__} | {"epochs": epochs}
        return _CoreTrainer(_core.begin_softmax(core, pairs.users, pairs.items, options), engine, pairs, threads)
    raise TypeError(f"method must be 'sgd', 'ials', 'softmax', Sgd(), Ials() or Softmax(), not {method!r}")


def _of_engine(engine: Engine) -> Ials:
    """The options that the engine solves its users by, so that what is fitted is what is served."""
    settings = engine.settings
    return Ials(settings["als_unobserved_weight"], settings["als_l2"], settings["als_l2_exponent"])


def _ids(column: Any) -> _Column:
    """A column of ids as an array that can be taken from by position; ids stay what they are."""
    found = id_column(column)
    if isinstance(found, np.ndarray):
        return found
    if isinstance(found, _core.Utf8Column):
        found = importlib.import_module("pyarrow").chunked_array(column).to_pylist()
    if not isinstance(found, (list, tuple)):
        raise TypeError(f"ids must be a column, not {type(column).__name__}")
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def _pairs(users: Any, items: Any, values: Any, timestamps: Any) -> _Pairs:
    user_ids, item_ids = _ids(users), _ids(items)
    if user_ids.shape != item_ids.shape:
        raise ValueError(f"users and items must be of equal length, not {len(user_ids)} and {len(item_ids)}")
    columns: list[_Column | None] = []
    for name, column in (("values", values), ("timestamps", timestamps)):
        array = None
        if column is not None:
            array = seconds_column(column) if name == "timestamps" else np.asarray(number_column(column))
            if array.shape != user_ids.shape:
                raise ValueError(f"{name} must be a column of length {len(user_ids)}, not of shape {array.shape}")
        columns.append(array)
    if len(user_ids) == 0:
        raise ValueError("there must be at least one pair to learn from")
    return _Pairs(user_ids, item_ids, *columns)


class _Judge:
    """Recall@20 on pairs that were held out: the share of a user's that are among the first 20, the user's other items
    left out; the mean over at most 5,000 users."""

    def __init__(self, engine: Engine, held_out: _Pairs, seed: int) -> None:
        self._engine = engine
        users, number = np.unique(held_out.users, return_inverse=True)
        judged = np.random.default_rng([seed, len(users)]).permutation(len(users))[:MOST_JUDGED]
        self._wanted: dict[int, set[Any]] = {int(user): set() for user in judged}
        for user, item in zip(number.tolist(), held_out.items.tolist(), strict=True):
            if user in self._wanted:
                self._wanted[user].add(item)
        self._users = users[list(self._wanted)]

    def recall(self) -> float:
        found = self._engine.recommend(self._users, k=K, exclude_seen=True)
        counts = np.asarray(found.counts).tolist()
        shares = [
            len(wanted.intersection(row[:count].tolist())) / len(wanted)
            for wanted, row, count in zip(self._wanted.values(), found.ids, counts, strict=True)
        ]
        return float(np.mean(shares))


@contextmanager
def _reporter(progress: bool | Reporter, epochs: int) -> Iterator[Reporter | None]:
    """What to tell of each epoch, or None; a bar (of tqdm, on stderr) is closed in the end."""
    if not isinstance(progress, bool):
        if not callable(progress):
            raise TypeError(f"progress must be a bool or a function, not {progress!r}")
        yield progress
    elif not progress:
        yield None
    else:
        try:
            bar = importlib.import_module("tqdm.auto").tqdm(total=epochs, unit=" epochs")
        except ImportError as error:
            raise ImportError('tqdm is not installed: pip install "recengine[evaluate]"') from error

        def show(epoch: Epoch) -> None:
            if epoch.recall == epoch.recall:
                bar.set_postfix_str(f"recall {epoch.recall:.4f}", refresh=False)
            bar.update(epoch.number - bar.n)

        try:
            yield show
        finally:
            bar.close()


def _whole(name: str, number: Any, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"{name} must be an int, not {number!r}")
    if not least <= number <= 2**31 - 1:
        raise ValueError(f"{name} must be between {least} and {2**31 - 1}, not {number}")
    return int(number)


def fit(
    engine: Engine,
    users: Any,
    items: Any,
    values: Any,
    timestamps: Any,
    method: Method,
    epochs: int,
    validation: float,
    patience: int | None,
    threads: int | None,
    progress: bool | Reporter,
) -> FitResult:
    """See `Engine.fit`."""
    start = perf_counter()
    epochs = _whole("epochs", epochs, 1)
    patience = None if patience is None else _whole("patience", patience, 1)
    threads = engine.threads if threads is None else _whole("threads", threads, 1)
    if not 0 <= validation <= 0.5:
        raise ValueError(f"validation must be between 0 and 0.5, not {validation}")
    if patience is not None and validation == 0:
        raise ValueError("patience needs pairs to judge by: give validation")
    pairs = _pairs(users, items, values, timestamps)
    seed = engine.settings["seed"]
    held = np.random.default_rng([seed, 0]).random(len(pairs)) < validation
    train, held_out = (pairs.take(~held), pairs.take(held)) if held.any() else (pairs, None)

    with _reporter(progress, epochs) as report:
        trainer = _trainer(engine, train, method, epochs, threads)
        judge = None if held_out is None else _Judge(engine, held_out, seed)
        recalls: list[float] = []
        done, best, stopped, interrupted = 0, 0, False, False
        try:
            for epoch in range(1, epochs + 1):
                trainer.run(epoch)
                done = best = epoch
                if judge is not None:
                    trainer.store()
                    recalls.append(judge.recall())
                    best = int(np.argmax(recalls)) + 1
                    if best == epoch:
                        trainer.keep()
                if report is not None:
                    report(Epoch(epoch, epochs, recalls[-1] if recalls else float("nan"), perf_counter() - start))
                if patience is not None and epoch - best >= patience:
                    stopped = True
                    break
        except KeyboardInterrupt:
            interrupted = True
        if recalls and best != done:
            trainer.restore()
        else:
            trainer.store()
        if held_out is not None:
            held_out.record(engine, threads)
            trainer.finish()
    return FitResult(done, tuple(recalls), best, perf_counter() - start, stopped, interrupted)

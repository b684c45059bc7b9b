"""Other libraries' indexes over the same rows, each behind the same two functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from bench.oracle import Found, Truth, Vectors
from bench.side_by_side import whole

BUILD_THREADS = 2
EFFORTS = (20, 50, 100, 150, 200, 300, 400, 600, 800)

GraphName = Literal["hnswlib", "usearch", "faiss HNSW"]


@dataclass(frozen=True)
class Peer:
    """An index that is searched by one thread."""

    name: str
    search: Callable[[Vectors, int], Found]
    """Queries, shape (n, dim), and k; the rows found, shape (n, k)."""
    set_effort: Callable[[int], None]
    """Its `ef`, or the number of lists it probes."""
    efforts: tuple[int, ...] = EFFORTS

    def reach(self, truth: Truth, queries: Vectors, recall: float) -> float:
        """Sets the least effort that reaches this recall, or the best there is; returns the recall reached."""
        reached = {}
        for effort in self.efforts:
            self.set_effort(effort)
            reached[effort] = truth.recall(self.search(queries, truth.k))
            if reached[effort] >= recall:
                return reached[effort]
        best = max(reached, key=lambda effort: reached[effort])
        self.set_effort(best)
        return reached[best]


def faiss() -> Any:
    """The module, on one thread."""
    module = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    module.omp_set_num_threads(1)
    return module


def built(index: Any, items: Vectors) -> Any:
    """A faiss index, trained and filled by two threads."""
    faiss().omp_set_num_threads(BUILD_THREADS)
    index.train(items)
    index.add(items)
    faiss().omp_set_num_threads(1)
    return index


def flat(items: Vectors) -> Any:
    """faiss ``IndexFlatIP``, the exact scan that bars refer to."""
    return built(faiss().IndexFlatIP(items.shape[1]), items)


@contextmanager
def quickest_batches(index: Any, queries: Vectors, k: int) -> Iterator[None]:
    """With or without BLAS, whichever answers this batch sooner: faiss's own choice can be three times slower."""
    settings = faiss().cvar
    default = settings.distance_compute_blas_threshold
    seconds = {}
    for threshold in (default, 1, 10**9):
        settings.distance_compute_blas_threshold = threshold
        seconds[threshold] = min(float(whole(lambda: index.search(queries, k))()[0]) for _ in range(3))
    settings.distance_compute_blas_threshold = min(seconds, key=lambda threshold: seconds[threshold])
    try:
        yield
    finally:
        settings.distance_compute_blas_threshold = default


def ivf(items: Vectors, n_lists: int) -> Peer:
    """faiss ``IndexIVFFlat`` with k-means lists."""
    dim = items.shape[1]
    quantizer = faiss().IndexFlatL2(dim)
    index = faiss().IndexIVFFlat(quantizer, dim, n_lists, faiss().METRIC_INNER_PRODUCT)
    built(index, items)
    probes = tuple(2**n for n in range(n_lists.bit_length() - 1))

    def set_probes(n: int) -> None:
        index.nprobe = n

    return Peer(f"faiss IVF{n_lists}", lambda q, k: index.search(q, k)[1], set_probes, probes)


def graph(name: GraphName, items: Vectors) -> Peer:
    """A graph by inner product with M=16 and 200 candidates while it is built."""
    dim = items.shape[1]
    if name == "hnswlib":
        hnswlib = pytest.importorskip("hnswlib", reason="hnswlib is not installed")
        index = hnswlib.Index(space="ip", dim=dim)
        index.init_index(max_elements=len(items), M=16, ef_construction=200, random_seed=0)
        index.add_items(items, num_threads=BUILD_THREADS)
        # Its ef must be k or more.
        return Peer(name, lambda q, k: index.knn_query(q, k, num_threads=1)[0].astype(np.int64), index.set_ef)
    if name == "usearch":
        usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
        index = usearch.Index(ndim=dim, metric="ip", dtype="f32", connectivity=16, expansion_add=200)
        index.add(np.arange(len(items)), items, threads=BUILD_THREADS)

        def search(queries: Vectors, k: int) -> Found:
            keys = index.search(queries, k, threads=1).keys
            return np.asarray(keys).astype(np.int64).reshape(len(queries), k)

        return Peer(name, search, lambda ef: setattr(index, "expansion_search", ef))
    index = faiss().IndexHNSWFlat(dim, 16, faiss().METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    built(index, items)
    return Peer(name, lambda q, k: index.search(q, k)[1], lambda ef: setattr(index.hnsw, "efSearch", ef))


def selection(matching: Any) -> Any:
    """Search parameters for ``IndexFlatIP.search`` that let only these rows pass, shape (m,) of bool."""
    bits = np.packbits(matching, bitorder="little")
    selector = faiss().IDSelectorBitmap(bits)
    parameters = faiss().SearchParameters(sel=selector)
    parameters.keeps = (bits, selector)  # they are only pointed to
    return parameters

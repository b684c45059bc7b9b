"""Index files of hnswlib (``Index.save_index``, versions 0.4 to 0.8, written on a 64-bit little-endian machine).

A header of 96 bytes; then per element, in `element_size` bytes, its links on level 0 (their number and a mark of
deletion in 4 bytes, room for `max_links_0` numbers), its vector and its label; then per element the size in bytes of
its links on the levels above, 4 bytes, and those links, for each level their number and room for `max_links`.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recengine.engine import Engine

__all__ = ["engine_from_hnswlib", "read_hnswlib"]

Space = Literal["l2", "ip", "cosine"]

_HEADER = struct.Struct("<6QiI3QdQ")
_LINK = 4  # bytes of a link, and of a number of links
_LABEL = 8
_DELETED = 1 << 16  # in the first four bytes of an element; the lower half is the number of links


class _Header(NamedTuple):
    level_0_offset: int
    max_elements: int
    elements: int
    element_size: int
    label_offset: int
    vector_offset: int
    max_level: int
    entry: int
    max_links: int
    max_links_0: int
    m: int
    level_scale: float
    ef_construction: int


def _header(data: bytes, dim: int) -> _Header:
    """The header, if it agrees with itself, with the size of the file and with `dim`."""
    if len(data) < _HEADER.size:
        raise ValueError(f"truncated: {len(data)} bytes, but the header alone has {_HEADER.size}")
    header = _Header(*_HEADER.unpack_from(data))
    if header.level_0_offset != 0:
        raise ValueError(f"the links of level 0 should start at 0 in an element, not {header.level_0_offset}")
    if not 1 <= header.m == header.max_links or header.max_links_0 != 2 * header.m:
        raise ValueError(f"M {header.m}, but room for {header.max_links} links, {header.max_links_0} on level 0")
    if header.m > 1 and not math.isclose(header.level_scale, 1 / math.log(header.m), rel_tol=1e-6):
        raise ValueError(f"the scale of the levels is {header.level_scale}, which does not belong to M {header.m}")
    vector_offset = _LINK * (1 + header.max_links_0)
    if header.vector_offset != vector_offset:
        raise ValueError(f"vectors start at {header.vector_offset}, but the links before them end at {vector_offset}")
    size = header.label_offset - header.vector_offset
    if size != 4 * dim:
        raise ValueError(f"a vector has {size} bytes, but dim {dim} takes {4 * dim}")
    if header.element_size != header.label_offset + _LABEL:
        raise ValueError(f"an element has {header.element_size} bytes, but its label ends at {header.label_offset + 8}")
    if header.elements > header.max_elements:
        raise ValueError(f"{header.elements} elements, but room for {header.max_elements}")
    needed = _HEADER.size + header.elements * (header.element_size + _LINK)
    if needed > len(data):
        raise ValueError(
            f"truncated: {header.elements} elements take at least {needed} bytes, the file has {len(data)}"
        )
    if header.elements and not (header.entry < header.elements and header.max_level >= 0):
        raise ValueError(f"the entry is element {header.entry} of {header.elements}, on level {header.max_level}")
    return header


def _check_links(counts: npt.NDArray[Any], links: npt.NDArray[Any], elements: int, what: str) -> None:
    """Refuses numbers of links that no list has room for, and links to elements that are not there."""
    if (counts > links.shape[1]).any():
        raise ValueError(f"{int(counts.max())} links in {what}, which has room for {links.shape[1]}")
    used = np.arange(links.shape[1]) < counts[:, None]
    beyond = used & (links >= elements)
    if beyond.any():
        raise ValueError(f"a link to element {int(links[beyond][0])} of {elements} in {what}")


def _check_upper_levels(data: bytes, header: _Header) -> None:
    """Walks the links above level 0 to the end of the file."""
    level_size = _LINK * (1 + header.max_links)
    position = _HEADER.size + header.elements * header.element_size
    highest = 0
    for element in range(header.elements):
        if position + _LINK > len(data):
            raise ValueError(f"truncated: the file ends before the upper links of element {element}")
        size = int.from_bytes(data[position : position + _LINK], "little")
        position += _LINK
        if size == 0:
            continue
        if size % level_size or position + size > len(data):
            raise ValueError(
                f"the upper links of element {element} have {size} bytes: no multiple of {level_size}, "
                f"or more than the {len(data) - position} bytes left"
            )
        lists = np.frombuffer(data, "<u4", size // _LINK, position).reshape(-1, 1 + header.max_links)
        _check_links(lists[:, 0] & 0xFFFF, lists[:, 1:], header.elements, f"the upper links of element {element}")
        highest = max(highest, len(lists))
        position += size
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow the last element")
    if header.elements and highest != header.max_level:
        raise ValueError(f"the highest level is {header.max_level}, but the elements reach {highest}")


def _parse(data: bytes, dim: int, space: Space) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    header = _header(data, dim)
    if header.elements == 0:
        _check_upper_levels(data, header)
        return np.empty(0, np.int64), np.empty((0, dim), np.float32)
    element = np.dtype(
        {
            "names": ["head", "links", "vector", "label"],
            "formats": ["<u4", ("<u4", (header.max_links_0,)), ("<f4", (dim,)), "<u8"],
            "offsets": [0, _LINK, header.vector_offset, header.label_offset],
            "itemsize": header.element_size,
        }
    )
    elements = np.frombuffer(data, element, header.elements, _HEADER.size)
    _check_links(elements["head"] & 0xFFFF, elements["links"], header.elements, "a list of level 0")
    _check_upper_levels(data, header)

    labels = np.sort(elements["label"])
    if labels[-1] >= 1 << 63:
        raise ValueError(f"label {labels[-1]} does not fit a signed 64-bit integer")
    twice = labels[1:] == labels[:-1]
    if twice.any():
        raise ValueError(f"label {labels[1:][twice][0]} belongs to two elements")

    kept = elements["head"] & _DELETED == 0
    vectors = np.ascontiguousarray(elements["vector"][kept], dtype=np.float32)
    found = elements["label"][kept].astype(np.int64)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"the vector of label {found[~finite][0]} is not finite")
    if space == "cosine":
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
        odd = (np.abs(lengths - 1) > 1e-3) & (lengths > 0)
        if odd.any():
            raise ValueError(f"the vector of label {found[odd][0]} has length {lengths[odd][0]:g}, not 1 as for cosine")
    return found, vectors


def read_hnswlib(
    path: str | os.PathLike[str], dim: int, space: Space = "l2"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Labels and vectors of an index that hnswlib saved, without the elements that were marked deleted.

    Parameters
    ----------
    path
        The file.
    dim
        Length of the vectors (the file does not name it, but must agree).
    space
        What the index was made for. For ``"cosine"``, hnswlib stores the vectors scaled to length 1.

    Returns
    -------
    labels, vectors
        int64 (n,) and float32 (n, dim), in the order of insertion.

    Raises
    ------
    ValueError
        For a file that is not such an index, or is damaged, naming what is wrong. All of the file is looked at, links
        too, before anything is returned; memory stays within a small multiple of its size.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "index"
    ...     _ = path.write_bytes(b"not an index")
    ...     read_hnswlib(path, dim=8)
    Traceback (most recent call last):
    ...
    ValueError: ...index: truncated: 12 bytes, but the header alone has 96
    """
    if space not in ("l2", "ip", "cosine"):
        raise ValueError(f'space must be "l2", "ip" or "cosine", not {space!r}')
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise TypeError(f"dim must be an int, not {dim!r}")
    if dim < 1:
        raise ValueError(f"dim must be at least 1, not {dim}")
    try:
        return _parse(Path(path).read_bytes(), int(dim), space)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def engine_from_hnswlib(path: str | os.PathLike[str], dim: int, space: Space = "l2", **settings: Any) -> Engine:
    """An engine whose items are the elements of an index that hnswlib saved, labels as ids; it has no users yet.

    The ranking of a query vector q is that of the index: by inner product for ``"ip"`` and ``"cosine"``; for ``"l2"``
    the items' biases are ``-|x|^2 / 2``, since ``<q, x> - |x|^2 / 2`` orders items as ``-|q - x|^2`` does. (In floats
    that needs lengths not far beyond the distances: vectors that lie close together far from the origin should be
    centred before they are indexed.)

    Parameters
    ----------
    path, dim, space
        As for ``read_hnswlib``.
    settings
        As for ``Engine.from_factors``.

    Raises
    ------
    ValueError, OSError
        As ``read_hnswlib``.

    Examples
    --------
    >>> engine = engine_from_hnswlib("items.index", dim=64, space="ip")  # doctest: +SKIP
    >>> engine.similar_items(7, k=10)  # doctest: +SKIP
    """
    labels, vectors = read_hnswlib(path, dim, space)
    biases = None
    if space == "l2":
        biases = (-0.5 * np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)).astype(np.float32)
    users = np.empty((0, vectors.shape[1]), np.float32)
    return Engine.from_factors(np.empty(0, np.int64), users, labels, vectors, None, biases, **settings)

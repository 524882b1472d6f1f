"""Embedding matrices that are read a block of rows at a time.

A matrix here is anything with a shape, the name of a dtype and ``block(start, stop)``. The
matrices behind it stay where they are (usually in a memory-mapped file); only the block is
converted. ``bfloat16`` has no NumPy dtype, so its blocks are ``uint16`` arrays holding the bits.

    >>> m = ArrayMatrix(np.zeros((3, 2), np.float32))
    >>> m.shape, m.dtype, m.block(0, 2).shape
    ((3, 2), 'float32', (2, 2))
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ks_core.errors import CheckpointError

#: Dtype names in order of what holds what: each value of an earlier one is exact in ``widest``.
FLOATS = ("bfloat16", "float16", "float32", "float64")
#: Bounds on an embedding: rows and values in one. What is said of every row, and of one whole row, is held in memory. The
#: largest in use have 901,629 rows, and rows of 20,480 values.
MOST_ROWS, LONGEST_ROW = 1 << 21, 1 << 18


@runtime_checkable
class Matrix(Protocol):
    """Rows of floats, read block by block."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> str:
        """One of ``FLOATS``; blocks of ``bfloat16`` come as ``uint16`` bits."""
        ...

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` as stored, shape ``(stop - start, d)``. May be a view."""
        ...


def check_shape(where: object, rows: int, width: int) -> None:
    """Raise ``CheckpointError`` for an embedding that is larger than any is: a file of holes may claim one on no disk."""
    if rows > MOST_ROWS or width > LONGEST_ROW:
        raise CheckpointError(
            f"{where} has an embedding of {rows:,} rows of {width:,} values. Expected at most {MOST_ROWS:,} rows of "
            f"{LONGEST_ROW:,}: it is damaged, or no embedding of tokens."
        )


def widest(*dtypes: str) -> str:
    """The narrowest dtype that holds every value of all of these exactly.

    >>> widest("bfloat16", "bfloat16"), widest("bfloat16", "float16"), widest("float32", "float64")
    ('bfloat16', 'float32', 'float64')
    """
    if len(set(dtypes)) == 1:
        return dtypes[0]
    return "float64" if "float64" in dtypes else "float32"


def to_floats(block: np.ndarray, dtype: str, target: str = "float32") -> np.ndarray:
    """A block as NumPy floats of dtype ``target`` (``float32`` or ``float64``), exactly.

    ``dtype`` is the block's own name from ``FLOATS``. Returns the block itself when nothing has
    to be converted.
    """
    if dtype == "bfloat16":
        # A bfloat16 is the upper half of the float32 of the same value.
        block = (block.astype(np.uint32) << 16).view(np.float32)
    return block.astype(target, copy=False)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Each rounded to the nearest bfloat16, ties to even, as float32 of the same shape."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)


@dataclass(frozen=True)
class ArrayMatrix:
    """A two-dimensional NumPy array (often a ``np.memmap``) as a matrix.

    ``storage`` is the array; pass ``dtype="bfloat16"`` for bits in a ``uint16`` array.
    """

    storage: np.ndarray
    dtype: str = ""

    def __post_init__(self) -> None:
        if not self.dtype:
            object.__setattr__(self, "dtype", self.storage.dtype.name)

    @property
    def shape(self) -> tuple[int, int]:
        return self.storage.shape[0], self.storage.shape[1]

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.storage[start:stop]


@dataclass(frozen=True)
class MappedMatrix(ArrayMatrix):
    """An array over a memory-mapped file; reading it notices when the file was written into.

    The system ends a process that reads a map beyond the end of its file, so a file that is cut short while
    the app holds it would take the app down. ``block`` therefore asks for the file's size and time first and
    raises ``CheckpointError``. A file that was replaced or removed is no matter: the map keeps the old one.
    """

    path: Path = Path()
    seen: tuple[int, int, int] = field(default=(0, 0, 0), init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seen", self._state())

    def block(self, start: int, stop: int) -> np.ndarray:
        try:
            now = self._state()
        except OSError:
            now = self.seen
        if now[0] == self.seen[0] and now != self.seen:
            raise CheckpointError(f"{self.path} was written into since it was opened. Open it again.")
        return self.storage[start:stop]

    def _state(self) -> tuple[int, int, int]:
        found = os.stat(self.path)
        return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class StackedMatrix:
    """Matrices one below the other: an embedding whose rows are split over several tensors."""

    parts: tuple[Matrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(p.shape[0] for p in self.parts), self.parts[0].shape[1]

    @property
    def dtype(self) -> str:
        return widest(*(p.dtype for p in self.parts))

    def block(self, start: int, stop: int) -> np.ndarray:
        found, offset = [], 0
        for part in self.parts:
            rows = part.shape[0]
            low, high = max(start - offset, 0), min(stop - offset, rows)
            if low < high:
                piece = part.block(low, high)
                found.append(piece if part.dtype == self.dtype else to_floats(piece, part.dtype, self.dtype))
            offset += rows
        if not found:  # no rows are asked for
            return (
                self.parts[0].block(0, 0)
                if self.parts[0].dtype == self.dtype
                else np.empty((0, self.shape[1]), self.dtype)
            )
        return found[0] if len(found) == 1 else np.concatenate(found)


@dataclass(frozen=True)
class OverlaidMatrix:
    """A matrix with some of its rows replaced: a base with an adapter's rows on it.

    ``ids`` (k,) int64 ascending and unique; ``rows`` (k, d) float32 or float64.
    """

    base: Matrix
    ids: np.ndarray
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    @property
    def dtype(self) -> str:
        return widest(self.base.dtype, str(self.rows.dtype))

    def block(self, start: int, stop: int) -> np.ndarray:
        found = to_floats(self.base.block(start, stop), self.base.dtype, self.dtype)
        low, high = np.searchsorted(self.ids, [start, stop])
        if low == high:
            return found
        found = np.array(found)  # the base may be a read-only memory map
        found[self.ids[low:high] - start] = self.rows[low:high]
        return found


@dataclass(frozen=True)
class GatheredMatrix:
    """Chosen rows of a matrix in a chosen order: how two vocabularies are brought in line."""

    base: Matrix
    ids: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.ids), self.base.shape[1]

    @property
    def dtype(self) -> str:
        return self.base.dtype

    def block(self, start: int, stop: int) -> np.ndarray:
        return take(self.base, self.ids[start:stop])


def take(matrix: Matrix, ids: np.ndarray) -> np.ndarray:
    """The rows of these ids, in their order, as stored: (len(ids), d). A run of ids may come as a view.

    >>> take(ArrayMatrix(np.arange(8.0).reshape(4, 2)), np.array([3, 0]))[:, 0].tolist()
    [6.0, 0.0]
    """
    ids = np.asarray(ids)
    if len(ids) == 0:
        return matrix.block(0, 0)
    steps = np.diff(ids)
    if (steps == 1).all():
        return matrix.block(int(ids[0]), int(ids[-1]) + 1)
    if isinstance(matrix, ArrayMatrix):
        return np.asarray(matrix.block(0, matrix.shape[0]))[ids]
    if isinstance(matrix, GatheredMatrix):
        return take(matrix.base, matrix.ids[ids])
    # Anything else reads blocks: ids that lie close together share one, within a bound of rows.
    order = np.argsort(ids, kind="stable") if (steps < 0).any() else np.arange(len(ids))
    ascending = ids[order]
    breaks = np.nonzero((np.diff(ascending) > 16) | (np.diff(ascending // 4096) > 0))[0] + 1
    found = None
    for places in np.split(order, breaks):
        low, high = int(ids[places[0]]), int(ids[places[-1]])
        rows = matrix.block(low, high + 1)[ids[places] - low]
        if found is None:
            found = np.empty((len(ids), rows.shape[1]), rows.dtype)
        found[places] = rows
    assert found is not None
    return found


def blocks(rows: int, row_bytes: int, budget: int = 32 << 20) -> Iterator[tuple[int, int]]:
    """Row ranges ``(start, stop)`` that cover ``rows``, each at most ``budget`` bytes.

    >>> list(blocks(5, 4, budget=8))
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, budget // max(1, row_bytes))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)

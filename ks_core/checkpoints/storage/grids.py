"""Grids: the values that a storage can hold, and how far from one of them lay what was rounded to it.

A float's grid is the same for every row. Of a quantized matrix every block has a grid of its own, which is known from its
scale (``ggml``, ``scaled``). Values are told apart by an index: equal indexes are one value of the storage, and a larger value never has
an index on the other side of a smaller one's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ks_core.checkpoints.matrices import GatheredMatrix, Matrix, to_bfloat16

#: How a dtype is called where people look at files, and the bits of a value in it.
FLOATS = {"float64": ("F64", 64.0), "float32": ("F32", 32.0), "float16": ("F16", 16.0), "bfloat16": ("BF16", 16.0)}
#: The scale of a block is rounded too, to float16: its relative error, and the absolute one of the smallest scales. A value's
#: place among the steps may have been told with the scale before.
SCALE_ERROR, SMALLEST_SCALE_ERROR = 2.0**-11, 2.0**-25
#: A reach is a half step and a little more, so that both ends of a tie lie in it.
_MORE = 1 + 2.0**-6


class Steps(Protocol):
    """The grid of some rows. All arrays are (rows, d); values are float32 or float64 and finite."""

    def index(self, values: np.ndarray) -> np.ndarray:
        """The index of the value of the grid that is nearest to each."""
        ...

    def value(self, index: np.ndarray) -> np.ndarray:
        """The values of the grid at these indexes."""
        ...

    def reach(self, values: np.ndarray) -> np.ndarray | float:
        """How far from values of this grid that may lie which was rounded to them."""
        ...

    def slack(self, values: np.ndarray) -> np.ndarray | float:
        """How far from the middle between two values of the grid these may lie and still have been rounded to either."""
        ...


class Grid(Protocol):
    """The grid of a matrix: what people call its storage, the bits that a value takes, and its steps row by row."""

    @property
    def name(self) -> str: ...

    @property
    def bits(self) -> float: ...

    def steps(self, start: int, stop: int) -> Steps:
        """The grid of rows ``start`` to ``stop``."""
        ...


@dataclass(frozen=True)
class FloatGrid:
    """What a float holds, or what each of several hold one after the other. It is its own ``Steps``.

    >>> FloatGrid(("bfloat16",)).index(np.array([1.001], np.float32)).tolist()
    [1.0]
    """

    dtypes: tuple[str, ...]

    @property
    def name(self) -> str:
        return " and ".join(FLOATS[dtype][0] for dtype in self.dtypes)

    @property
    def bits(self) -> float:
        return min(FLOATS[dtype][1] for dtype in self.dtypes)

    def steps(self, start: int, stop: int) -> FloatGrid:
        return self

    def index(self, values: np.ndarray) -> np.ndarray:
        for dtype in self.dtypes:
            values = _ROUNDED[dtype](values)
        return values

    def value(self, index: np.ndarray) -> np.ndarray:
        return index

    def reach(self, values: np.ndarray) -> np.ndarray | float:
        return _MORE * sum((_half_step(values, dtype) for dtype in self.dtypes), 0.0)

    def slack(self, values: np.ndarray) -> float:
        return 0.0


@dataclass(frozen=True)
class EvenSteps:
    """Values at equal distances: ``count`` of them from ``low`` to ``high``, both (rows, d); ``high`` may be the smaller.

    They are multiples of the scale, and ``from_low`` ones above ``low``, which was rounded as the scale was.
    """

    low: np.ndarray
    high: np.ndarray
    count: int
    from_low: bool = False
    scale_error: float = SCALE_ERROR

    @property
    def step(self) -> np.ndarray:
        return (self.high - self.low) / np.float32(self.count - 1)

    def index(self, values: np.ndarray) -> np.ndarray:
        step = self.step
        found = (values - self.low) / np.where(step == 0, 1, step)
        # A block whose scale is 0 holds one value.
        return np.where(step == 0, 0, np.clip(np.rint(found), 0, self.count - 1)).astype(np.float32, copy=False)

    def value(self, index: np.ndarray) -> np.ndarray:
        return self.low + self.step * index

    def reach(self, values: np.ndarray) -> np.ndarray:
        index = self.index(values)
        # Beyond the last value there is none: some formats put a whole step more there.
        at_end = (index == 0) | (index == self.count - 1)
        return _MORE * np.abs(self.step) * np.where(at_end, np.float32(1), np.float32(0.5))

    def slack(self, values: np.ndarray) -> np.ndarray:
        sizes = np.abs(self.low) + np.abs(values - self.low) if self.from_low else np.abs(values)
        # A value beyond the last of them is that one, whatever the scale was.
        most = np.abs(self.low) + np.abs(self.high - self.low)
        return self.scale_error * np.minimum(sizes, most) + np.float32((self.count + 1) * SMALLEST_SCALE_ERROR)


@dataclass(frozen=True)
class TableSteps:
    """The values of a ``table`` (n,), ascending, times a ``scale`` (rows, d), which may be below 0."""

    table: np.ndarray
    scale: np.ndarray

    def _unscaled(self, values: np.ndarray) -> np.ndarray:
        return values / np.where(self.scale == 0, 1, self.scale)

    def index(self, values: np.ndarray) -> np.ndarray:
        found = np.searchsorted((self.table[:-1] + self.table[1:]) / 2, self._unscaled(values))
        return np.where(self.scale == 0, 0, found)

    def value(self, index: np.ndarray) -> np.ndarray:
        return self.table[index] * self.scale

    def reach(self, values: np.ndarray) -> np.ndarray:
        gaps = np.diff(self.table)
        half = np.maximum(np.concatenate([gaps[:1], gaps]), np.concatenate([gaps, gaps[-1:]])) / 2
        half[[0, -1]] *= 2
        return _MORE * half[self.index(values)] * np.abs(self.scale)

    def slack(self, values: np.ndarray) -> np.ndarray:
        return SCALE_ERROR * np.abs(values) + SMALLEST_SCALE_ERROR * np.abs(self._unscaled(values))


@dataclass(frozen=True, eq=False)
class RowGrid:
    """The grid of a matrix whose rows have scales: its lowest and highest level, ``count`` apart, or that of 1 in a ``table``.

    A level is a matrix of the same shape that has one code everywhere.
    """

    name: str
    bits: float
    levels: tuple[Matrix, ...]
    count: int = 0
    from_low: bool = False
    table: np.ndarray | None = None
    scale_error: float = SCALE_ERROR

    def rows(self, ids: np.ndarray) -> RowGrid:
        """The grid of these rows, in their order."""
        return replace(self, levels=tuple(GatheredMatrix(level, ids) for level in self.levels))

    def steps(self, start: int, stop: int) -> Steps:
        found = [level.block(start, stop) for level in self.levels]
        if self.table is not None:
            return TableSteps(self.table, found[0])
        return EvenSteps(found[0], found[1], self.count, self.from_low, self.scale_error)


def _to_float16(values: np.ndarray) -> np.ndarray:
    """Each rounded to the nearest float16, as float32. The largest stands for what is larger, as there is no infinity in a
    matrix that can be tested."""
    most = float(np.finfo(np.float16).max)
    return np.clip(values, -most, most).astype(np.float16).astype(np.float32)


_ROUNDED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float64": lambda values: values,
    "float32": lambda values: values.astype(np.float32, copy=False),
    "float16": _to_float16,
    "bfloat16": to_bfloat16,
}


def _half_step(values: np.ndarray, dtype: str) -> np.ndarray | float:
    """Half of the distance to a float's next value, float32. 0 for the wide ones: no coarser grid tells them from what was
    rounded to them."""
    if dtype == "bfloat16":
        _, exponent = np.frexp(values.astype(np.float32, copy=False))  # a value of 8 bits below 2 ** exponent
        return np.ldexp(np.float32(1), exponent - 9)
    if dtype == "float16":
        return np.spacing(np.abs(_to_float16(values)).astype(np.float16)).astype(np.float32) / 2
    return 0.0

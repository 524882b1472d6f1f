"""Two matrices of different storage, brought to the values that both can hold, so that rounding is not taken for training.

The finer side is rounded to the coarser's grid, a block's own where it is quantized: what has become of the coarser side by
rounding alone is then the same number again. Where the finer side was rounded itself, or a block's scale was, a value may have
come from either side of the middle between two of the grid: there the coarser side's own counts, if it is one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ks_core.checkpoints.gguf_file import QuantizedMatrix
from ks_core.checkpoints.matrices import GatheredMatrix, Matrix, blocks, to_floats
from ks_core.checkpoints.readers.scaled import ScaledMatrix
from ks_core.checkpoints.storage import ggml, scaled
from ks_core.checkpoints.storage.grids import FLOATS, FloatGrid, Grid, RowGrid

#: Bytes of float32 that are rounded in one go, so that what is made of them on the way stays in the processor's cache.
_AT_ONCE = 2 << 20
#: Two floats of which neither holds what the other does: bfloat16 reaches further, float16 has finer steps.
_APART = {"F16", "BF16"}


@dataclass(frozen=True)
class RoundedMatrix:
    """A matrix rounded to a grid, float32. ``partner``: the coarser side, which has these values where they may be its own."""

    matrix: Matrix
    grid: Grid
    partner: Matrix | None = None
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @cached_property
    def _own(self) -> Grid:
        return of(self.matrix)

    def block(self, start: int, stop: int) -> np.ndarray:
        width = self.shape[1]
        parts = [self._part(start + low, start + high) for low, high in blocks(stop - start, 4 * width, _AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, width), np.float32)

    def _part(self, start: int, stop: int) -> np.ndarray:
        wide = "float64" if self.matrix.dtype == "float64" else "float32"
        values = to_floats(self.matrix.block(start, stop), self.matrix.dtype, wide)
        with np.errstate(all="ignore"):  # what is no number stays none, and the test says which row it is
            steps = self.grid.steps(start, stop)
            index = steps.index(values)
            found = steps.value(index)
            if self.partner is not None:
                other = to_floats(self.partner.block(start, stop), self.partner.dtype)
                around = steps.slack(values) + self._own.steps(start, stop).reach(values)
                ends = steps.index(values - around), steps.index(values + around)
                own = steps.index(other)
                found = np.where((np.minimum(*ends) <= own) & (own <= np.maximum(*ends)), other, found)
            return np.where(np.isfinite(values), found, values).astype(np.float32, copy=False)


def of(matrix: Matrix) -> Grid:
    """The grid of a matrix. What an adapter lays over one does not change it: the other rows are as they were.

    Raises ``PairError`` for a quantized type whose values cannot be told one by one.
    """
    if isinstance(matrix, GatheredMatrix):
        found = of(matrix.base)
        return found.rows(matrix.ids) if isinstance(found, RowGrid) else found
    if isinstance(matrix, QuantizedMatrix):
        return ggml.grid(matrix)
    if isinstance(matrix, ScaledMatrix):
        return scaled.grid(matrix)
    below = getattr(matrix, "base", None)
    return of(below) if isinstance(below, Matrix) else FloatGrid((matrix.dtype,))


def name(matrix: Matrix) -> str:
    """What people call the storage of a matrix: ``F32``, ``BF16``, ``Q4_0`` …"""
    below = getattr(matrix, "base", None)
    if isinstance(matrix, QuantizedMatrix):
        return str(matrix.quantization.name)
    if isinstance(matrix, ScaledMatrix):
        return matrix.storage
    return name(below) if isinstance(below, Matrix) else FLOATS[matrix.dtype][0]


def described(before: Matrix, after: Matrix) -> str:
    """What is rounded before the test, in a few words; empty when both are stored alike.

    Raises ``PairError`` where rounding cannot be repeated.
    """
    if name(before) == name(after):
        return ""
    first, second = of(before), of(after)
    if {first.name, second.name} == _APART:
        return f"{first.name} and {second.name} to both"
    finer, coarser = (second, first) if _coarser(first, second) else (first, second)
    return f"{finer.name} to {coarser.name}"


def said(how: str) -> str:
    """The same in a sentence, with what follows from it. ``how`` is what ``described`` gives."""
    return f"Before the test the values are rounded, {how}: what rounding alone changed is not counted, nor a change that it hides."


def common(before: Matrix, after: Matrix) -> tuple[Matrix, Matrix]:
    """Both matrices as they are to be compared: themselves when they are stored alike, else the finer one rounded.

    They have the same rows in the same order. Raises ``PairError`` where rounding cannot be repeated.
    """
    if name(before) == name(after):
        return before, after
    first, second = of(before), of(after)
    if {first.name, second.name} == _APART:
        both = FloatGrid(("float16", "bfloat16"))
        if first.name == "F16":
            partner = RoundedMatrix(after, both)
            return RoundedMatrix(before, both, partner), partner
        partner = RoundedMatrix(before, both)
        return partner, RoundedMatrix(after, both, partner)
    if _coarser(first, second):
        return before, RoundedMatrix(after, first, before)
    return RoundedMatrix(before, second, after), after


def _coarser(first: Grid, second: Grid) -> bool:
    """Whether the first takes fewer bits a value. Of types of one size the later name counts as coarser."""
    return (first.bits, second.name) < (second.bits, first.name)

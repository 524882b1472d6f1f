"""Grids of small numbers with scales beside them: 8-bit floats, bitsandbytes in 8 bits, MLX (``readers.scaled``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ks_core.checkpoints.readers.scaled import ScaledMatrix, floats_of_bytes
from ks_core.checkpoints.storage.grids import RowGrid

#: The relative error of a scale of MLX, which is stored as the model was: bfloat16's.
MLX_SCALE_ERROR = 2.0**-9


@dataclass(frozen=True)
class Level:
    """A scaled matrix with one number in place of all that are stored: float32, and as wide."""

    scaled: ScaledMatrix
    number: int
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, int]:
        return self.scaled.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        raw = self.scaled.raw
        with np.errstate(all="ignore"):
            made = self.scaled.make(np.full((stop - start, raw.shape[1]), self.number, raw.storage.dtype), start)
        return made.astype(np.float32, copy=False)


def grid(matrix: ScaledMatrix) -> RowGrid:
    """The grid of a matrix that has scales."""
    name, stored = matrix.storage, matrix.raw.storage.dtype
    if stored.kind == "i":
        return RowGrid(name, 8, (Level(matrix, -127), Level(matrix, 127)), 255)
    if stored.itemsize > 1:
        bits = 8 * stored.itemsize * matrix.raw.shape[1] // matrix.shape[1]
        ends = Level(matrix, 0), Level(matrix, int(np.iinfo(stored).max))
        return RowGrid(name, bits, ends, 1 << bits, True, scale_error=MLX_SCALE_ERROR)
    values = floats_of_bytes(name)
    one = int(np.flatnonzero(values == 1)[0])
    return RowGrid(name, 8, (Level(matrix, one),), table=np.unique(values[np.isfinite(values)]))

"""Grids of ggml's quantized types: what values each block of a GGUF file's matrix can hold.

A block is a scale or two and a code for every value. Its grid is what dequantizing gives when all codes are exchanged for one
and the same: for the lowest and the highest where a type's values lie at equal distances, for that of 1 in a type's table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ks_core.checkpoints.gguf_file import QuantizedMatrix
from ks_core.checkpoints.storage.grids import RowGrid
from ks_core.errors import PairError


@dataclass(frozen=True)
class Codes:
    """Where in a block of a type the codes stand, how many there are, and the bytes that hold the lowest and the highest.

    ``from_low``: the lowest value is stored beside the scale.
    """

    start: int
    stop: int
    count: int
    lowest: int = 0x00
    highest: int = 0xFF
    from_low: bool = False


#: Types whose values lie at equal distances in a block (ggml-common.h has the layouts).
EVEN = {
    "Q8_0": Codes(2, 34, 256, 0x80, 0x7F), "Q5_0": Codes(2, 22, 32), "Q5_1": Codes(4, 24, 32, from_low=True), "Q4_0": Codes(2, 18, 16),
    "Q4_1": Codes(4, 20, 16, from_low=True), "Q6_K": Codes(0, 192, 64), "Q5_K": Codes(16, 176, 32, from_low=True), "Q4_K": Codes(16, 144, 16, from_low=True),
    "Q3_K": Codes(0, 96, 8), "Q2_K": Codes(16, 80, 4, from_low=True), "TQ1_0": Codes(0, 52, 3), "TQ2_0": Codes(0, 64, 3, 0x00, 0xAA),
}  # fmt: skip
#: Types with 16 values of a table, and the type that the gguf package has the table with. Both halves of a byte are codes.
TABLED = {
    "IQ4_NL": (Codes(2, 18, 16), "IQ4_NL"), "IQ4_XS": (Codes(8, 136, 16), "IQ4_NL"), "MXFP4": (Codes(1, 17, 16), "MXFP4"),
    "NVFP4": (Codes(4, 36, 16), "MXFP4"),
}  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A quantized matrix with one byte of codes in place of all: float32, and as wide."""

    quantized: QuantizedMatrix
    codes: Codes
    byte: int
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, int]:
        return self.quantized.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        from gguf import GGML_QUANT_SIZES
        from gguf.quants import dequantize

        kind = self.quantized.quantization
        raw = np.array(self.quantized.raw.block(start, stop))
        if len(raw):
            raw.reshape(len(raw), -1, GGML_QUANT_SIZES[kind][1])[:, :, self.codes.start : self.codes.stop] = self.byte
        with np.errstate(all="ignore"):
            return dequantize(raw, kind)


def grid(matrix: QuantizedMatrix) -> RowGrid:
    """The grid of a quantized matrix. Raises ``PairError`` for a type whose values cannot be told one by one (the codebooks of
    IQ1 to IQ3)."""
    from gguf import GGML_QUANT_SIZES, quants

    name = matrix.quantization.name
    per_block, block_bytes = GGML_QUANT_SIZES[matrix.quantization]
    bits = 8 * block_bytes / per_block
    if name in EVEN:
        codes = EVEN[name]
        ends = tuple(Level(matrix, codes, byte) for byte in (codes.lowest, codes.highest))
        return RowGrid(name, bits, ends, codes.count, from_low=codes.from_low)
    if name in TABLED:
        codes, holder = TABLED[name]
        table = getattr(quants, holder).kvalues
        one = Level(matrix, codes, 0x11 * table.index(1))
        return RowGrid(name, bits, (one,), table=np.array(sorted(set(table)), np.float32))
    raise PairError(
        f"One side is stored as {name}, the other is not. What rounding to {name} changes cannot be told from training here. "
        f"Quantize the other side to {name} too, or take the checkpoint from before it was quantized."
    )

"""Embeddings whose values are small numbers with scales beside them: 8-bit floats, bitsandbytes in 8 bits, MLX.

A value is what is stored times its scale (of the matrix, of its row, or of its block of 128 x 128), for MLX plus a bias. The
scales stand beside the matrix under names that its way of saving gives them; without them a matrix is left to the reader of
plain values, which refuses it by the name of its format. Known layouts:

    F8_E4M3, F8_E5M2    X.weight_scale (1,), (V,) or (V, 1); X.weight_scale_inv (ceil V/128, ceil d/128)
    I8                  X.SCB (V,): bitsandbytes, by which a row's largest value is 127
    U32                 X.scales and X.biases (V, d / group): MLX, 2 to 8 bits, packed from the lowest bit on
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ks_core.checkpoints import folders
from ks_core.checkpoints.matrices import MappedMatrix, check_shape, to_floats
from ks_core.checkpoints.safetensors_file import DTYPES, Tensor, matrix as plain
from ks_core.errors import CheckpointError, KSLotteryError
from ks_core.store import door

#: The formats of values that have scales, and how NumPy calls what is stored.
STORED = {"F8_E4M3": "u1", "F8_E5M2": "u1", "I8": "i1", "U32": "<u4"}
#: Values along an edge of a block that shares a scale, and in a group of MLX where nothing says how many.
BLOCK, GROUP = 128, 64


@dataclass(frozen=True)
class ScaledMatrix:
    """Rows of small numbers, made float32 as they are asked for.

    ``make(block, start)`` gives them their scales; ``storage`` is what people call how they are stored.
    """

    raw: MappedMatrix
    shape: tuple[int, int]
    make: Callable[[np.ndarray, int], np.ndarray]
    storage: str
    dtype: str = "float32"

    def block(self, start: int, stop: int) -> np.ndarray:
        # A scale may be anything, NaN too; the test says which row is no number.
        with np.errstate(all="ignore"):
            return self.make(np.asarray(self.raw.block(start, stop)), start).astype(np.float32, copy=False)


def embedding(path: Path, tensor: Tensor, beside: dict[str, Tensor]) -> ScaledMatrix | None:
    """The matrix; ``None`` for one that is stored plainly, or has no scales beside it.

    Raises ``CheckpointError`` for scales that do not fit.
    """
    if tensor.stored not in STORED or len(tensor.shape) != 2 or 0 in tensor.shape:
        return None
    stem = tensor.name.removesuffix("weight")
    if tensor.stored == "U32":
        return _mlx(path, tensor, beside, stem)
    rows, width = tensor.shape
    if tensor.stored == "I8":
        found = _scales(path, tensor, beside.get(stem + "SCB"), ((rows,), (rows, 1)))
        if found is None:
            return None
        scales = found.reshape(rows, 1) / np.float32(127)
        raw = _raw(path, tensor)
        return ScaledMatrix(raw, (rows, width), lambda b, i: b * scales[i : i + len(b)], "I8 (bitsandbytes)")
    table = floats_of_bytes(tensor.stored)
    blocks = (-(-rows // BLOCK), -(-width // BLOCK))
    names = [stem + "weight_scale", stem + "weight_scale_inv", stem + "scale"]
    beside_it = next((beside[n] for n in names if n in beside), None)
    found = _scales(path, tensor, beside_it, ((), (1,), (1, 1), (rows,), (rows, 1), blocks))
    if found is None:
        return None
    raw = _raw(path, tensor)
    if found.size == 1:
        one = found.reshape(())
        return ScaledMatrix(raw, (rows, width), lambda b, i: table[b] * one, tensor.stored)
    if found.size == rows and found.shape != blocks:
        by_row = found.reshape(rows, 1)
        return ScaledMatrix(raw, (rows, width), lambda b, i: table[b] * by_row[i : i + len(b)], tensor.stored)

    def in_blocks(block: np.ndarray, start: int) -> np.ndarray:
        lines = np.arange(start, start + len(block)) // BLOCK
        return table[block] * np.repeat(found[lines], BLOCK, axis=1)[:, :width]

    return ScaledMatrix(raw, (rows, width), in_blocks, tensor.stored)


def _mlx(path: Path, tensor: Tensor, beside: dict[str, Tensor], stem: str) -> ScaledMatrix | None:
    """A matrix of MLX: a row is a run of bits, ``bits`` a value, the lowest first."""
    about, biases = beside.get(stem + "scales"), beside.get(stem + "biases")
    if about is None or biases is None or len(about.shape) != 2 or 0 in about.shape:
        return None
    rows, words = tensor.shape
    group, said = GROUP, folders.read_json(path.parent, "config.json")
    settings = said.get("quantization") if isinstance(said, dict) else None
    if isinstance(settings, dict):
        own = settings.get(stem.removesuffix("."))  # one layer may have settings of its own
        group = (own if isinstance(own, dict) else settings).get("group_size", GROUP)
    if type(group) is not int or not 1 <= group <= 1024:
        raise CheckpointError(
            f"{path.parent / 'config.json'} says that {str(group)[:40]} values share a scale. Expected 32, 64 or 128."
        )
    width = about.shape[1] * group
    bits = words * 32 // width
    if bits * width != words * 32 or not 2 <= bits <= 8:
        raise CheckpointError(
            f"{tensor.name} in {path} has {words} words a row for {width} values, which MLX does not write. Expected 2 to 8 bits "
            "a value: put the config.json beside it that says how many values share a scale."
        )
    check_shape(path, rows, width)
    scales, low = (_scales(path, tensor, t, (about.shape,)) for t in (about, biases))
    if scales is None or low is None:
        return None
    weights = (1 << np.arange(bits)).astype(np.uint16)

    def unpacked(block: np.ndarray, start: int) -> np.ndarray:
        single = np.unpackbits(block.view(np.uint8), axis=1, bitorder="little").reshape(len(block), width, bits)
        values = (single @ weights).reshape(len(block), -1, group)
        part = slice(start, start + len(block))
        return (values * scales[part, :, None] + low[part, :, None]).reshape(len(block), width)

    return ScaledMatrix(_raw(path, tensor), (rows, width), unpacked, f"MLX, {bits} bits")


def _raw(path: Path, tensor: Tensor) -> MappedMatrix:
    """What is stored, as a matrix over a memory map."""
    dtype = np.dtype(STORED[tensor.stored])
    if tensor.stop - tensor.start != tensor.shape[0] * tensor.shape[1] * dtype.itemsize:
        raise CheckpointError(
            f"{path} is damaged: {tensor.name} has not the bytes of its shape. Download or save it again."
        )
    try:
        with door.open_file(path) as file:
            return MappedMatrix(np.memmap(file, dtype, "r", tensor.start, tensor.shape), "", path)
    except KSLotteryError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. It may have changed meanwhile; try again.") from None


def _scales(
    path: Path, tensor: Tensor, scales: Tensor | None, shapes: tuple[tuple[int, ...], ...]
) -> np.ndarray | None:
    """The scales as float32 in their shape; ``None`` where there are none. Raises ``CheckpointError`` where they do not fit."""
    if scales is None:
        return None
    if scales.shape not in shapes or scales.stored not in DTYPES:
        raise CheckpointError(
            f"{scales.name} in {path} is {scales.stored} of {list(scales.shape)}, and no scale of {tensor.name} "
            f"({list(tensor.shape)}). Convert the checkpoint to bfloat16 first."
        )
    rows = scales.shape[0] if len(scales.shape) == 2 else 1
    count = int(np.prod(scales.shape, dtype=np.int64))
    flat = plain(path, Tensor(scales.name, scales.stored, (rows, count // rows), scales.start, scales.stop))
    return np.array(to_floats(flat.block(0, rows), flat.dtype)).reshape(scales.shape)


def floats_of_bytes(stored: str) -> np.ndarray:
    """The float32 of every byte, (256,): OCP's E4M3, which has no infinity, or E5M2, the upper half of a float16.

    >>> [float(floats_of_bytes("F8_E4M3")[b]) for b in (0x01, 0x38, 0x7E, 0xB8)]
    [0.001953125, 1.0, 448.0, -1.0]
    """
    codes = np.arange(256, dtype=np.uint16)
    if stored == "F8_E5M2":
        return (codes << 8).view(np.float16).astype(np.float32)
    exponent, mantissa = (codes >> 3 & 15).astype(np.int32), (codes & 7).astype(np.float32)
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * np.exp2(exponent - 7.0))
    size = np.where(codes & 127 == 127, np.nan, size)
    return np.where(codes & 128, -size, size).astype(np.float32)

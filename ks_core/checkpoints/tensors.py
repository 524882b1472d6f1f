"""A checkpoint's tensors, each as a matrix: what the scan of layers compares, adapters merged on the fly.

A vector is a matrix of one row, and further dimensions are laid flat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ks_core.checkpoints import adapters, hashes, opening, safetensors_file
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import ArrayMatrix, Matrix
from ks_core.checkpoints.safetensors_file import Tensor
from ks_core.errors import CheckpointError, PairError


@dataclass(frozen=True)
class Tensors:
    """One checkpoint's tensors: where each lies, and how an adapter changes it."""

    checkpoint: Checkpoint
    files: dict[str, tuple[Path, Tensor]]
    low_rank: dict[str, tuple[np.ndarray, np.ndarray, float]] = field(default_factory=dict)

    def matrix(self, name: str) -> Matrix:
        """A tensor as it is after an adapter. Raises ``PairError`` for an adapter of another shape."""
        path, tensor = self.files[name]
        plain = _flat(path, tensor)
        if name in self.low_rank:
            left, right, scaling = self.low_rank[name]
            if (len(left), right.shape[1]) != plain.shape:
                raise PairError(
                    f"The adapter's change of {name} is {len(left)} x {right.shape[1]}, the weight {plain.shape[0]} "
                    f"x {plain.shape[1]}. It was made for another model."
                )
            return adapters.LowRankMatrix(plain, left, right, scaling)
        if self.checkpoint.base is not None and name == self.checkpoint.tensor:
            return self.checkpoint.matrix
        return plain

    def content_hash(self, name: str) -> str:
        """What tells this tensor's values from all others."""
        if self.checkpoint.base is not None and name == self.checkpoint.tensor and name not in self.low_rank:
            return self.checkpoint.content_hash  # an adapter's rows are in no file of the base
        path, _ = self.files[name]
        matrix = self.matrix(name)
        if isinstance(matrix, adapters.LowRankMatrix):
            below = hashes.of_matrix(matrix.base, path, name)
            return hashes.combine(below, *matrix.parts)
        return hashes.of_matrix(matrix, path, name)


def open_tensors(source: str) -> Tensors:
    """The tensors of a source, as ``open_checkpoint`` takes it.

    Raises ``CheckpointError`` for one that is not stored as safetensors, and for an adapter on an adapter.
    """
    checkpoint = opening.open_checkpoint(source)
    if checkpoint.base is None:
        return Tensors(checkpoint, _files(checkpoint))
    if checkpoint.base.base is not None:
        raise CheckpointError(f"{source} is an adapter on an adapter. Merge them first to scan its layers.")
    return Tensors(checkpoint, _files(checkpoint.base), adapters.low_rank_weights(checkpoint.path))


def _files(checkpoint: Checkpoint) -> dict[str, tuple[Path, Tensor]]:
    """Every tensor of a safetensors checkpoint, file by file and in the order of the bytes."""
    if checkpoint.file is None or checkpoint.file.suffix != ".safetensors":
        raise CheckpointError(
            f"{checkpoint.label} is not stored as safetensors ({checkpoint.kind}). Its layers cannot be "
            "scanned; save it with transformers first."
        )
    found: dict[str, tuple[Path, Tensor]] = {}
    for path in opening.weight_files(checkpoint):
        ordered = sorted(safetensors_file.tensors(path).values(), key=lambda t: t.start)
        found |= {t.name: (path, t) for t in ordered}
    return found


def why_apart(before: Tensors, after: Tensors, name: str) -> str:
    """Why the two sides' tensors of a name cannot be compared; empty when they can."""
    if found := _unfit(before.files[name][1], after.files[name][1]):
        return found
    shapes = [list(side.matrix(name).shape) for side in (before, after)]
    # An adapter may bring an embedding of more rows.
    return f"{shapes[0]} before, {shapes[1]} after" if shapes[0] != shapes[1] else ""


def _unfit(before: Tensor, after: Tensor) -> str:
    """Why two tensors of a name cannot be compared; empty when they can."""
    for tensor in (before, after):
        if tensor.stored not in safetensors_file.DTYPES:
            return f"stored as {tensor.stored}"
    if before.shape != after.shape:
        return f"{list(before.shape)} before, {list(after.shape)} after"
    return "it is empty" if 0 in before.shape else ""


def _flat(path: Path, tensor: Tensor) -> ArrayMatrix:
    """Any tensor as a matrix: a vector is one row, further dimensions are laid flat."""
    shape = tensor.shape
    rows = 1 if len(shape) < 2 else shape[0]
    count = int(np.prod(shape, dtype=np.int64))
    flat = (rows, count // rows if rows else 0)
    return safetensors_file.matrix(path, Tensor(tensor.name, tensor.stored, flat, tensor.start, tensor.stop))

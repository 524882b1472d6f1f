"""The same test over every row of every tensor: which layers did fine-tuning shift, and not only which tokens?

Tensors are taken one at a time, in the order in which they lie on disk, and each one's result is kept in
the cache as soon as it is there, under the content of its two sides. So a cancelled scan goes on where it
stopped, and a tensor that a tuning did not touch costs one pass of hashing and no test.

A matrix is tested row by row, a vector (a norm's weight, a bias) as one row, a tensor of more dimensions
with its last ones laid flat. A LoRA is merged on the fly.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core import adapters, checkpoints, hashes, safetensors_file
from ks_core.cache import Cache
from ks_core.checkpoints import Checkpoint
from ks_core.errors import CheckpointError, PairError
from ks_core.ks import ks_test, pvalue_table
from ks_core.matrices import ArrayMatrix, Matrix
from ks_core.safetensors_file import Tensor
from ks_core.signature import Signature, versions

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.job_process import Running

VERSION = 1
Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class TensorResult:
    """The test of one tensor. Only how often each k occurs is kept: every figure follows from it.

    ``k`` int32 (m,) the distinct values of D * dim, ascending, and ``rows_at`` int64 (m,) how many rows
    have each. ``layer`` is the first number in the name, ``module`` the name without it.
    """

    name: str
    rows: int
    dim: int
    bytes: int
    k: np.ndarray
    rows_at: np.ndarray

    @property
    def layer(self) -> int | None:
        found = re.search(r"(?:^|\.)(\d+)\.", self.name)
        return int(found[1]) if found else None

    @property
    def module(self) -> str:
        found = re.match(r"(?:(?:.*?)\.)?(?:\d+)\.(.*)", self.name)
        return found[1] if found else self.name

    @property
    def largest(self) -> float:
        """The largest D."""
        return float(self.k[-1]) / self.dim

    def share(self, alpha: float) -> float:
        """The share of rows with p < alpha."""
        return float(self.rows_at[pvalue_table(self.dim)[self.k] < alpha].sum() / self.rows)

    def changed(self) -> float:
        """The share of rows with D > 0."""
        return float(self.rows_at[self.k > 0].sum() / self.rows)

    def quantile(self, q: float) -> float:
        """The q-quantile of D over the rows (the smallest D that at least that share does not pass)."""
        at = np.searchsorted(np.cumsum(self.rows_at), q * self.rows, side="left")
        return float(self.k[min(int(at), len(self.k) - 1)]) / self.dim


@dataclass(frozen=True)
class LayerScan:
    """All tensors of a pair, in the order of the base's file, and what could not be compared."""

    tensors: list[TensorResult]
    left_out: list[str]
    signature: Signature
    seconds: float
    #: How many tensors were answered by the cache or by equal hashes.
    reused: int = 0


@dataclass(frozen=True)
class _Side:
    """One checkpoint's tensors: where each lies, and how an adapter changes it."""

    checkpoint: Checkpoint
    files: dict[str, tuple[Path, Tensor]]
    low_rank: dict[str, tuple[np.ndarray, np.ndarray, float]] = field(default_factory=dict)

    def matrix(self, name: str) -> Matrix:
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
        if self.checkpoint.base is not None and name == self.checkpoint.tensor and name not in self.low_rank:
            return self.checkpoint.content_hash  # an adapter's rows are in no file of the base
        path, _ = self.files[name]
        matrix = self.matrix(name)
        if isinstance(matrix, adapters.LowRankMatrix):
            below = hashes.of_matrix(matrix.base, path, name)
            return hashes.combine(below, *matrix.parts)
        return hashes.of_matrix(matrix, path, name)


def scan_layers(
    base: str,
    tuned: str,
    *,
    device: str = "auto",
    cache: Cache | None = None,
    report: Report = lambda *_: None,
) -> LayerScan:
    """Test every tensor that both checkpoints have.

    ``report(bytes_done, bytes, tensor)`` is called on the way and may raise ``Cancelled``. Raises
    ``CheckpointError`` where a checkpoint is not stored as safetensors or holds NaN.
    """
    started = time.perf_counter()
    cache = cache or Cache()
    before, after = _side(base), _side(tuned)
    shared = [name for name in before.files if name in after.files]
    if not shared:
        raise PairError(
            f"{before.checkpoint.label} and {after.checkpoint.label} share no tensor name. Expected a checkpoint "
            "and its own fine-tuning."
        )
    left_out = [
        f"{name}: only in {side.checkpoint.label}"
        for side, other in ((before, after), (after, before))
        for name in side.files
        if name not in other.files
    ]
    total = sum(before.files[name][1].stop - before.files[name][1].start for name in shared)
    done, reused = 0, 0
    results: list[TensorResult] = []
    for name in shared:
        size = before.files[name][1].stop - before.files[name][1].start
        report(done, total, name)
        reason = _unfit(before.files[name][1], after.files[name][1])
        shapes = [] if reason else [list(side.matrix(name).shape) for side in (before, after)]
        if shapes and shapes[0] != shapes[1]:  # an adapter may bring an embedding of more rows
            reason = f"{shapes[0]} before, {shapes[1]} after"
        if reason:
            left_out.append(f"{name}: {reason}")
        else:
            found, known = _tensor(
                cache,
                before,
                after,
                name,
                size,
                device,
                partial(_within, report, done, size, total, name),
            )
            results.append(found)
            reused += known
        done += size
    report(total, total, "done")
    signature = Signature({
        "base": f"{before.checkpoint.label}@{before.checkpoint.content_hash[:12]}",
        "tuned": f"{after.checkpoint.label}@{after.checkpoint.content_hash[:12]}",
        "test": "ks_2samp two-sided exact, every tensor", "tensors": len(results), **versions("numpy")})  # fmt: skip
    return LayerScan(results, left_out, signature, time.perf_counter() - started, reused)


def _within(report: Report, done: int, size: int, total: int, name: str, rows_done: int, rows: int) -> None:
    """Progress inside one tensor, in bytes of all."""
    report(done + size * rows_done / rows, total, name)


def _tensor(
    cache: Cache,
    before: _Side,
    after: _Side,
    name: str,
    size: int,
    device: str,
    progress: Callable[[int, int], None],
) -> tuple[TensorResult, bool]:
    """The result of one tensor, and whether nothing had to be tested for it."""
    hash_before, hash_after = before.content_hash(name), after.content_hash(name)
    first = before.matrix(name)
    rows, dim = first.shape
    if hash_before == hash_after:
        return TensorResult(name, rows, dim, size, np.zeros(1, np.int32), np.array([rows])), True
    key = {"before": hash_before, "after": hash_after, "version": VERSION}
    entry = cache.load("layer", key)
    if entry is not None:
        return TensorResult(name, rows, dim, size, entry.arrays["k"], entry.arrays["rows_at"]), True
    try:
        result = ks_test(first, after.matrix(name), device, progress=progress)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from None
    k, rows_at = np.unique(result.counts, return_counts=True)
    cache.store("layer", key, {"k": k, "rows_at": rows_at}, {"name": name})
    return TensorResult(name, rows, dim, size, k, rows_at), False


def _side(source: str) -> _Side:
    checkpoint = checkpoints.open_checkpoint(source)
    if checkpoint.base is None:
        return _Side(checkpoint, _files(checkpoint))
    if checkpoint.base.base is not None:
        raise CheckpointError(f"{source} is an adapter on an adapter. Merge them first to scan its layers.")
    return _Side(checkpoint, _files(checkpoint.base), adapters.low_rank_weights(checkpoint.path))


def _files(checkpoint: Checkpoint) -> dict[str, tuple[Path, Tensor]]:
    """Every tensor of a safetensors checkpoint, file by file and in the order of the bytes."""
    if checkpoint.file is None or checkpoint.file.suffix != ".safetensors":
        raise CheckpointError(
            f"{checkpoint.label} is not stored as safetensors ({checkpoint.kind}). Its layers cannot be "
            "scanned; save it with transformers first."
        )
    found: dict[str, tuple[Path, Tensor]] = {}
    for path in checkpoints.weight_files(checkpoint):
        ordered = sorted(safetensors_file.tensors(path).values(), key=lambda t: t.start)
        found |= {t.name: (path, t) for t in ordered}
    return found


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


def table(scan: LayerScan, alpha: float) -> pd.DataFrame:
    """A row per tensor: name, layer, module, rows, values per row, share of rows that changed and with p < alpha,
    largest D, and the median and 99% quantile of D."""
    import pandas as pd

    return pd.DataFrame([
        {"tensor": t.name, "layer": t.layer, "module": t.module, "rows": t.rows, "dim": t.dim, "changed": t.changed(),
         "share_below_alpha": t.share(alpha), "largest_D": t.largest, "median_D": t.quantile(0.5), "q99_D": t.quantile(0.99)}
        for t in scan.tensors
    ]).astype({"layer": "Int64"})  # fmt: skip


def run_layers(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``layers``: fill the cache, tensor by tensor."""
    scan = scan_layers(
        parameters["base"],
        parameters["tuned"],
        device=parameters.get("device", "auto"),
        report=lambda done, total, name: running.progress(done / 1e6, total / 1e6, name, unit="MB", stage="layers"),
    )
    return {"tensors": len(scan.tensors), "seconds": scan.seconds, "reused": scan.reused}

"""The two-sample Kolmogorov-Smirnov test of every row of a matrix against the same row of another.

Both samples of a row are its d values, before and after, so the statistic is D = k/d for an integer k and
the exact two-sided p-value depends on k and d alone:

    P(D >= k/d) = 2 * sum over j >= 1 of (-1)^(j-1) * C(2d, d - j*k) / C(2d, d)

(Gnedenko and Korolyuk, 1951; the case of equal sizes in ``scipy.stats.ks_2samp(method="exact")``.) One
table of d + 1 entries serves the whole vocabulary.

    >>> before = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    >>> result = ks_test(before, before + 1)
    >>> result.statistic, result.pvalue.round(4)
    (array([1.]), array([0.0286]))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ks_core.checkpoints.matrices import FLOATS, ArrayMatrix, Matrix, blocks, to_floats, widest
from ks_core.errors import CheckpointError, PairError, SettingsError
from ks_core.ks.kernels.kernel import fastest, kernel_of
from ks_core.store import stopwatch

#: Bytes of one matrix that are looked at in one go.
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class KSResult:
    """The test of V rows of d values.

    ``counts`` int32 (V,), the integers k; ``statistic`` float64 (V,), D = k/d; ``pvalue`` float64 (V,),
    exact and two-sided; ``dim`` is d. With the shift asked for, ``l2`` float64 (V,) is the Euclidean
    length of after - before and ``cosine`` float64 (V,) the cosine between the rows (1 for equal rows, 0
    when one is all zeros). ``device`` ran the test; ``note`` says in a sentence when it was not the one wished.
    """

    counts: np.ndarray
    dim: int
    device: str
    note: str | None = None
    l2: np.ndarray | None = None
    cosine: np.ndarray | None = None

    @property
    def statistic(self) -> np.ndarray:
        return self.counts / self.dim

    @property
    def pvalue(self) -> np.ndarray:
        return pvalue_table(self.dim)[self.counts]


def ks_test(
    before: Any,
    after: Any,
    device: str = "auto",
    *,
    with_shift: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> KSResult:
    """Test every row of ``before`` against the same row of ``after``, both (V, d).

    Takes NumPy arrays or torch tensors of float16, bfloat16 (tensors), float32 or float64, or
    ``ks_core.checkpoints.matrices.Matrix`` objects, which are read a chunk of ``chunk_bytes`` at a time. Different
    dtypes are compared in the narrowest that holds both. Ties count as in ``scipy.stats.ks_2samp``; -0.0
    equals 0.0. ``device`` is ``auto`` (the CPU, see ``ks_core.ks.kernels.kernel.fastest``), ``cuda``, ``mps``, ``cpu`` or
    ``torch:cpu`` (the torch kernel on the CPU). ``progress(rows_done, rows)`` is called after each chunk and may raise ``Cancelled``.

    Raises ``PairError`` for shapes that cannot be compared, ``CheckpointError`` for NaN or infinity,
    ``SettingsError`` for a device that is not there.
    """
    first, second = as_matrix(before, "before"), as_matrix(after, "after")
    if first.shape != second.shape:
        raise PairError(
            f"The matrices are of different shape: {_by(first)} before, {_by(second)} after. "
            "Expected the same rows of the same width; match the vocabularies first."
        )
    rows, dim = first.shape
    if rows == 0 or dim == 0:
        raise PairError(
            f"The matrices are {_by(first)}: there is nothing to test. Expected at least one row of at least one value."
        )
    dtype = widest(first.dtype, second.dtype)
    with stopwatch.part("kernel"):
        kernel = kernel_of(fastest(device), dtype, dim)
    counts = np.empty(rows, np.int32)
    l2, cosine = np.empty(rows), np.empty(rows)
    for start, stop in blocks(rows, dim * (8 if dtype == "float64" else 4), chunk_bytes):
        with stopwatch.part("testing"):
            a, b = (_block(m, start, stop, dtype) for m in (first, second))
            counts[start:stop], l2[start:stop], cosine[start:stop], bad = kernel.count(a, b, dtype, with_shift)
        if bad.any():
            row = int(np.argmax(bad != 0))
            side = "before" if bad[row] == 1 else "after"
            raise CheckpointError(
                f"Row {start + row} {side} tuning holds NaN or infinity. A test needs finite "
                "numbers: the checkpoint is damaged, or its training diverged."
            )
        if progress:
            progress(stop, rows)
    return KSResult(counts, dim, kernel.device, kernel.note, *((l2, cosine) if with_shift else ()))


@lru_cache(maxsize=16)
def pvalue_table(dim: int) -> np.ndarray:
    """Exact two-sided p-values of D = 0/dim, 1/dim, ..., dim/dim: float64 (dim + 1,), read-only.

    With T(m) = C(2d, d - m) / C(2d, d), p(k) is 2 * (T(k) - T(2k) + T(3k) - ...). log T is summed in
    double-double arithmetic from T(m) / T(m - 1) = (d - m + 1) / (d + m). Where the alternating sum
    cancels much, p is near 1, so the absolute error of a few units in the sixteenth digit is also the
    relative one; where p is small, T(k) alone decides it. Values below the smallest double are 0.
    Raises ``SettingsError`` when ``dim`` is below 1.
    """
    if dim < 1:
        raise SettingsError(f"A row has {dim} values. Expected at least 1.")
    logs = np.empty(dim + 1)
    rest = np.empty(dim + 1)
    high = low = 0.0
    logs[0] = rest[0] = 0.0
    for m in range(1, dim + 1):
        term = math.log1p((1 - 2 * m) / (dim + m))
        total = high + term
        back = total - high
        low += (high - (total - back)) + (term - back)  # exactly what the addition lost (Knuth's two-sum)
        high = total
        logs[m], rest[m] = high, low
    with np.errstate(under="ignore"):
        ratios = np.exp(logs) * np.exp(rest)
    table = np.zeros(dim + 1)
    for j in range(1, dim + 1):
        if ratios[j] == 0:
            break
        upto = dim // j
        table[1 : upto + 1] += (1 if j % 2 else -1) * ratios[j : j * upto + 1 : j]
    # Rounding may leave a step upwards of a unit in the last digit where p is 1 to all digits.
    table[0] = 0.5  # P(D >= 0) = 1
    table = np.minimum.accumulate(np.clip(2 * table, 0.0, 1.0))
    table.setflags(write=False)
    return table


def exact_pvalue(statistic: Any, dim: int) -> Any:
    """The exact two-sided p-value of a KS statistic D = k/dim: a float, or float64 of D's shape.

    Raises ``SettingsError`` when a D is outside [0, 1] or no multiple of 1/dim.
    """
    table = pvalue_table(dim)
    scaled = np.asarray(statistic, dtype=np.float64) * dim
    k = np.rint(scaled)
    with np.errstate(invalid="ignore"):  # NaN and infinity fail the comparisons
        wrong = ~((k >= 0) & (k <= dim) & (np.abs(scaled - k) < 1e-6))
    if wrong.any():
        raise SettingsError(
            f"D = {np.asarray(statistic)[wrong].flat[0]!r} cannot come from rows of {dim} values. "
            f"Expected a multiple of 1/{dim} between 0 and 1."
        )
    found = table[k.astype(np.int64)]
    return float(found) if np.ndim(statistic) == 0 else found


def critical_value(dim: int, alpha: float) -> float:
    """The smallest D on the lattice k/dim whose exact p-value is below ``alpha``.

    ``inf`` when there is none: with so few values no D rejects at this alpha (at d = 3 even D = 1 has
    p = 0.1). Raises ``SettingsError`` when ``alpha`` is not inside (0, 1).
    """
    _check_alpha(alpha)
    passing = np.nonzero(pvalue_table(dim) < alpha)[0]
    return int(passing[0]) / dim if len(passing) else math.inf


def asymptotic_critical_value(dim: int, alpha: float) -> float:
    """The large-sample critical value sqrt(-ln(alpha/2) / 2) * sqrt(2/dim) (Smirnov, 1939)."""
    _check_alpha(alpha)
    if dim < 1:
        raise SettingsError(f"A row has {dim} values. Expected at least 1.")
    return math.sqrt(-math.log(alpha / 2) / 2) * math.sqrt(2 / dim)


def _check_alpha(alpha: float) -> None:
    if not (isinstance(alpha, (int, float, np.floating)) and 0 < alpha < 1):
        raise SettingsError(f"alpha is {alpha}. Expected a number above 0 and below 1, such as 0.05.")


def as_matrix(given: Any, side: str) -> Matrix:
    """An array, a tensor or a matrix as a matrix. Tensors are recognised without importing torch."""
    if isinstance(given, Matrix) and not isinstance(given, np.ndarray) and isinstance(given.dtype, str):
        return given
    found = getattr(given, "dtype", "")
    dtype = found.name if isinstance(found, np.dtype) else str(found).removeprefix("torch.")
    if dtype not in FLOATS:
        raise PairError(
            f"The matrix {side} tuning holds {dtype or type(given).__name__} values. Expected one of: "
            f"{', '.join(FLOATS)}."
        )
    if len(given.shape) != 2:
        raise PairError(
            f"The matrix {side} tuning has the shape {tuple(given.shape)}. Expected two dimensions, (tokens, values)."
        )
    if not isinstance(given, np.ndarray):
        tensor = given.detach().cpu()
        if dtype == "bfloat16":
            import torch

            return ArrayMatrix(tensor.contiguous().view(torch.int16).numpy().view(np.uint16), "bfloat16")
        given = tensor.numpy()
    return ArrayMatrix(given)


def _block(matrix: Matrix, start: int, stop: int, dtype: str) -> np.ndarray:
    """Rows as the kernels take them: contiguous, native byte order, 16-bit floats as uint16 bits."""
    block = matrix.block(start, stop)
    if matrix.dtype != dtype:
        return np.ascontiguousarray(to_floats(block, matrix.dtype, dtype))
    block = np.ascontiguousarray(block)
    if dtype in ("bfloat16", "float16"):
        return block.view(np.uint16)
    return block.astype(block.dtype.newbyteorder("="), copy=False)


def _by(matrix: Matrix) -> str:
    return f"{matrix.shape[0]:,} x {matrix.shape[1]:,}"

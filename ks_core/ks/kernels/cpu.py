"""The KS statistic of many rows on the CPU, without sorting a row.

For one row: spread the d values of each sample over buckets, in order, and count. At the edges of buckets
the gap between the two CDFs is then known exactly. Inside a bucket that holds ``na`` values of one sample
and ``nb`` of the other it cannot pass ``max(gap + na, nb - gap)`` with ``gap`` taken at the left edge. So
only the few buckets whose bound beats the best edge are opened: their values are gathered and ordered.
This is exact whatever the rounding of the bucket's number, because rounding keeps order: a larger value
never gets a lower bucket, and equal values get the same.

- float32 and float64 are spread evenly between plus and minus the largest absolute value; float16 too,
  as float32, a few rows at a time.
- bfloat16 is spread by its bits, read as an integer. A bucket is one value (except in the middle, which
  holds what is tiny), so ties cost nothing.
- A row that crowds into few buckets (one outlier, a band far from zero) is spread a second time over
  where a sample says that most of it lies.
- A large opened bucket is spread again, by order-preserving integer keys and over the range of keys that
  is really there, and so on: 11 bits a level, so three levels for float32, with the same bound at each.
  There is no cliff. Rows that are equal value by value are seen first and need no work.

A base that is compared again is counted again. Its part (largest value, buckets, counts) was measured at
2.0 of the 11.2 microseconds that a float32 row of 4,096 takes, and at 2.1 of 5.5 in bfloat16. That is the
most there is to save, and to keep it means to read back a bucket per value and a count per bucket: more
bytes than the row has. Besides, the spread depends on both rows.

Rows are shared out to threads, which run side by side because compiled code releases Python's lock. numba's
own ``prange`` would do it too, but some of its thread pools end the process when two threads of an app call
them at once. The counting is in ``counting``; how it gets compiled and loaded in ``machine_code``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from ks_core.jobs import devices
from ks_core.ks.kernels import machine_code
from ks_core.ks.kernels.machine_code import Function
from ks_core.ks.kernels.space import LANES, SHORT, Space

#: Values of one matrix in a piece of work for a thread, at most.
PIECE = 1 << 20
#: The work space of each thread, of the kind of rows that it counted last.
_own = threading.local()


class CPUKernel:
    """Counts rows on all the cores that this process may use, or on as many as ``NUMBA_NUM_THREADS`` says."""

    device = "cpu"
    note: str | None = None

    def __init__(self) -> None:
        self._threads = _threads()
        self._pool = ThreadPoolExecutor(self._threads)  # its threads start when needed, and end with it

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]:
        """D * d for every row of a block, and the shift where it is asked for.

        ``before`` and ``after`` (n, d) are of the same dtype, named by ``dtype``: ``float32`` or ``float64``
        arrays, or ``bfloat16`` and ``float16`` as ``uint16`` bits. Returns ``counts`` int32 (n,), ``l2``
        float64 (n,), ``cosine`` float64 (n,), and ``bad`` int8 (n,): 1 or 2 for a row that holds NaN or
        infinity before or after, whose other entries mean nothing.
        """
        n, d = before.shape
        ready(dtype, d)
        a, b = _sealed(before), _sealed(after)
        outputs = np.zeros(n, np.int32), np.zeros(n), np.ones(n), np.zeros(n, np.int8)
        step = max(1, min(PIECE // d, -(-n // (4 * self._threads))))

        def work(start: int) -> None:
            piece = slice(start, start + step)
            _rows(dtype, a[piece], b[piece], with_shift, *(x[piece] for x in outputs))

        # One thread takes pieces too: float16 is widened a piece at a time.
        list(self._pool.map(work, range(0, n, step)))
        return outputs


def ready(dtype: str, d: int) -> None:
    """Have what counts rows of ``d`` values loaded, or compiled where this processor has not yet met it: seconds, once."""
    if dtype == "float16":
        _widening()
    _counting("float32" if dtype == "float16" else dtype, d)


def _threads() -> int:
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(named) if named.isdecimal() and int(named) > 0 else devices.count("cpu")


def _counting(dtype: str, d: int) -> Function:
    kind = dtype if d <= SHORT else f"{dtype}-long"
    return machine_code.function(kind, partial(_counts_right, dtype, 300 if d <= SHORT else SHORT + 1))


def _widening() -> Function:
    return machine_code.function("halves", _widens_right)


def _rows(dtype: str, before: np.ndarray, after: np.ndarray, with_shift: bool, *outputs: np.ndarray) -> None:
    """Count rows in this thread, into ``outputs``."""
    if dtype == "float16":
        before, after, dtype = _widened(before), _widened(after), "float32"
    _WAYS[dtype](_counting(dtype, before.shape[1]), before, after, with_shift, *outputs)


def _floats(count: Function, before: np.ndarray, after: np.ndarray, with_shift: bool, *outputs: np.ndarray) -> None:
    n, d = before.shape
    double = before.dtype == np.float64
    kind, size, infinite = (np.uint64, 64, 0x7FF << 52) if double else (np.uint32, 32, 0xFF << 23)
    masks = np.array([(1 << size - 1) - 1, infinite, 1 << size - 1], kind)
    reach = np.empty(2, kind)
    space = _space(d, min(16384, max(4 * LANES, 2 * _power(d))), kind, before.dtype)
    count(
        before, after, before, after, n, d, space.width, with_shift, masks, reach, reach, *space.arguments(), *outputs
    )


def _bits(count: Function, before: np.ndarray, after: np.ndarray, with_shift: bool, *outputs: np.ndarray) -> None:
    # There are 128 values between a power of two and the next: 4 to 16 such steps have their own buckets.
    n, d = before.shape
    whole = np.empty((2, d), np.uint32)
    space = _space(d, min(4096, max(1024, 2 * _power(d))), np.uint16, np.uint16)
    count(before, after, n, d, space.width, with_shift, whole, whole, *space.arguments(), *outputs)


_WAYS: dict[str, Callable[..., None]] = {"float32": _floats, "float64": _floats, "bfloat16": _bits}


def _widened(halves: np.ndarray) -> np.ndarray:
    """A few rows of float16, given as uint16, as float32; NumPy's own way takes longer than the test."""
    floats = np.empty(halves.shape, np.float32)
    _widening()(halves, floats, floats, halves.size)
    return floats


def _space(d: int, width: int, key: Any, value: Any) -> Space:
    """This thread's work space; what the last row left in it does not matter."""
    found = getattr(_own, "space", None)
    if found is None or found.of != (d, width, np.dtype(key), np.dtype(value)):
        found = _own.space = Space(d, width, key, value)
    return found


def _counts_right(dtype: str, d: int, count: Function) -> bool:
    """Whether a compiled function counts some rows of ``d`` values as sorting them does: apart, near, with ties, and alike."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, d)).astype(np.float32)
    b = (a + np.array([[1], [0.01], [0], [0]]) * rng.standard_normal((4, d))).astype(np.float32)
    a[2], b[2] = np.round(2 * a[2]) / 2, np.round(2 * b[2] + 0.3) / 2
    if dtype == "bfloat16":
        stored = [(x.view(np.uint32) >> 16).astype(np.uint16) for x in (a, b)]
        a, b = ((x.astype(np.uint32) << 16).view(np.float32) for x in stored)
    else:
        stored = [x.astype(dtype) for x in (a, b)]
    counts, l2, cosine, bad = np.empty(4, np.int32), np.empty(4), np.empty(4), np.zeros(4, np.int8)
    _WAYS[dtype](count, *stored, True, counts, l2, cosine, bad)
    lengths = np.linalg.norm(np.subtract(b, a, dtype=np.float64), axis=1)
    for x, y, count_found in zip(a, b, counts, strict=True):
        places = np.concatenate([x, y])
        gaps = np.searchsorted(np.sort(x), places, "right") - np.searchsorted(np.sort(y), places, "right")
        if count_found != np.abs(gaps).max():
            return False
    return np.allclose(l2, lengths) and not bad.any()


def _widens_right(widen: Function) -> bool:
    halves = np.array([0.0, -0.0, 1.5, -65504, 6e-8, -3e-5], np.float16)
    floats = np.empty(halves.shape, np.float32)
    widen(halves, floats, floats, halves.size)
    return np.array_equal(floats.view(np.uint32), halves.astype(np.float32).view(np.uint32))


def _power(number: int) -> int:
    """The smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()


def _sealed(block: np.ndarray) -> np.ndarray:
    """Aligned and contiguous, as compiled code takes it."""
    return np.require(block, requirements=("C", "A")).view(np.ndarray)

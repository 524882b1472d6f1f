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
them at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import get_num_threads

from ks_core.ks.kernels import compiled

#: Values of one matrix in a piece of work for a thread, at most; each piece has work space of its own.
PIECE = 1 << 20


class CPUKernel:
    """Counts rows on all the cores that numba may use (``NUMBA_NUM_THREADS``, or those of the process)."""

    device = "cpu"
    note: str | None = None

    def __init__(self) -> None:
        self._threads = get_num_threads()
        self._pool = ThreadPoolExecutor(self._threads)  # its threads start when needed, and end with it

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]:
        """D * d for every row of a block, and the shift where it is asked for.

        ``before`` and ``after`` (n, d) are of the same dtype, named by ``dtype``: ``float32`` or ``float64``
        arrays, or ``bfloat16`` and ``float16`` as ``uint16`` bits. Returns ``counts`` int32 (n,), ``l2``
        float64 (n,), ``cosine`` float64 (n,), and ``bad`` int8 (n,): 1 or 2 for a row that holds NaN or
        infinity before or after, whose other entries mean nothing.
        """
        n, d = before.shape
        rows = _rows_of_bits if dtype == "bfloat16" else _rows_of_floats
        inputs = _sealed(before), _sealed(after)
        outputs = np.zeros(n, np.int32), np.zeros(n), np.ones(n), np.zeros(n, np.int8)
        step = max(1, min(PIECE // d, -(-n // (4 * self._threads))))

        def work(start: int) -> None:
            piece = slice(start, start + step)
            rows(dtype, *(x[piece] for x in inputs), with_shift, *(x[piece] for x in outputs))

        # One thread takes pieces too: float16 is widened a piece at a time.
        list(self._pool.map(work, range(0, n, step)))
        return outputs


def _rows_of_floats(dtype: str, before: np.ndarray, after: np.ndarray, *rest: Any) -> None:
    if dtype == "float16":
        before, after = _sealed(_widened(before)), _sealed(_widened(after))
    double = before.dtype == np.float64
    kind, size, infinite = (np.uint64, 64, 0x7FF << 52) if double else (np.uint32, 32, 0xFF << 23)
    masks = np.array([(1 << size - 1) - 1, infinite, 1 << size - 1], kind)
    reach = np.empty(2, kind)
    width = min(16384, max(64, 2 * _power(before.shape[1])))
    compiled.float_rows(
        before, after, before.view(kind), after.view(kind), masks, reach,
        reach.view(before.dtype), width, *rest,
    )  # fmt: skip


def _rows_of_bits(dtype: str, before: np.ndarray, after: np.ndarray, *rest: Any) -> None:
    # There are 128 values between a power of two and the next: 4 to 16 such steps have their own buckets.
    whole = np.empty((2, before.shape[1]), np.uint32)
    width = min(4096, max(1024, 2 * _power(before.shape[1])))
    compiled.brain_rows(before, after, whole.view(np.float32), whole, width, *rest)


def _widened(halves: np.ndarray) -> np.ndarray:
    """A few rows of float16, given as uint16, as float32; NumPy's own way takes longer than the test."""
    floats = np.empty(halves.shape, np.float32)
    compiled.widen_halves(halves, floats, floats.view(np.uint32))
    return floats


def _power(number: int) -> int:
    """The smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()


def _sealed(block: np.ndarray) -> np.ndarray:
    """Aligned, contiguous and read-only: one type for numba, so that it compiles once for each dtype."""
    view = np.require(block, requirements=("C", "A")).view(np.ndarray)
    view = view.view()
    view.flags.writeable = False
    return view

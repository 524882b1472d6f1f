"""The KS statistic of many rows on the CPU, without sorting a row.

For one row: spread the 2d values over equal-width buckets and count each sample per bucket. At the edges
of buckets the gap between the two CDFs is then known exactly. Inside a bucket that holds ``na`` values of
one sample and ``nb`` of the other the gap can pass the edges' only when both are there, and never beyond
``max(g + na, nb - g)`` with g the gap at its left edge. So only the few buckets whose bound beats the best
edge are gathered and ordered. This is exact whatever the rounding of the bucket index, because rounding
keeps order: a larger value never gets a smaller bucket, and equal values get the same.

Rows that defeat equal width (one outlier, a narrow band far from zero) put many values into one bucket;
such a bucket is ordered by a radix sort of its values' bits, which is linear, so there is no cliff. Rows
that are equal value by value are seen first and need no work.

Half of the counting is the base's, and a base met again could bring its counts along. It does not: the
bucket width comes from both rows, and kept counts would have to be read from memory at about the price of
counting again.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

#: Buckets that hold more values than this are sorted by radix, smaller ones by insertion.
SMALL = 40
RADIX_BITS = 11
RADIX = 1 << RADIX_BITS


@njit(cache=True, nogil=True)
def _largest_bits(bits, mask):
    """The largest absolute value of a row, as bits: non-finite values have the largest bits of all."""
    top = bits[0] & mask
    for i in range(bits.size):
        top = max(top, bits[i] & mask)
    return top


@njit(cache=True, nogil=True)
def _same(a, b):
    """Whether two rows are equal value by value (-0.0 equals 0.0)."""
    step = 64  # compared in short runs: most rows that differ do so at once
    for start in range(0, a.size, step):
        differing = 0
        for i in range(start, min(start + step, a.size)):
            differing += a[i] != b[i]
        if differing:
            return False
    return True


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _shift(a, b):
    """Length of b - a, and the cosine between a and b, summed in float64."""
    square, dot, aa, bb = 0.0, 0.0, 0.0, 0.0
    for i in range(a.size):
        x, y = np.float64(a[i]), np.float64(b[i])
        square += (y - x) * (y - x)
        dot += x * y
        aa += x * x
        bb += y * y
    return np.sqrt(square), dot / np.sqrt(aa) / np.sqrt(bb) if aa > 0 and bb > 0 else 0.0


@njit(cache=True, nogil=True)
def _keys(values, bits, keys, start, stop, top):
    """Order-preserving unsigned integers for values[start:stop]; -0.0 and 0.0 get the same."""
    for i in range(start, stop):
        key = bits[i]
        if values[i] == 0:
            keys[i] = top
        else:
            keys[i] = ~key if key & top else key | top
    return


@njit(cache=True, nogil=True)
def _radix_sort(keys, spare, start, stop, passes):
    """Sort keys[start:stop] in place; ``spare`` is of the same size."""
    counts = np.empty(RADIX, np.int64)
    source, target = keys, spare
    for p in range(passes):
        shift = np.uint64(p * RADIX_BITS)
        counts[:] = 0
        for i in range(start, stop):
            counts[(np.uint64(source[i]) >> shift) & np.uint64(RADIX - 1)] += 1
        total = start
        for c in range(RADIX):
            here = counts[c]
            counts[c] = total
            total += here
        for i in range(start, stop):
            digit = (np.uint64(source[i]) >> shift) & np.uint64(RADIX - 1)
            target[counts[digit]] = source[i]
            counts[digit] += 1
        source, target = target, source
    if passes % 2:
        for i in range(start, stop):
            keys[i] = spare[i]


@njit(cache=True, nogil=True)
def _walk(ka, a0, a1, kb, b0, b1, gap, best):
    """The largest absolute gap over two sorted runs, starting from ``gap``; ties step together."""
    while a0 < a1 or b0 < b1:
        if b0 == b1 or (a0 < a1 and ka[a0] <= kb[b0]):
            x = ka[a0]
        else:
            x = kb[b0]
        while a0 < a1 and ka[a0] == x:
            gap += 1
            a0 += 1
        while b0 < b1 and kb[b0] == x:
            gap -= 1
            b0 += 1
        best = max(best, abs(gap))
    return best


@njit(cache=True, nogil=True)
def _insert(values, start, stop):
    """Insertion sort of values[start:stop]."""
    for i in range(start + 1, stop):
        x = values[i]
        j = i
        while j > start and values[j - 1] > x:
            values[j] = values[j - 1]
            j -= 1
        values[j] = x


@njit(cache=True, nogil=True)
def _row(a, b, reach, slots_a, slots_b, table, marks, pool_a, pool_b, bits_a, bits_b, keys_a, keys_b, spare,
         found, top, passes):
    """D * d of one row. ``reach`` is the largest absolute value; the rest is scratch space."""
    d, width = a.size, table.size
    one = a.dtype.type(1)
    scale = one * width / (reach + reach)
    if not (scale > 0 and np.isfinite(scale) and np.isfinite(reach + reach)):
        # Values so large or so small that a bucket's width is no number: order the whole row.
        for i in range(d):
            pool_a[i] = a[i]
            pool_b[i] = b[i]
        _keys(pool_a, bits_a, keys_a, 0, d, top)
        _keys(pool_b, bits_b, keys_b, 0, d, top)
        _radix_sort(keys_a, spare, 0, d, passes)
        _radix_sort(keys_b, spare, 0, d, passes)
        return _walk(keys_a, 0, d, keys_b, 0, d, 0, 0)
    last = np.int32(width - 1)
    for i in range(d):
        slots_a[i] = min(np.int32((a[i] + reach) * scale), last)
    for i in range(d):
        slots_b[i] = min(np.int32((b[i] + reach) * scale), last)
    table[:] = 0
    for i in range(d):
        table[slots_a[i]] += 1
    for i in range(d):
        table[slots_b[i]] += 1 << 32
    gap, best, n = 0, 0, 0
    for t in range(width):
        na, nb = table[t] & 0xFFFFFFFF, table[t] >> 32
        if na and nb and max(gap + na, nb - gap) > best:
            found[n, 0], found[n, 1] = t, gap
            n += 1
        gap += na - nb
        best = max(best, abs(gap))
    # What beat the best edge so far may not beat the best of all.
    kept, at_a, at_b = 0, 0, 0
    for c in range(n):
        t, gap = found[c, 0], found[c, 1]
        na, nb = table[t] & 0xFFFFFFFF, table[t] >> 32
        if max(gap + na, nb - gap) > best:
            found[kept, 0], found[kept, 1], found[kept, 2], found[kept, 3] = t, gap, at_a, at_b
            at_a += na
            at_b += nb
            kept += 1
            marks[t] = kept
    if kept == 0:
        return best
    for i in range(d):
        c = marks[slots_a[i]]
        if c:
            pool_a[found[c - 1, 2]] = a[i]
            found[c - 1, 2] += 1
    for i in range(d):
        c = marks[slots_b[i]]
        if c:
            pool_b[found[c - 1, 3]] = b[i]
            found[c - 1, 3] += 1
    for c in range(kept):
        t, gap, a1, b1 = found[c, 0], found[c, 1], found[c, 2], found[c, 3]
        na, nb = table[t] & 0xFFFFFFFF, table[t] >> 32
        marks[t] = 0
        if max(gap + na, nb - gap) <= best:
            continue
        a0, b0 = a1 - na, b1 - nb
        if na + nb <= SMALL:
            _insert(pool_a, a0, a1)
            _insert(pool_b, b0, b1)
            best = _walk(pool_a, a0, a1, pool_b, b0, b1, gap, best)
        else:
            _keys(pool_a, bits_a, keys_a, a0, a1, top)
            _keys(pool_b, bits_b, keys_b, b0, b1, top)
            _radix_sort(keys_a, spare, a0, a1, passes)
            _radix_sort(keys_b, spare, b0, b1, passes)
            best = _walk(keys_a, a0, a1, keys_b, b0, b1, gap, best)
    return best


def _load(source, target, bits, brain):
    """Copy a row into ``target``; rows given as uint16 are 16-bit floats (bfloat16 if ``brain``).

    A bfloat16 is the upper half of its float32. A float16's exponent and fraction, moved into place,
    read as a float32 are the value times 2**-112, subnormals included; infinities and NaN are put right.
    """
    raise NotImplementedError("compiled code only")


@overload(_load)
def _compiled_load(source, target, bits, brain):
    if isinstance(source.dtype, types.Float):

        def copy(source, target, bits, brain):
            target[:] = source

        return copy

    def widen(source, target, bits, brain):
        n = source.size
        if brain:
            for i in range(n):
                bits[i] = np.uint32(source[i]) << np.uint32(16)
            return
        for i in range(n):
            bits[i] = np.uint32(source[i] & np.uint16(0x7FFF)) << np.uint32(13)
        for i in range(n):
            target[i] = target[i] * np.float32(5.192296858534828e33)
        for i in range(n):
            half = source[i]
            if half & np.uint16(0x7C00) == np.uint16(0x7C00):
                bits[i] = np.uint32(0x7F800000)
            bits[i] |= np.uint32(half & np.uint16(0x8000)) << np.uint32(16)

    return widen


@njit(cache=True, nogil=True, parallel=True)
def _rows(before, after, brain, like, width, mask, infinite, top, passes, with_shift, counts, l2, cosine, bad):
    """Counts for all rows of a block; ``bad`` takes 1 or 2 for a row that is not finite before or after.

    ``like`` is an empty array of the dtype that is computed in; ``mask``, ``infinite`` and ``top`` are its
    sign mask, the bits of infinity and the sign bit, each an array of one.
    """
    n, d = before.shape
    batch = max(1, min(64, n // 8))
    for part in prange((n + batch - 1) // batch):
        # Scratch space of one batch of rows; allocating it costs far less than the rows.
        wide_a, wide_b = np.empty(d, like.dtype), np.empty(d, like.dtype)
        wide_a_bits, wide_b_bits = wide_a.view(mask.dtype), wide_b.view(mask.dtype)
        bits_wide_a, bits_wide_b = wide_a.view(top.dtype), wide_b.view(top.dtype)
        pool_a, pool_b = np.empty(d, like.dtype), np.empty(d, like.dtype)
        bits_a, bits_b = pool_a.view(top.dtype), pool_b.view(top.dtype)
        keys_a, keys_b, spare = np.empty(d, top.dtype), np.empty(d, top.dtype), np.empty(d, top.dtype)
        slots_a, slots_b = np.empty(d, np.int32), np.empty(d, np.int32)
        table, marks = np.empty(width, np.int64), np.zeros(width, np.int32)
        found = np.empty((width, 4), np.int64)
        reach_bits = np.empty(1, mask.dtype)
        for r in range(part * batch, min(n, (part + 1) * batch)):
            _load(before[r], wide_a, bits_wide_a, brain)
            _load(after[r], wide_b, bits_wide_b, brain)
            largest_a = _largest_bits(wide_a_bits, mask[0])
            largest_b = _largest_bits(wide_b_bits, mask[0])
            if largest_a >= infinite[0] or largest_b >= infinite[0]:
                bad[r] = 1 if largest_a >= infinite[0] else 2
                continue
            if _same(wide_a, wide_b):
                counts[r], l2[r], cosine[r] = 0, 0.0, 1.0
                continue
            reach_bits[0] = max(largest_a, largest_b)
            reach = reach_bits.view(like.dtype)[0]
            counts[r] = _row(wide_a, wide_b, reach, slots_a, slots_b, table, marks, pool_a, pool_b, bits_a, bits_b,
                             keys_a, keys_b, spare, found, top[0], passes)
            if with_shift:
                l2[r], cosine[r] = _shift(wide_a, wide_b)



class CPUKernel:
    """Counts rows on all the cores that numba may use."""

    device = "cpu"
    note: str | None = None

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]:
        """D * d for every row of a block, and the shift where it is asked for.

        ``before`` and ``after`` (n, d) are of the same dtype, named by ``dtype``: ``float32`` or ``float64``
        arrays, or ``bfloat16`` and ``float16`` as ``uint16`` bits. Returns ``counts`` int32 (n,), ``l2``
        float64 (n,), ``cosine`` float64 (n,), and ``bad`` int8 (n,): 1 or 2 for a row that holds NaN or
        infinity before or after, whose other entries mean nothing.
        """
        n, d = before.shape
        double = dtype == "float64"
        like = np.empty(0, np.float64 if double else np.float32)
        signed, unsigned, size = (np.int64, np.uint64, 64) if double else (np.int32, np.uint32, 32)
        mask = np.array([(1 << (size - 1)) - 1], signed)
        infinite = np.array([0x7FF << 52 if double else 0xFF << 23], signed)
        top = np.array([1 << (size - 1)], unsigned)
        passes = -(-size // RADIX_BITS)
        width = bucket_count(d)
        counts, bad = np.zeros(n, np.int32), np.zeros(n, np.int8)
        l2, cosine = np.zeros(n), np.ones(n)
        _rows(before, after, dtype == "bfloat16", like, width, mask, infinite, top, passes, with_shift, counts, l2, cosine, bad)
        return counts, l2, cosine, bad


def bucket_count(dim: int) -> int:
    """How many buckets a row of ``dim`` values is spread over."""
    return int(min(8192, max(64, 1 << int(np.ceil(np.log2(2 * dim))))))

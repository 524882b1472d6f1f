"""The KS statistic of many rows on the CPU, without sorting a row.

For one row: spread the d values of each sample over equal-width buckets and count. At the edges of
buckets the gap between the two CDFs is then known exactly (here always as an integer, times d). Inside a
bucket that holds ``na`` values of one sample and ``nb`` of the other it cannot pass
``max(gap + na, nb - gap)`` with ``gap`` taken at the left edge. So only the few buckets whose bound beats
the best edge are opened: their values are gathered and ordered. This is exact whatever the rounding of the bucket index, because rounding keeps
order: a larger value never gets a lower bucket, and equal values get the same.

Rows that defeat equal width (one outlier, a band far from zero, values whose difference overflows) leave
many values in an opened bucket. Such a bucket is spread again, by order-preserving integer keys and over
the range of keys that is really there, and so on: 11 bits a level, so three levels for float32, with the
same bound at each. There is no cliff. Rows that are equal value by value are seen first and need no work.

A base that is compared again is counted again. Finding its buckets and counting is about 2.3 of the 15
microseconds that a pair of rows of 4,096 float32 takes on one core; to keep the counts and buckets instead
would take 24 KB a row, half as much again as the row itself, and the bucket width comes from both rows.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

#: Opened buckets of at most this many values are sorted by insertion, larger ones are spread again.
SMALL = 32
#: Buckets whose bounds are looked at as one before they are looked at singly.
RUN = 64
#: Bits of a key that one level of spreading resolves.
LEVEL_BITS = 11


@njit(cache=True, nogil=True)
def _largest(bits, mask):
    """The largest absolute value of a row, as bits: non-finite values have the largest bits of all."""
    top = bits[0] & mask
    for i in range(bits.size):
        top = max(top, bits[i] & mask)
    return top


@njit(cache=True, nogil=True)
def _same(a, b):
    """Whether two rows are equal value by value (-0.0 equals 0.0)."""
    step = 256  # in short runs: most rows that differ do so at once
    for start in range(0, a.size, step):
        x, y = a[start : start + step], b[start : start + step]
        differing = 0
        for i in range(x.size):
            differing += x[i] != y[i]
        if differing:
            return False
    return True


@njit(cache=True, nogil=True)
def _spread(values, reach, scale, slots):
    """The bucket of each value; the offset by ``reach`` makes it non-negative."""
    for i in range(values.size):
        slots[i] = np.int32((values[i] + reach) * scale)


@njit(cache=True, nogil=True)
def _key(bits, top):
    """An unsigned integer in the order of the floats; -0.0 and 0.0 get the same."""
    if bits == top:
        return top
    return ~bits if bits & top else bits | top


@njit(cache=True, nogil=True)
def _look_up(slots, place, cursor, bits, top, keys):
    """Append every value whose bucket is opened: ``place`` is its number from 1, 0 for the others."""
    for i in range(slots.size):
        p = place[slots[i]]
        if p:
            keys[cursor[p - 1]] = _key(bits[i], top)
            cursor[p - 1] += 1


@njit(cache=True, nogil=True)
def _insert(keys, start, stop):
    """Insertion sort of keys[start:stop]."""
    for i in range(start + 1, stop):
        x = keys[i]
        j = i
        while j > start and keys[j - 1] > x:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = x


@njit(cache=True, nogil=True)
def _walk(ka, a0, a1, kb, b0, b1, gap, best):
    """The largest absolute gap over two sorted runs, starting from ``gap``; ties step together."""
    while a0 < a1 and b0 < b1:  # once one side is used up the gap only moves towards the known right edge
        x = min(ka[a0], kb[b0])
        while a0 < a1 and ka[a0] == x:
            gap += 1
            a0 += 1
        while b0 < b1 and kb[b0] == x:
            gap -= 1
            b0 += 1
        best = max(best, abs(gap))
    return best


@njit(cache=True, nogil=True)
def _range(ka, a0, a1, kb, b0, b1):
    low = high = ka[a0]
    for i in range(a0, a1):
        low, high = min(low, ka[i]), max(high, ka[i])
    for i in range(b0, b1):
        low, high = min(low, kb[i]), max(high, kb[i])
    return np.uint64(low), np.uint64(high)


@njit(cache=True, nogil=True)
def _slot(key, low, shift):
    return np.int64((np.uint64(key) - low) >> shift)


@njit(cache=True, nogil=True)
def _gather(keys, start, stop, low, shift, cursor, spare):
    """Move the keys of opened buckets to where ``cursor`` says (below 0: not opened), grouped by bucket."""
    n = 0
    for i in range(start, stop):
        slot = _slot(keys[i], low, shift)
        at = cursor[slot]
        if at >= 0:
            spare[at] = keys[i]
            cursor[slot] = at + 1
            n += 1
    keys[start : start + n] = spare[:n]


@njit(cache=True, nogil=True)
def _refine(ka, kb, spare, stack, size, fine_a, fine_b, best):
    """The best gap once every bucket on the stack is searched.

    A line of ``stack`` is (a0, a1, b0, b1, gap): its keys are ka[a0:a1] and kb[b0:b1], both not empty.
    """
    while size:
        size -= 1
        a0, a1, b0, b1, gap = stack[size]
        if max(gap + a1 - a0, b1 - b0 - gap) <= best:
            continue
        if a1 - a0 + b1 - b0 <= SMALL:
            _insert(ka, a0, a1)
            _insert(kb, b0, b1)
            best = _walk(ka, a0, a1, kb, b0, b1, gap, best)
            continue
        low, high = _range(ka, a0, a1, kb, b0, b1)
        shift = np.uint64(0)
        while (high - low) >> shift >= np.uint64(1 << LEVEL_BITS):
            shift += np.uint64(1)
        width = _slot(high, low, shift) + 1
        fine_a[:width] = 0
        fine_b[:width] = 0
        for i in range(a0, a1):
            fine_a[_slot(ka[i], low, shift)] += 1
        for i in range(b0, b1):
            fine_b[_slot(kb[i], low, shift)] += 1
        edge = gap
        for t in range(width):
            edge += fine_a[t] - fine_b[t]
            best = max(best, abs(edge))
        if shift == 0:
            continue  # a bucket is one value: nothing can happen inside
        to_a = to_b = 0
        for t in range(width):
            na, nb = fine_a[t], fine_b[t]
            fine_a[t] = fine_b[t] = -1
            if na and nb and max(gap + na, nb - gap) > best:
                fine_a[t], fine_b[t] = to_a, to_b
                stack[size] = a0 + to_a, a0 + to_a + na, b0 + to_b, b0 + to_b + nb, gap
                size += 1
                to_a += na
                to_b += nb
            gap += na - nb
        if to_a:
            _gather(ka, a0, a1, low, shift, fine_a, spare)
            _gather(kb, b0, b1, low, shift, fine_b, spare)
    return best


@njit(cache=True, nogil=True)
def _edges(table_a, table_b, edges):
    """Fill in the gap at the left edge of every bucket; the largest absolute one."""
    gap = 0
    for t in range(edges.size):
        edges[t] = gap
        gap += table_a[t] - table_b[t]
    high = low = np.int32(0)  # in a loop of its own, which is vectorised
    for t in range(edges.size):
        high, low = np.int32(max(high, edges[t])), np.int32(min(low, edges[t]))
    return np.int64(max(high, -low))


@njit(cache=True, nogil=True)
def _beaten(table_a, table_b, edges, start, best):
    """Whether a bucket of this run can hold a gap above ``best``."""
    highest = np.int32(0)
    for i in range(RUN):
        t = np.uintp(start + i)  # a signed index could be negative, and the check would bar vectors
        above, below = np.int32(edges[t] + table_a[t]), np.int32(table_b[t] - edges[t])
        highest = np.int32(max(highest, max(above, below)))
    return highest > best


@njit(cache=True, nogil=True)
def _row(
    a,
    b,
    bits_a,
    bits_b,
    reach,
    top,
    slots_a,
    slots_b,
    table_a,
    table_b,
    edges,
    place,
    opened,
    cursor,
    ka,
    kb,
    spare,
    stack,
    fine_a,
    fine_b,
):
    """D * d of one row. ``reach`` is the largest absolute value; ``slots_a`` and after is scratch space."""
    d, width = a.size, table_a.size
    scale = a.dtype.type(width - 1) / (reach + reach)  # a little below width, so rounding stays inside
    if not (scale > 0 and np.isfinite(scale)):
        # So large or so small that a bucket has no width in floats: spread the keys from the start.
        for i in range(d):
            ka[i], kb[i] = _key(bits_a[i], top), _key(bits_b[i], top)
        stack[0] = 0, d, 0, d, 0
        return _refine(ka, kb, spare, stack, 1, fine_a, fine_b, 0)
    _spread(a, reach, scale, slots_a)
    _spread(b, reach, scale, slots_b)
    table_a[:] = 0
    table_b[:] = 0
    for i in range(d):
        table_a[slots_a[i]] += 1  # two tables: a tuned value often meets its base's bucket, and would wait
        table_b[slots_b[i]] += 1
    best = _edges(table_a, table_b, edges)
    size, at_a, at_b = np.int64(0), np.int64(0), np.int64(0)
    for start in range(0, width, RUN):
        if not _beaten(table_a, table_b, edges, start, best):
            continue
        for t in range(start, start + RUN):
            na, nb, edge = np.int64(table_a[t]), np.int64(table_b[t]), np.int64(edges[t])
            if max(edge + na, nb - edge) > best:
                opened[size] = t
                stack[size, 0], stack[size, 1], stack[size, 2] = at_a, at_a + na, at_b
                stack[size, 3], stack[size, 4] = at_b + nb, edge
                size += 1
                at_a += na
                at_b += nb
    if size == 0:
        return best
    for c in range(size):
        place[opened[c]] = c + 1
    cursor[:size] = stack[:size, 0]
    _look_up(slots_a, place, cursor, bits_a, top, ka)
    cursor[:size] = stack[:size, 2]
    _look_up(slots_b, place, cursor, bits_b, top, kb)
    for c in range(size):
        place[opened[c]] = 0
    return _refine(ka, kb, spare, stack, size, fine_a, fine_b, best)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _sums(a, b):
    """Squared length of b - a, a . b, a . a and b . b, in float64."""
    square, dot, aa, bb = 0.0, 0.0, 0.0, 0.0
    for i in range(a.size):
        x, y = np.float64(a[i]), np.float64(b[i])
        square += (y - x) * (y - x)
        dot += x * y
        aa += x * x
        bb += y * y
    return square, dot, aa, bb


@njit(cache=True, nogil=True)
def _shift(a, b, reach_a, reach_b):
    """Length of b - a, and the cosine between a and b, which are not equal."""
    square, dot, aa, bb = _sums(a, b)
    if reach_a == 0 or reach_b == 0:
        dot = 0.0
    tiny, huge = 1e-250, 1e250
    if not (
        tiny < square < huge and (aa > tiny or reach_a == 0) and (bb > tiny or reach_b == 0) and aa < huge and bb < huge
    ):
        # Only float64 gets here: squares that leave its range are taken of values brought near 1.
        half = 0.5 if max(reach_a, reach_b) > 1e300 else 1.0
        unit = 0.0
        for i in range(a.size):
            unit = max(unit, abs(b[i] * half - a[i] * half))
        square = dot = aa = bb = 0.0
        for i in range(a.size):
            x = a[i] / reach_a if reach_a > 0 else 0.0
            y = b[i] / reach_b if reach_b > 0 else 0.0
            dot += x * y
            aa += x * x
            bb += y * y
            square += ((b[i] * half - a[i] * half) / unit) ** 2
        length = np.sqrt(square) * unit / half
    else:
        length = np.sqrt(square)
    if aa == 0 or bb == 0:
        return length, 0.0
    return length, max(-1.0, min(1.0, dot / np.sqrt(aa) / np.sqrt(bb)))


def _load(source, target, bits, brain):
    """A row as floats: the row itself, or 16-bit floats given as uint16 (bfloat16 if ``brain``) in ``target``.

    A bfloat16 is the upper half of its float32. A float16's exponent and fraction, moved into place,
    read as a float32 are the value times 2**-112, subnormals included; infinities and NaN are put right.
    """
    raise NotImplementedError("compiled code only")


@overload(_load)
def _compiled_load(source, target, bits, brain):
    if isinstance(source.dtype, types.Float):
        return lambda source, target, bits, brain: source

    def widen(source, target, bits, brain):
        n = source.size
        if brain:
            for i in range(n):
                bits[i] = np.uint32(source[i]) << np.uint32(16)
            return target
        for i in range(n):
            bits[i] = np.uint32(source[i] & np.uint16(0x7FFF)) << np.uint32(13)
        for i in range(n):
            target[i] = target[i] * np.float32(5.192296858534828e33)
        for i in range(n):
            half = source[i]
            whole = np.uint32(0x7F800000) if half & np.uint16(0x7C00) == np.uint16(0x7C00) else bits[i]
            bits[i] = whole | np.uint32(half & np.uint16(0x8000)) << np.uint32(16)
        return target

    return widen


@njit(cache=True, nogil=True, parallel=True)
def _rows(before, after, brain, like, width, mask, infinite, top, with_shift, counts, l2, cosine, bad):
    """Counts for all rows of a block; ``bad`` takes 1 or 2 for a row that is not finite before or after.

    ``like`` is an empty array of the dtype that is computed in; ``mask`` (signed) is all of it but the sign,
    ``infinite`` the bits of infinity, ``top`` (unsigned) the sign bit: each an array of one.
    """
    n, d = before.shape
    batch = max(1, min(64, n // 8))
    for part in prange((n + batch - 1) // batch):
        # Scratch space of one batch of rows; allocating it costs far less than the rows.
        wide_a, wide_b = np.empty(d, like.dtype), np.empty(d, like.dtype)
        wide_bits_a, wide_bits_b = wide_a.view(top.dtype), wide_b.view(top.dtype)
        ka, kb, spare = np.empty(d, top.dtype), np.empty(d, top.dtype), np.empty(d, top.dtype)
        slots_a, slots_b = np.empty(d, np.uint16), np.empty(d, np.uint16)
        table_a, table_b = np.empty(width, np.int32), np.empty(width, np.int32)
        edges, place, cursor = np.empty(width, np.int32), np.zeros(width, np.int32), np.empty(width, np.int64)
        opened, stack = np.empty(width, np.int32), np.empty((max(d, width), 5), np.int64)
        fine_a, fine_b = np.empty(1 << LEVEL_BITS, np.int64), np.empty(1 << LEVEL_BITS, np.int64)
        reach = np.empty(2, mask.dtype)
        reaches = reach.view(like.dtype)
        for r in range(part * batch, min(n, (part + 1) * batch)):
            a = _load(before[r], wide_a, wide_bits_a, brain)
            b = _load(after[r], wide_b, wide_bits_b, brain)
            reach[0], reach[1] = _largest(a.view(mask.dtype), mask[0]), _largest(b.view(mask.dtype), mask[0])
            if max(reach[0], reach[1]) >= infinite[0]:
                bad[r] = 1 if reach[0] >= infinite[0] else 2
                continue
            if _same(a, b):
                counts[r], l2[r], cosine[r] = 0, 0.0, 1.0
                continue
            counts[r] = _row(
                a,
                b,
                a.view(top.dtype),
                b.view(top.dtype),
                max(reaches[0], reaches[1]),
                top[0],
                slots_a,
                slots_b,
                table_a,
                table_b,
                edges,
                place,
                opened,
                cursor,
                ka,
                kb,
                spare,
                stack,
                fine_a,
                fine_b,
            )
            if with_shift:
                l2[r], cosine[r] = _shift(a, b, np.float64(reaches[0]), np.float64(reaches[1]))


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
        counts, bad = np.zeros(n, np.int32), np.zeros(n, np.int8)
        l2, cosine = np.zeros(n), np.ones(n)
        _rows(
            _sealed(before),
            _sealed(after),
            dtype == "bfloat16",
            like,
            bucket_count(d),
            mask,
            infinite,
            top,
            with_shift,
            counts,
            l2,
            cosine,
            bad,
        )
        return counts, l2, cosine, bad


def _sealed(block: np.ndarray) -> np.ndarray:
    """Aligned, contiguous and read-only: one type for numba, so that it compiles once for each dtype."""
    view = np.require(block, requirements=("C", "A")).view(np.ndarray)
    view = view.view()
    view.flags.writeable = False
    return view


def bucket_count(dim: int) -> int:
    """How many buckets a row of ``dim`` values is spread over."""
    return min(16384, max(64, 1 << (dim - 1).bit_length()))

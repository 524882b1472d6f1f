"""The compiled half of the CPU kernel; ``ks_core.ks.kernels.cpu`` tells the idea.

All of it is one file on purpose: numba keeps compiled code and looks only at the file of the outermost
function to see whether it is still good.

Two kinds of rows come in. ``float_rows`` takes float32 and float64. ``brain_rows`` takes the bits of
bfloat16 as uint16 and does not widen them, because their order as integers is all it needs.
Gaps between the two CDFs are integers here: they are times d.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

#: Kept on disk; runs without Python's lock; a division by zero gives inf or NaN, as in NumPy.
QUICK = {"cache": True, "nogil": True, "error_model": "numpy"}
#: Opened buckets of at most this many values are sorted by insertion, larger ones are spread again.
SMALL = 32
#: Buckets whose bounds are looked at as one before they are looked at singly.
RUN = 64
#: Up to so many opened buckets are searched for one by one; with more, every value is looked up.
FEW = 8
#: Bits of a key that one level of spreading resolves.
LEVEL_BITS = 11
#: Values of each sample that show where most of a row lies.
SAMPLE = 32

#: The parts of a 16-bit float, and those of its bits that say how large it is.
MAGNITUDE, SIGN = np.uint16(0x7FFF), np.uint16(0x8000)

#: Work space for one row after the other. W is the number of buckets.
#: slots_a, slots_b   uint16 (d,)     the bucket of each value
#: table_a, table_b   int32 (W,)      values per bucket
#: edges              int32 (W,)      the gap at the left edge of each bucket
#: place              uint16 (W,)     the number of an opened bucket, from 1; 0 for the others
#: opened             int32 (W,)      the opened buckets
#: cursor             int64 (W,)      where the next key of an opened bucket goes
#: stack              int64 (n, 5)    what is still to be searched, see ``_refine``
#: ka, kb, spare      unsigned (d+1,) keys of the values in opened buckets
#: hits               int32 (d+1,)    positions of these values
#: fine_a, fine_b     int32           values per bucket on the deeper levels
#: sample             (2 * SAMPLE,)   see ``_middle``
Scratch = namedtuple(
    "Scratch",
    "slots_a slots_b table_a table_b edges place opened cursor stack ka kb spare hits fine_a fine_b sample",
)


@njit(**QUICK)
def _scratch(d, width, like, key):
    return Scratch(
        np.empty(d, np.uint16),
        np.empty(d, np.uint16),
        np.empty(width, np.int32),
        np.empty(width, np.int32),
        np.empty(width, np.int32),
        np.zeros(width, np.uint16),
        np.empty(width, np.int32),
        np.empty(width, np.int64),
        np.empty((max(d, width), 5), np.int64),
        np.empty(d + 1, key.dtype),
        np.empty(d + 1, key.dtype),
        np.empty(d + 1, key.dtype),
        np.empty(d + 1, np.int32),
        np.empty(1 << LEVEL_BITS, np.int32),
        np.empty(1 << LEVEL_BITS, np.int32),
        np.empty(2 * SAMPLE, like.dtype),
    )


# --- Keys: unsigned integers in the order of the floats ---------------------------------------------


@njit(**QUICK)
def _key(bits, top):
    """The key of a float given as bits, ``top`` being the sign bit; -0.0 and 0.0 get the same."""
    if bits == top:
        return top
    return ~bits if bits & top else bits | top


@njit(**QUICK)
def _insert(keys, start, stop):
    """Insertion sort of keys[start:stop]."""
    for i in range(start + 1, stop):
        x = keys[i]
        j = i
        while j > start and keys[j - 1] > x:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = x


@njit(**QUICK)
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


@njit(**QUICK)
def _range(ka, a0, a1, kb, b0, b1):
    low = high = ka[a0]
    for i in range(a0, a1):
        low, high = min(low, ka[i]), max(high, ka[i])
    for i in range(b0, b1):
        low, high = min(low, kb[i]), max(high, kb[i])
    return np.uint64(low), np.uint64(high)


@njit(**QUICK)
def _slot(key, low, shift):
    return np.int64((np.uint64(key) - low) >> shift)


@njit(**QUICK)
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
    for i in range(n):
        keys[start + i] = spare[i]


@njit(**QUICK)
def _push(stack, size, at_a, na, at_b, nb, gap):
    """Add a line to the stack, see ``_refine``. (Element by element: a tuple costs seconds to compile.)"""
    stack[size, 0] = at_a
    stack[size, 1] = at_a + na
    stack[size, 2] = at_b
    stack[size, 3] = at_b + nb
    stack[size, 4] = gap
    return size + 1


@njit(**QUICK)
def _refine(s, size, best):
    """The best gap once every bucket on the stack is searched.

    A line of the stack is (a0, a1, b0, b1, gap): keys ka[a0:a1] and kb[b0:b1], with the
    gap at the left edge. Large buckets are spread by the leading bits in which their keys differ.
    """
    ka, kb, fine_a, fine_b, stack = s.ka, s.kb, s.fine_a, s.fine_b, s.stack
    while size:
        size -= 1
        a0, a1, b0, b1 = stack[size, 0], stack[size, 1], stack[size, 2], stack[size, 3]
        gap = stack[size, 4]
        if max(gap + a1 - a0, b1 - b0 - gap) <= best:
            continue
        if a1 - a0 + b1 - b0 <= SMALL:
            _insert(ka, a0, a1)
            _insert(kb, b0, b1)
            best = _walk(ka, a0, a1, kb, b0, b1, gap, best)
            continue
        low, high = _range(ka, a0, a1, kb, b0, b1)
        if low == high:
            continue  # one value: nothing can happen inside
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
            continue  # a bucket is one value
        to_a = to_b = 0
        for t in range(width):
            na, nb = np.int64(fine_a[t]), np.int64(fine_b[t])
            fine_a[t] = fine_b[t] = -1
            if na and nb and max(gap + na, nb - gap) > best:
                fine_a[t], fine_b[t] = to_a, to_b
                size = _push(stack, size, a0 + to_a, na, b0 + to_b, nb, gap)
                to_a += na
                to_b += nb
            gap += na - nb
        if to_a:
            _gather(ka, a0, a1, low, shift, fine_a, s.spare)
            _gather(kb, b0, b1, low, shift, fine_b, s.spare)
    return best


# --- Buckets: what the counts alone say, and the few buckets that have to be opened -----------------


@njit(**QUICK)
def _beaten(table_a, table_b, edges, start, best):
    """Whether a bucket of this run can hold a gap above ``best``."""
    highest = np.int32(0)
    for i in range(RUN):
        t = np.uintp(start + i)  # a signed index could be negative, and the check would bar vectors
        above, below = np.int32(edges[t] + table_a[t]), np.int32(table_b[t] - edges[t])
        highest = np.int32(max(highest, max(above, below)))
    return highest > best


@njit(**QUICK)
def _list(s, t, best, size, inside):
    """Put bucket ``t`` on the stack if it can hold a gap above ``best``."""
    na, nb, edge = np.int64(s.table_a[t]), np.int64(s.table_b[t]), np.int64(s.edges[t])
    if max(edge + na, nb - edge) <= best:
        return size, inside
    at_a = s.stack[size - 1, 1] if size else 0
    at_b = s.stack[size - 1, 3] if size else 0
    s.opened[size] = t
    return _push(s.stack, size, at_a, na, at_b, nb, edge), inside + na + nb


@njit(**QUICK)
def _tally(s, best, single):
    """Count the values per bucket and list the buckets to open.

    ``single``: a bucket is one value, except the first, the last and the one in the middle. Returns the
    best gap at the edges (or the ``best`` known so far), the number of opened buckets and how many values
    are in them.
    """
    slots_a, slots_b, table_a, table_b, edges = s.slots_a, s.slots_b, s.table_a, s.table_b, s.edges
    table_a[:] = 0
    table_b[:] = 0
    for i in range(slots_a.size):
        table_a[slots_a[i]] += 1  # two tables: a tuned value often meets its base's bucket, and would wait
        table_b[slots_b[i]] += 1
    # Three loops: all but the second are vectorised, and that one waits for as little as possible.
    for t in range(edges.size):
        edges[t] = table_a[t] - table_b[t]
    gap = np.int32(0)
    for t in range(edges.size):
        edges[t], gap = gap, np.int32(gap + edges[t])
    high = low = np.int32(0)
    for t in range(edges.size):
        high, low = np.int32(max(high, edges[t])), np.int32(min(low, edges[t]))
    best = max(best, np.int64(max(high, -low)))
    middle = edges.size // 2 - 1
    size = inside = 0
    if single:
        for t in (0, middle, 2 * middle):
            size, inside = _list(s, t, best, size, inside)
        return best, size, inside
    for start in range(0, edges.size, RUN):
        if _beaten(table_a, table_b, edges, start, best):
            for t in range(start, start + RUN):
                size, inside = _list(s, t, best, size, inside)
    return best, size, inside


@njit(**QUICK)
def _collect(slots, slot, bits, top, keys, at, end):
    """Put the keys of the values in bucket ``slot`` into keys[at:end], which they fill."""
    wanted, step = np.uint16(slot), 128
    for start in range(0, slots.size, step):
        part = slots[start : start + step]
        hit = np.uint16(0)
        for i in range(part.size):
            hit = np.uint16(hit | np.uint16(part[i] == wanted))
        if hit:
            for i in range(part.size):  # written whether wanted or not: a wrong guess costs more
                keys[at] = _key(bits[start + i], top)
                at += part[i] == wanted
            if at == end:
                return


@njit(**QUICK)
def _look_up(s, slots, bits, top, keys):
    """Put the key of every value whose bucket is opened where ``cursor`` says."""
    place, cursor, hits, n = s.place, s.cursor, s.hits, 0
    for i in range(slots.size):
        hits[n] = i
        n += place[slots[i]] > 0
    for h in range(n):
        i = hits[h]
        p = place[slots[i]] - 1
        keys[cursor[p]] = _key(bits[i], top)
        cursor[p] += 1


@njit(**QUICK)
def _open(s, size, bits_a, bits_b, top, best):
    """Gather the values of the opened buckets and search them."""
    if size <= FEW:
        for c in range(size):
            _collect(s.slots_a, s.opened[c], bits_a, top, s.ka, s.stack[c, 0], s.stack[c, 1])
            _collect(s.slots_b, s.opened[c], bits_b, top, s.kb, s.stack[c, 2], s.stack[c, 3])
        return _refine(s, size, best)
    for c in range(size):
        s.place[s.opened[c]] = c + 1
    for c in range(size):
        s.cursor[c] = s.stack[c, 0]
    _look_up(s, s.slots_a, bits_a, top, s.ka)
    for c in range(size):
        s.cursor[c] = s.stack[c, 2]
    _look_up(s, s.slots_b, bits_b, top, s.kb)
    for c in range(size):
        s.place[s.opened[c]] = 0
    return _refine(s, size, best)


@njit(**QUICK)
def _middle(a, b, sample):
    """Fill ``sample`` with values of both rows, sorted: most of a row lies between its outer eighths."""
    for i in range(SAMPLE):
        at = i * a.size // SAMPLE
        sample[2 * i], sample[2 * i + 1] = a[at], b[at]
    _insert(sample, 0, sample.size)


# --- Rows of float32 and float64 --------------------------------------------------------------------


@njit(**QUICK)
def _largest(bits, mask):
    """The largest absolute value of a row, as bits: non-finite values have the largest bits of all."""
    top = bits[0] & mask
    for i in range(bits.size):
        top = max(top, bits[i] & mask)
    return top


@njit(**QUICK)
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


@njit(**QUICK)
def _spread(values, low, scale, slots):
    """The bucket of each value, none being below ``low``."""
    for i in range(values.size):
        slots[i] = np.int32((values[i] - low) * scale)


@njit(**QUICK)
def _spread_middle(values, low, scale, last, slots):
    """The bucket of each value; what is outside goes to the first or the last."""
    zero = last * 0
    for i in range(values.size):
        slots[i] = np.int32(max(zero, min(last, (values[i] - low) * scale)))


@njit(**QUICK)
def _float_row(a, b, bits_a, bits_b, reach, top, s):
    """D * d of one row. ``reach`` is the largest absolute value."""
    kind = a.dtype.type
    last = kind(s.edges.size - 1)
    scale = last / (reach + reach)  # a little below the number of buckets, so rounding stays inside
    if not (scale > 0 and np.isfinite(scale)):
        # So large or so small that a bucket has no width in floats: spread the keys from the start.
        for i in range(a.size):
            s.ka[i], s.kb[i] = _key(bits_a[i], top), _key(bits_b[i], top)
        return _refine(s, _push(s.stack, 0, 0, a.size, 0, a.size, 0), 0)
    _spread(a, -reach, scale, s.slots_a)
    _spread(b, -reach, scale, s.slots_b)
    best, size, inside = _tally(s, 0, False)
    if inside > a.size // 2 + 2 * SAMPLE:
        # An outlier, or a band far from zero: look closer at where most values are.
        _middle(a, b, s.sample)
        low, high = s.sample[SAMPLE // 4], s.sample[2 * SAMPLE - 1 - SAMPLE // 4]
        closer = last / ((high - low) * kind(3))
        if closer > scale * kind(4) and np.isfinite(closer):
            low -= high - low
            _spread_middle(a, low, closer, last, s.slots_a)
            _spread_middle(b, low, closer, last, s.slots_b)
            best, size, inside = _tally(s, best, False)
    return _open(s, size, bits_a, bits_b, top, best) if size else best


@njit(**QUICK)
def float_rows(before, after, bits_before, bits_after, masks, reach, reaches, width, with_shift,
               counts, l2, cosine, bad):  # fmt: skip
    """Counts for the rows of a block; ``bad`` takes 1 or 2 for a row that is not finite before or after.

    ``before`` and ``after`` float32 or float64 (n, d), with the same as unsigned integers. ``masks`` are,
    as such integers, all bits but the sign, infinity, and the sign bit. ``reach`` and ``reaches`` are two
    views of work space for two values, as integers and as floats. ``width`` is the number of buckets.
    """
    mask, infinite, top = masks[0], masks[1], masks[2]
    s = _scratch(before.shape[1], width, before, masks)
    for r in range(before.shape[0]):
        a, b, bits_a, bits_b = before[r], after[r], bits_before[r], bits_after[r]
        reach[0], reach[1] = _largest(bits_a, mask), _largest(bits_b, mask)
        if max(reach[0], reach[1]) >= infinite:
            bad[r] = 1 if reach[0] >= infinite else 2
        elif _same(a, b):
            counts[r], l2[r], cosine[r] = 0, 0.0, 1.0
        else:
            counts[r] = _float_row(a, b, bits_a, bits_b, max(reaches[0], reaches[1]), top, s)
            if with_shift:
                l2[r], cosine[r] = _shift(a, b, np.float64(reaches[0]), np.float64(reaches[1]))


@njit(**QUICK)
def widen_halves(halves, floats, whole):
    """float16, given as uint16 (n, d), as float32; ``whole`` is a view of ``floats`` as uint32.

    Exponent and fraction, moved into place and read as a float32, are the value times 2**-112,
    subnormals included. Infinities and NaN are given float32's exponent for them.
    """
    for r in range(halves.shape[0]):
        bits, target, image = halves[r], floats[r], whole[r]
        for i in range(bits.size):
            image[i] = np.uint32(bits[i] & MAGNITUDE) << np.uint32(13)
        for i in range(bits.size):
            target[i] *= np.float32(2.0**112)
        for i in range(bits.size):
            special = np.uint32(0x7F800000) * np.uint32((bits[i] & MAGNITUDE) >= 0x7C00)
            image[i] |= special | np.uint32(bits[i] & SIGN) << np.uint32(16)


# --- Rows of bfloat16, as bits ----------------------------------------------------------------------


@njit(**QUICK)
def _same_bits(a, b):
    """Whether two rows are equal value by value (-0.0 equals 0.0)."""
    step = 256
    for start in range(0, a.size, step):
        x, y = a[start : start + step], b[start : start + step]
        differing = np.uint16(0)
        for i in range(x.size):
            zeros = ((x[i] | y[i]) & MAGNITUDE) == 0
            differing |= np.uint16((x[i] != y[i]) & (not zeros))
        if differing:
            return False
    return True


@njit(**QUICK)
def _spread_bits(bits, floor, middle, slots):
    """The bucket of each value: its magnitude's bits above ``floor``, to the left or right of the middle.

    So a bucket is one value, but for the middle one (up to ``floor``) and the outermost (what is beyond).
    """
    floor, middle = np.int16(floor), np.int16(middle)
    for i in range(bits.size):
        x = np.int16(bits[i])
        m = np.int16(max(np.int16(np.int16(x & np.int16(0x7FFF)) - floor), np.int16(0)))
        m = np.int16(min(m, middle))
        slots[i] = np.uint16(middle - m if x < 0 else middle + m)


@njit(**QUICK)
def _brain_row(a, b, reach, s):
    """D * d of one row of bits. ``reach`` is the largest magnitude's bits."""
    middle = s.edges.size // 2 - 1
    floor = max(0, reach - middle)
    _spread_bits(a, floor, middle, s.slots_a)
    _spread_bits(b, floor, middle, s.slots_b)
    best, size, inside = _tally(s, 0, True)
    if inside > a.size // 2 + 2 * SAMPLE:
        for i in range(SAMPLE):
            at = i * a.size // SAMPLE
            s.sample[2 * i], s.sample[2 * i + 1] = a[at] & MAGNITUDE, b[at] & MAGNITUDE
        _insert(s.sample, 0, s.sample.size)
        closer = max(0, np.int64(s.sample[2 * SAMPLE - 1 - SAMPLE // 4]) + middle // 4 - middle)
        if closer < floor:
            _spread_bits(a, closer, middle, s.slots_a)
            _spread_bits(b, closer, middle, s.slots_b)
            best, size, inside = _tally(s, best, True)
    return _open(s, size, a, b, SIGN, best) if size else best


@njit(**QUICK)
def _widen(bits, whole):
    """Into ``whole`` the bits of the float32 of the same value, of which a bfloat16 is the upper half."""
    for i in range(bits.size):
        whole[i] = np.uint32(bits[i]) << np.uint32(16)


@njit(**QUICK)
def brain_rows(before, after, floats, whole, width, with_shift, counts, l2, cosine, bad):
    """As ``float_rows``, for bfloat16 given as uint16 (n, d).

    ``floats`` and ``whole`` are two views of work space for two rows, as float32 and as uint32.
    """
    n, d = before.shape
    s = _scratch(d, width, before, before)
    infinite = 0x7F80
    for r in range(n):
        a, b = before[r], after[r]
        reach_a, reach_b = np.int64(_largest(a, MAGNITUDE)), np.int64(_largest(b, MAGNITUDE))
        if max(reach_a, reach_b) >= infinite:
            bad[r] = 1 if reach_a >= infinite else 2
        elif _same_bits(a, b):
            counts[r], l2[r], cosine[r] = 0, 0.0, 1.0
        else:
            counts[r] = _brain_row(a, b, max(reach_a, reach_b), s)
            if with_shift:
                _widen(a, whole[0])
                _widen(b, whole[1])
                l2[r], cosine[r] = _shift(floats[0], floats[1], np.float64(reach_a), np.float64(reach_b))


# --- The shift: how far and in which direction a row moved ------------------------------------------


@njit(fastmath={"reassoc", "contract"}, **QUICK)
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


@njit(**QUICK)
def _shift(a, b, reach_a, reach_b):
    """Length of b - a, and the cosine between a and b, which are not equal; 0 where one is all zeros.

    ``reach_a`` and ``reach_b`` are the largest absolute values; for bfloat16 their bits, which are 0 with them.
    """
    square, dot, aa, bb = _sums(a, b)
    tiny, huge = 1e-250, 1e250
    if tiny < square < huge and (tiny < aa or reach_a == 0) and (tiny < bb or reach_b == 0) and max(aa, bb) < huge:
        length = np.sqrt(square)
    else:
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
    if aa == 0 or bb == 0:
        return length, 0.0
    return length, max(-1.0, min(1.0, dot / np.sqrt(aa) / np.sqrt(bb)))

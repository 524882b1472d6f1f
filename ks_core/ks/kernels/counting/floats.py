"""Rows of float32 and float64; float16 comes as float32."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from ks_core.ks.kernels.counting.buckets import lane_bits, open_buckets, sampled, tally
from ks_core.ks.kernels.counting.layout import (
    MAGNITUDE,
    QUICK,
    SIGN,
    scratch,
)
from ks_core.ks.kernels.counting.search import key_of, push, refine
from ks_core.ks.kernels.counting.shift import shift
from ks_core.ks.kernels.space import LANES, SAMPLE


@njit(**QUICK)
def largest(bits, mask):
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
def _spread(values, low, scale, bits, slots):
    """Where the bucket of each value stands, none being below ``low``. A lane has 2**bits buckets."""
    shift, within = np.int32(bits), np.int32((1 << bits) - 1)
    for i in range(values.size):
        bucket = np.int32((values[i] - low) * scale)
        slots[i] = np.int32(np.int32(bucket & within) * np.int32(LANES)) | np.int32(bucket >> shift)


@njit(**QUICK)
def _spread_middle(values, low, scale, last, bits, slots):
    """As ``_spread``; what is outside goes to the first bucket or the last."""
    zero, shift, within = last * 0, np.int32(bits), np.int32((1 << bits) - 1)
    for i in range(values.size):
        bucket = np.int32(max(zero, min(last, (values[i] - low) * scale)))
        slots[i] = np.int32(np.int32(bucket & within) * np.int32(LANES)) | np.int32(bucket >> shift)


@njit(**QUICK)
def _float_row(a, b, bits_a, bits_b, reach, top, s):
    """D * d of one row. ``reach`` is the largest absolute value."""
    kind = a.dtype.type
    width = s.table_a.size
    bits = lane_bits(width)
    last = kind(width - 1)
    scale = last / (reach + reach)  # a little below the number of buckets, so rounding stays inside
    if not (scale > 0 and np.isfinite(scale)):
        # So large or so small that a bucket has no width in floats: spread the keys from the start.
        for i in range(a.size):
            s.ka[i], s.kb[i] = key_of(bits_a[i], top), key_of(bits_b[i], top)
        return refine(s, push(s.stack, 0, 0, a.size, 0, a.size, 0), np.int64(0))
    _spread(a, -reach, scale, bits, s.slots_a)
    _spread(b, -reach, scale, bits, s.slots_b)
    best, size, inside = tally(s, np.int64(0), False)
    if inside > a.size // 2 + 2 * SAMPLE:
        # An outlier, or a band far from zero: look closer at where most values are.
        sampled(a, b, s.sample)
        low, high = s.sample[SAMPLE // 4], s.sample[2 * SAMPLE - 1 - SAMPLE // 4]
        closer = last / ((high - low) * kind(3))
        if closer > scale * kind(4) and np.isfinite(closer):
            low -= high - low
            _spread_middle(a, low, closer, last, bits, s.slots_a)
            _spread_middle(b, low, closer, last, bits, s.slots_b)
            best, size, inside = tally(s, best, False)
    return open_buckets(s, size, bits_a, bits_b, top, best) if size else best


def float_rows(before_at, after_at, bits_before_at, bits_after_at, n, d, width, with_shift, masks_at, reach_at,
               reaches_at, halves_at, tables_at, integers_at, cursor_at, stack_at, lines, keys_at, sample_at,
               counts_at, l2_at, cosine_at, bad_at):  # fmt: skip
    """Counts for the rows of a block; ``bad`` takes 1 or 2 for a row that is not finite before or after.

    Everything comes by its address. ``before`` and ``after`` float32 or float64 (n, d), and the same again as unsigned
    integers. ``masks`` are, as such integers, all bits but the sign, infinity, and the sign bit. ``reach`` and
    ``reaches`` are two views of work space for two values, as integers and as floats. ``width`` is the number of
    buckets; ``halves`` to ``sample`` are what ``layout.scratch`` cuts up, ``stack`` being of ``lines`` lines.
    """
    before, after = carray(before_at, (n, d)), carray(after_at, (n, d))
    bits_before, bits_after = carray(bits_before_at, (n, d)), carray(bits_after_at, (n, d))
    masks, reach, reaches = carray(masks_at, 3), carray(reach_at, 2), carray(reaches_at, 2)
    counts, l2, cosine, bad = carray(counts_at, n), carray(l2_at, n), carray(cosine_at, n), carray(bad_at, n)
    mask, infinite, top = masks[0], masks[1], masks[2]
    s = scratch(d, width, halves_at, tables_at, integers_at, cursor_at, stack_at, lines, keys_at, sample_at)
    for r in range(n):
        a, b, bits_a, bits_b = before[r], after[r], bits_before[r], bits_after[r]
        reach[0], reach[1] = largest(bits_a, mask), largest(bits_b, mask)
        if max(reach[0], reach[1]) >= infinite:
            bad[r] = 1 if reach[0] >= infinite else 2
        elif _same(a, b):
            counts[r], l2[r], cosine[r] = 0, 0.0, 1.0
        else:
            counts[r] = _float_row(a, b, bits_a, bits_b, max(reaches[0], reaches[1]), top, s)
            if with_shift:
                l2[r], cosine[r] = shift(a, b, np.float64(reaches[0]), np.float64(reaches[1]))


def widen_halves(halves_at, floats_at, whole_at, n):
    """``n`` values of float16, given as uint16, as float32; ``whole`` is the same space as ``floats``, as uint32.

    Exponent and fraction, moved into place and read as a float32, are the value times 2**-112,
    subnormals included. Infinities and NaN are given float32's exponent for them.
    """
    bits, target, image = carray(halves_at, n), carray(floats_at, n), carray(whole_at, n)
    for i in range(n):
        image[i] = np.uint32(bits[i] & MAGNITUDE) << np.uint32(13)
    for i in range(n):
        target[i] *= np.float32(2.0**112)
    for i in range(n):
        special = np.uint32(0x7F800000) * np.uint32((bits[i] & MAGNITUDE) >= 0x7C00)
        image[i] |= special | np.uint32(bits[i] & SIGN) << np.uint32(16)

"""Rows of bfloat16 as bits, in uint16: not widened, because their order as integers is all it needs."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from ks_core.ks.kernels.counting.buckets import lane_bits, open_buckets, tally
from ks_core.ks.kernels.counting.floats import largest
from ks_core.ks.kernels.counting.layout import (
    MAGNITUDE,
    QUICK,
    SIGN,
    scratch,
)
from ks_core.ks.kernels.counting.search import insert
from ks_core.ks.kernels.counting.shift import shift
from ks_core.ks.kernels.space import LANES, SAMPLE


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
def _spread_bits(bits, floor, middle, power, slots):
    """Where the bucket of each value stands: its magnitude's bits above ``floor``, to the left or right of the middle.
    A lane has 2**power buckets.

    So a bucket is one value, but for the middle one (up to ``floor``) and the outermost (what is beyond).
    """
    floor, middle = np.int16(floor), np.int16(middle)
    shift, within = np.int16(power), np.int16((1 << power) - 1)
    for i in range(bits.size):
        x = np.int16(bits[i])
        m = np.int16(max(np.int16(np.int16(x & np.int16(0x7FFF)) - floor), np.int16(0)))
        m = np.int16(min(m, middle))
        bucket = np.int16(middle - m if x < 0 else middle + m)
        slots[i] = np.uint16(np.int16(np.int16(bucket & within) * np.int16(LANES)) | np.int16(bucket >> shift))


@njit(**QUICK)
def _brain_row(a, b, reach, s):
    """D * d of one row of bits. ``reach`` is the largest magnitude's bits."""
    middle = s.table_a.size // 2 - 1
    power = lane_bits(s.table_a.size)
    floor = max(0, reach - middle)
    _spread_bits(a, floor, middle, power, s.slots_a)
    _spread_bits(b, floor, middle, power, s.slots_b)
    best, size, inside = tally(s, np.int64(0), True)
    if inside > a.size // 2 + 2 * SAMPLE:
        for i in range(SAMPLE):
            at = i * a.size // SAMPLE
            s.sample[2 * i], s.sample[2 * i + 1] = a[at] & MAGNITUDE, b[at] & MAGNITUDE
        insert(s.sample, 0, s.sample.size)
        closer = max(0, np.int64(s.sample[2 * SAMPLE - 1 - SAMPLE // 4]) + middle // 4 - middle)
        if closer < floor:
            _spread_bits(a, closer, middle, power, s.slots_a)
            _spread_bits(b, closer, middle, power, s.slots_b)
            best, size, inside = tally(s, best, True)
    return open_buckets(s, size, a, b, SIGN, best) if size else best


@njit(**QUICK)
def _widen(bits, whole):
    """Into ``whole`` the bits of the float32 of the same value, of which a bfloat16 is the upper half."""
    for i in range(bits.size):
        whole[i] = np.uint32(bits[i]) << np.uint32(16)


def brain_rows(before_at, after_at, n, d, width, with_shift, floats_at, whole_at, halves_at, tables_at, integers_at, cursor_at,
               stack_at, lines, keys_at, sample_at, counts_at, l2_at, cosine_at, bad_at):  # fmt: skip
    """As ``floats.float_rows``, for bfloat16 given as uint16 (n, d).

    ``floats`` and ``whole`` are the same work space for two rows, as float32 and as uint32.
    """
    before, after = carray(before_at, (n, d)), carray(after_at, (n, d))
    floats, whole = carray(floats_at, (2, d)), carray(whole_at, (2, d))
    counts, l2, cosine, bad = carray(counts_at, n), carray(l2_at, n), carray(cosine_at, n), carray(bad_at, n)
    s = scratch(d, width, halves_at, tables_at, integers_at, cursor_at, stack_at, lines, keys_at, sample_at)
    infinite = 0x7F80
    for r in range(n):
        a, b = before[r], after[r]
        reach_a, reach_b = np.int64(largest(a, MAGNITUDE)), np.int64(largest(b, MAGNITUDE))
        if max(reach_a, reach_b) >= infinite:
            bad[r] = 1 if reach_a >= infinite else 2
        elif _same_bits(a, b):
            counts[r], l2[r], cosine[r] = 0, 0.0, 1.0
        else:
            counts[r] = _brain_row(a, b, max(reach_a, reach_b), s)
            if with_shift:
                _widen(a, whole[0])
                _widen(b, whole[1])
                l2[r], cosine[r] = shift(floats[0], floats[1], np.float64(reach_a), np.float64(reach_b))

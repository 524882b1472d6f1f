"""Keys in the order of floats, and the search inside buckets that were opened."""

from __future__ import annotations

import numpy as np
from numba import njit

from ks_core.ks.kernels.counting.layout import QUICK
from ks_core.ks.kernels.space import LEVEL_BITS

#: Opened buckets of at most this many values are sorted by insertion, larger ones are spread again.
SMALL = 32


@njit(**QUICK)
def key_of(bits, top):
    """The key of a float given as bits, ``top`` being the sign bit; -0.0 and 0.0 get the same."""
    if bits == top:
        return top
    return ~bits if bits & top else bits | top


@njit(**QUICK)
def insert(keys, start, stop):
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
def push(stack, size, at_a, na, at_b, nb, gap):
    """Add a line to the stack, see ``_refine``. (Element by element: a tuple costs seconds to compile.)"""
    stack[size, 0] = at_a
    stack[size, 1] = at_a + na
    stack[size, 2] = at_b
    stack[size, 3] = at_b + nb
    stack[size, 4] = gap
    return size + 1


@njit(**QUICK)
def refine(s, size, best):
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
            insert(ka, a0, a1)
            insert(kb, b0, b1)
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
                size = push(stack, size, a0 + to_a, na, b0 + to_b, nb, gap)
                to_a += na
                to_b += nb
            gap += na - nb
        if to_a:
            _gather(ka, a0, a1, low, shift, fine_a, s.spare)
            _gather(kb, b0, b1, low, shift, fine_b, s.spare)
    return best

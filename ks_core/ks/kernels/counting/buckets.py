"""Buckets: what the counts alone say, and the few buckets that have to be opened."""

from __future__ import annotations

import numpy as np
from numba import njit

from ks_core.ks.kernels.counting.layout import QUICK
from ks_core.ks.kernels.counting.search import insert, key_of, push, refine
from ks_core.ks.kernels.space import LANES, SAMPLE

#: Buckets of a lane whose bounds are looked at as one before they are looked at singly.
RUN = 32
#: From a bucket of a lane to the next one. Four of them are taken in a step, which saves looking at what the last step wrote.
ROW = np.uintp(LANES)
#: Up to so many opened buckets are compared with, in vectors; with more, every value is looked up. And values in a stretch of those.
FEW, STRETCH = 4, 32


@njit(**QUICK)
def place_of(bucket, steps):
    """Where a bucket stands: buckets that follow each other are a vector apart, ``steps`` of them in each lane."""
    return (bucket % steps) * LANES + bucket // steps


@njit(**QUICK)
def lane_bits(width):
    """How many bits number the buckets of a lane: ``width``, a power of two, is LANES times two to that."""
    bits = 0
    while (LANES << bits) < width:
        bits += 1
    return bits


@njit(**QUICK)
def _count(s):
    """Count the values of both rows per bucket. One row after the other: a table and a row's buckets fit a core's nearest memory."""
    slots_a, slots_b, table_a, table_b = s.slots_a, s.slots_b, s.table_a, s.table_b
    table_a[:] = 0
    for i in range(slots_a.size):
        table_a[slots_a[i]] += 1
    table_b[:] = 0
    for i in range(slots_b.size):
        table_b[slots_b[i]] += 1


@njit(**QUICK)
def _add_up(s, best):
    """The gaps at all edges, lane by lane and all lanes at once; the best of them, or ``best``."""
    table_a, table_b, edges, high, low, starts = s.table_a, s.table_b, s.edges, s.high, s.low, s.starts
    count = high.dtype.type
    for lane in range(LANES):
        edges[lane] = high[lane] = low[lane] = 0
    for start in range(0, table_a.size, 4 * LANES):
        for lane in range(LANES):
            t = np.uintp(start + lane)  # a signed index could be negative, and the check would bar vectors
            u, v, w, x = t + ROW, t + ROW + ROW, t + ROW + ROW + ROW, t + ROW + ROW + ROW + ROW
            first = count(edges[t] + table_a[t] - table_b[t])
            second = count(first + table_a[u] - table_b[u])
            third = count(second + table_a[v] - table_b[v])
            fourth = count(third + table_a[w] - table_b[w])
            edges[u], edges[v], edges[w], edges[x] = first, second, third, fourth
            high[lane] = max(high[lane], max(max(first, second), max(third, fourth)))
            low[lane] = min(low[lane], min(min(first, second), min(third, fourth)))
    gap = np.int64(0)
    for lane in range(LANES):
        starts[lane] = gap
        best = max(best, max(gap + high[lane], -gap - low[lane]))
        gap += edges[table_a.size + lane]
    return best


@njit(**QUICK)
def _list(s, t, lane, best, size, inside):
    """Put the bucket that stands at ``t`` on the stack if it can hold a gap above ``best``."""
    na, nb = np.int64(s.table_a[t]), np.int64(s.table_b[t])
    edge = np.int64(s.edges[t]) + np.int64(s.starts[lane])
    if max(edge + na, nb - edge) <= best:
        return size, inside
    at_a = s.stack[size - 1, 1] if size else 0
    at_b = s.stack[size - 1, 3] if size else 0
    s.opened[size] = t
    return push(s.stack, size, at_a, na, at_b, nb, edge), inside + na + nb


@njit(**QUICK)
def _list_all(s, best):
    """Put every bucket on the stack that can hold a gap above ``best``."""
    table_a, table_b, edges, over, under, worst = s.table_a, s.table_b, s.edges, s.over, s.under, s.high
    count, most = over.dtype.type, np.int64(np.iinfo(over.dtype).max)
    for lane in range(LANES):
        over[lane], under[lane] = min(best - s.starts[lane], most), min(best + s.starts[lane], most)
    size = inside = 0
    for start in range(0, table_a.size, RUN * LANES):
        stop = min(start + RUN * LANES, table_a.size)
        for lane in range(LANES):
            worst[lane] = 0
        for row in range(start, stop, 4 * LANES):
            for lane in range(LANES):
                t = np.uintp(row + lane)
                u, v, w = t + ROW, t + ROW + ROW, t + ROW + ROW + ROW
                above = max(
                    max(count(edges[t] + table_a[t]), count(edges[u] + table_a[u])),
                    max(count(edges[v] + table_a[v]), count(edges[w] + table_a[w])),
                )
                below = max(
                    max(count(table_b[t] - edges[t]), count(table_b[u] - edges[u])),
                    max(count(table_b[v] - edges[v]), count(table_b[w] - edges[w])),
                )
                worst[lane] |= count(above > over[lane]) | count(below > under[lane])
        for lane in range(LANES):
            if worst[lane]:
                for t in range(start + lane, stop, LANES):
                    size, inside = _list(s, t, lane, best, size, inside)
    return size, inside


@njit(**QUICK)
def tally(s, best, single):
    """Count the values per bucket and list the buckets to open.

    ``single``: a bucket is one value, except the first, the last and the one in the middle. Returns the
    best gap at the edges (or the ``best`` known so far), the number of opened buckets and how many values
    are in them.
    """
    _count(s)
    best = _add_up(s, best)
    if not single:
        size, inside = _list_all(s, best)
        return best, size, inside
    size = inside = 0
    steps = s.table_a.size // LANES
    centre = s.table_a.size // 2 - 1
    for bucket in (0, centre, 2 * centre):
        size, inside = _list(s, place_of(bucket, steps), bucket // steps, best, size, inside)
    return best, size, inside


@njit(**QUICK)
def _find(s, size, slots, hits):
    """Positions of the values whose bucket is opened, into ``hits``; how many there are."""
    mark, opened, n, last = s.mark, s.opened, 0, size - 1
    if size > FEW:
        for i in range(slots.size):
            hits[n] = i  # written whether wanted or not: a wrong guess costs more
            n += mark[slots[i]] > 0
        return n
    # Stretches without any are passed over: looked at in vectors, for all the opened buckets at once.
    u, v = np.uint16(opened[0]), np.uint16(opened[min(1, last)])
    w, x = np.uint16(opened[min(2, last)]), np.uint16(opened[min(3, last)])
    for start in range(0, slots.size, STRETCH):
        part = slots[start : start + STRETCH]
        hit = np.uint16(0)
        for i in range(part.size):
            y = part[i]
            hit = np.uint16(hit | np.uint16((y == u) | (y == v) | (y == w) | (y == x)))
        if hit:
            for i in range(part.size):
                hits[n] = start + i
                n += mark[part[i]] > 0
    return n


@njit(**QUICK)
def _gather(s, size, column, slots, bits, top, keys):
    """Put the key of every value whose bucket is opened to those of its bucket, which begin where ``column`` of the stack says."""
    mark, cursor, hits = s.mark, s.cursor, s.hits
    for c in range(size):
        cursor[c] = s.stack[c, column]
    for h in range(_find(s, size, slots, hits)):
        i = hits[h]
        c = mark[slots[i]] - 1
        keys[cursor[c]] = key_of(bits[i], top)
        cursor[c] += 1


@njit(**QUICK)
def open_buckets(s, size, bits_a, bits_b, top, best):
    """Gather the values of the opened buckets and search them."""
    for c in range(size):
        s.mark[s.opened[c]] = c + 1
    _gather(s, size, 0, s.slots_a, bits_a, top, s.ka)
    _gather(s, size, 2, s.slots_b, bits_b, top, s.kb)
    for c in range(size):
        s.mark[s.opened[c]] = 0
    return refine(s, size, best)


@njit(**QUICK)
def sampled(a, b, sample):
    """Fill ``sample`` with values of both rows, sorted: most of a row lies between its outer eighths."""
    for i in range(SAMPLE):
        at = i * a.size // SAMPLE
        sample[2 * i], sample[2 * i + 1] = a[at], b[at]
    insert(sample, 0, sample.size)

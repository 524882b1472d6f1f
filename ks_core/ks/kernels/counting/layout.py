"""What the files of this folder share: how numba compiles them, sizes, and the work space of a thread.

The files of this folder are the counting itself; ``ks_core.ks.kernels.cpu`` tells the idea. They take arrays that somebody
else made and make none, so what is compiled of them needs neither numba nor Python: see ``ks_core.ks.kernels.machine_code``.
Gaps between the two CDFs are integers here: they are times d.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import carray, njit

from ks_core.ks.kernels import space
from ks_core.ks.kernels.space import LANES, LEVEL_BITS, SAMPLE

#: A division by zero gives inf or NaN, as in NumPy, so nothing can raise.
QUICK = {"error_model": "numpy"}
#: The parts of a 16-bit float, and those of its bits that say how large it is.
MAGNITUDE, SIGN = np.uint16(0x7FFF), np.uint16(0x8000)

#: Work space for one row after the other. W is the number of buckets, a power of two, and counts are int16 or int32.
#: Bucket number t stands at ``buckets.place_of(t)``: the first of each lane, then the second of each lane, and so on.
#: slots_a, slots_b   uint16 (d,)         where the bucket of each value stands
#: table_a, table_b   counts (W,)         values per bucket
#: edges              counts (W + LANES,) the gap at the left edge of each bucket, less that of its lane; last, of the whole lane
#: high, low          counts (LANES,)     the largest and smallest of them in each lane
#: over, under        counts (LANES,)     what a bucket of the lane has to pass
#: starts             int32 (LANES,)      the gap at the left edge of each lane
#: mark               uint16 (W,)         the number of an opened bucket, from 1; 0 for the others
#: opened             int32 (W,)          where the opened buckets stand
#: cursor             int64 (W,)          where the next key of an opened bucket goes
#: stack              int64 (n, 5)        what is still to be searched, see ``search.refine``
#: ka, kb, spare      unsigned (d+1,)     keys of the values in opened buckets
#: hits               int32 (d+1,)        positions of these values
#: fine_a, fine_b     int32               values per bucket on the deeper levels
#: sample             (2 * SAMPLE,)       see ``buckets.sampled``
Scratch = namedtuple(
    "Scratch",
    "slots_a slots_b table_a table_b edges high low over under starts mark opened cursor stack ka kb spare hits "
    "fine_a fine_b sample",
)

_halves = njit(**QUICK)(space.halves)
_counts = njit(**QUICK)(space.counts)
_integers = njit(**QUICK)(space.integers)


@njit(**QUICK)
def scratch(d, width, halves_at, counts_at, integers_at, cursor_at, stack_at, lines, keys_at, sample_at):
    """The work space, cut from arrays that come by their addresses: those of ``space.Space``, in its order."""
    halves, counts = carray(halves_at, _halves(d, width)), carray(counts_at, _counts(width))
    integers, keys = carray(integers_at, _integers(d, width)), carray(keys_at, 3 * (d + 1))
    lanes, hits = 3 * width + LANES, width + LANES
    fine = hits + d + 1
    return Scratch(
        halves[:d],
        halves[d : 2 * d],
        counts[:width],
        counts[width : 2 * width],
        counts[2 * width : lanes],
        counts[lanes : lanes + LANES],
        counts[lanes + LANES : lanes + 2 * LANES],
        counts[lanes + 2 * LANES : lanes + 3 * LANES],
        counts[lanes + 3 * LANES : lanes + 4 * LANES],
        integers[width:hits],
        halves[2 * d : 2 * d + width],
        integers[:width],
        carray(cursor_at, width),
        carray(stack_at, (lines, 5)),
        keys[: d + 1],
        keys[d + 1 : 2 * d + 2],
        keys[2 * d + 2 : 3 * d + 3],
        integers[hits:fine],
        integers[fine : fine + (1 << LEVEL_BITS)],
        integers[fine + (1 << LEVEL_BITS) : fine + 2 * (1 << LEVEL_BITS)],
        carray(sample_at, 2 * SAMPLE),
    )

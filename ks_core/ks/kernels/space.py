"""The work space of a thread: NumPy arrays that compiled code is given by their addresses, and cuts up itself.

How they are cut: ``ks_core.ks.kernels.counting.layout``. It knows nothing of numba, which need not be there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Bits of a key that one level of spreading resolves.
LEVEL_BITS = 11
#: Values of each sample that show where most of a row lies.
SAMPLE = 32
#: Stretches of buckets that are added up side by side. They fill vectors, so adding up takes a vector a step.
LANES = 32
#: Values of a row up to which a count of them fits 16 bits; longer rows are counted in 32.
SHORT = 32767


def halves(d: int, width: int) -> int:
    """Entries of uint16: a bucket for each value of both rows, and a number for each bucket."""
    return 2 * d + width


def counts(width: int) -> int:
    """Entries of the counts' type: two tables, the gaps at their edges, and four numbers for each lane."""
    return 3 * width + 5 * LANES


def integers(d: int, width: int) -> int:
    """Entries of int32: a number for each bucket and each lane, a position for each value, two tables of a level of spreading."""
    return width + LANES + (d + 1) + 2 * (1 << LEVEL_BITS)


class Space:
    """Work space for rows of ``d`` values in ``width`` buckets; ``key`` and ``value`` are dtypes of as many bytes."""

    def __init__(self, d: int, width: int, key: Any, value: Any) -> None:
        self.of = d, width, np.dtype(key), np.dtype(value)
        self.width = width
        lines = max(d, width)
        self._arrays = (
            np.zeros(halves(d, width), np.uint16),  # the numbers of buckets have to be 0 before the first row
            np.empty(counts(width), np.int16 if d <= SHORT else np.int32),
            np.empty(integers(d, width), np.int32),
            np.empty(width, np.int64),
            np.empty((lines, 5), np.int64),
            np.empty(3 * (d + 1), key),
            np.empty(2 * SAMPLE, value),
        )

    def arguments(self) -> tuple[Any, ...]:
        """What an entry takes of it, in order: the arrays, and behind the stack, which is the fifth, how many lines it has."""
        return (*self._arrays[:5], len(self._arrays[4]), *self._arrays[5:])

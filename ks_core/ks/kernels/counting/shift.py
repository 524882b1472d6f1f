"""The shift: how far and in which direction a row moved."""

from __future__ import annotations

import numpy as np
from numba import njit

from ks_core.ks.kernels.counting.layout import QUICK


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
def shift(a, b, reach_a, reach_b):
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

"""Gains as shares of other gains, by a paired bootstrap over sentences; shares of a count. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ks_core.translation.bootstrap import Scores, interval

#: Of a normal distribution, 95% lie within so many standard deviations: ``scipy.special.ndtri(0.975)``.
Z = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A gain in points of its metric, and what share it is of another gain, the whole; each with a 95% interval.

    ``gain`` is this run's score minus its base's. ``value`` is that over the ``whole``, ``None`` when that is 0. A share is
    to be shown where it has bounds, which is where the interval of the whole lies above 0: ``low`` and ``high`` are ``None``
    for a whole that may be nothing, and for a loss. Without resamples all bounds are.
    """

    gain: float
    gain_low: float | None
    gain_high: float | None
    value: float | None
    low: float | None
    high: float | None
    whole: float = 0.0
    whole_low: float | None = None
    whole_high: float | None = None


def shares(scores: Scores, none: Scores, full: Scores, full_none: Scores | None = None) -> dict[str, dict[str, Share]]:
    """For every rule and metric, the gain of ``scores`` over ``none`` as a share of that of ``full`` over ``full_none``.

    ``full_none`` is ``none`` unless it is given.
    """
    start = none if full_none is None else full_none
    return {
        rule: {m: share(own[m] - none[rule][m], full[rule][m] - start[rule][m]) for m in own}
        for rule, own in scores.items()
    }


def share(part: np.ndarray, whole: np.ndarray) -> Share:
    """What share of a ``whole`` gain a ``part`` is; both (1 + resamples,), over the same draws, the sample itself first.

    The intervals are percentiles of the draws. Draws without any whole gain have no share and are left out.
    """
    gain, value = float(part[0]), float(part[0] / whole[0]) if whole[0] else None
    if len(part) == 1:
        return Share(gain, None, None, value, None, None, float(whole[0]))
    gain_low, gain_high = interval(part[1:])
    whole_low, whole_high = interval(whole[1:])
    low = high = None
    if value is not None and whole_low > 0:
        usable = whole[1:] != 0
        low, high = interval(part[1:][usable] / whole[1:][usable])
    return Share(gain, gain_low, gain_high, value, low, high, float(whole[0]), whole_low, whole_high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a share of at least one trial (Wilson 1927), which has a width at 0 and at 1 too. As
    ``scipy.stats.binomtest(...).proportion_ci(method="wilson")``, whose import takes most of a second.

    >>> [round(bound, 3) for bound in wilson(0, 64)]
    [0.0, 0.057]
    """
    rate, whole = successes / trials, 2 * (trials + Z**2)
    middle, half = (2 * trials * rate + Z**2) / whole, Z / whole * math.sqrt(4 * trials * rate * (1 - rate) + Z**2)
    return 0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half

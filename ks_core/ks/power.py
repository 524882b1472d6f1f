"""How large a change of a row has to be before the test sees it: power, by the size of the change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ks_core.ks.statistic import critical_value, ks_test

#: Sizes between which power is looked for, in standard deviations of a row; points of a curve; halvings.
SMALLEST, LARGEST, POINTS, HALVINGS = 1e-3, 1e3, 25, 14


@dataclass(frozen=True)
class Power:
    """The share of rows that pass alpha, by the size of a change: ``sizes`` and ``power`` float64 (m,).

    ``change`` is shift or noise, ``rows`` dependent or independent. Sizes are in standard deviations of a row;
    ``half`` and ``eighty`` are those at which 50% and 80% pass, ``inf`` where none below ``LARGEST`` will do.
    """

    change: str
    rows: str
    sizes: np.ndarray
    power: np.ndarray
    half: float
    eighty: float


def detectable_shift(rows: np.ndarray, k: int) -> np.ndarray:
    """What a constant shift of each row (n, d) must exceed for D >= k/d: float64 (n,), in the rows' own unit.

    After a shift by s the largest gap between the two CDFs is the largest share of a row's values in a half-open
    window of length s. So it is the shortest way from a value to the (k - 1)-th after it, in order.

    >>> detectable_shift(np.array([[0.0, 1.0, 1.5, 4.0]]), 2).tolist()
    [0.5]
    """
    if k > rows.shape[1]:
        return np.full(len(rows), math.inf)
    ordered = np.sort(rows, axis=1)
    return (ordered[:, k - 1 :] - ordered[:, : rows.shape[1] - k + 1]).min(axis=1)


def passing(
    rows: np.ndarray, change: str, kind: str, alpha: float, generator: np.random.Generator, device: str
) -> Callable[[float], float]:
    """Size of a change -> share of rows (n, d) with p < alpha, 0 to 1. Randomness is drawn once, so that a curve does not
    jitter.

    Dependent: real rows and the same rows, changed. Independent: two samples of a normal distribution, one of
    them changed; noise of size s widens it by sqrt(1 + s^2).
    """
    critical = critical_value(rows.shape[1], alpha)
    if math.isinf(critical):
        return lambda size: 0.0
    k = round(critical * rows.shape[1])
    scaled = rows / rows.std(axis=1, keepdims=True)
    if (change, kind) == ("shift", "dependent"):
        needed = detectable_shift(scaled, k)
        return lambda size: float((needed < size).mean())
    first, second = (scaled, scaled) if kind == "dependent" else generator.standard_normal((2, *rows.shape))
    noise = generator.standard_normal(rows.shape) if (change, kind) == ("noise", "dependent") else 1.0

    def share(size: float) -> float:
        widened = change == "noise" and kind == "independent"
        after = second * math.sqrt(1 + size**2) if widened else second + size * noise
        return float((ks_test(first, after, device).counts >= k).mean())

    return share


def curve(share: Callable[[float], float], report: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Sizes at which 50% and 80% pass, by halving an interval on a log scale, and the curve around the first.

    Float64 arrays ``sizes`` and ``power`` (m,), as in ``Power``, and ``levels`` (2,). ``report`` is told 0 to 1.
    """
    levels = np.full(2, math.inf)
    for i, target in enumerate((0.5, 0.8)):
        low, high = SMALLEST, LARGEST
        report(0.3 * i)
        if share(high) < target:
            continue
        for step in range(HALVINGS):
            report(0.3 * (i + step / HALVINGS))
            middle = math.sqrt(low * high)
            low, high = (low, middle) if share(middle) >= target else (middle, high)
        levels[i] = high
    centre = levels[0] if math.isfinite(levels[0]) else 1.0
    sizes = np.union1d(np.geomspace(centre / 4, centre * 4, POINTS), levels[np.isfinite(levels)])
    power = np.empty(len(sizes))
    for i, size in enumerate(sizes):
        report(0.6 + 0.4 * i / len(sizes))
        power[i] = share(float(size))
    return {"sizes": sizes, "power": power, "levels": levels}

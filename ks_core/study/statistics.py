"""How far each row of a matrix went from the same row of another, by other statistics than that of Kolmogorov and Smirnov.

All take two arrays (n, d) and give float64 (n,), the larger the further. ``in_blocks`` goes through a matrix a block of rows at a
time, and ``kept`` finds the answer again in the cache of a study. Those of two samples (Cramér and von Mises, Anderson and
Darling, energy, Wasserstein) look at the values of a row as the KS test does, in no order; those of pairs (sign, Wilcoxon) know
which value became which, as they may: a tuned row began as the base row.

    >>> before = np.array([[0.0, 1.0, 2.0, 3.0]])
    >>> wasserstein(before, before + 0.5), mean_shift(before, before + 0.5)
    (array([0.5]), array([0.5]))

Each agrees with scipy's function for one row where scipy has one; ties count as there. None of them knows a token, and none of
the two samples is independent, so what scipy would give as a p-value is no false-positive rate here either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ks_core.checkpoints.matrices import ArrayMatrix, Matrix, blocks, to_floats
from ks_core.errors import PairError
from ks_core.signature import versions

if TYPE_CHECKING:
    from ks_core.study.scan import Study

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]
#: Bytes of one matrix that are looked at in one go; a statistic makes some ten arrays of that size.
BLOCK_BYTES = 8 << 20
#: Raised by one whenever a statistic of the same rows could come out differently than before.
VERSION = 1


def in_blocks(
    function: Statistic,
    before: Matrix | np.ndarray,
    after: Matrix | np.ndarray,
    report: Report = lambda done, total, message: None,
) -> np.ndarray:
    """A statistic of all rows, float64 (n,), a block of rows at a time.

    ``before`` and ``after`` are arrays (n, d) or matrices that are read as they are gone through. ``report`` counts rows, and may
    raise ``Cancelled``. Raises ``PairError`` for shapes that differ.
    """
    first, second = (m if isinstance(m, Matrix) else ArrayMatrix(m) for m in (before, after))
    if first.shape != second.shape:
        raise PairError(
            f"The matrices are {first.shape} before and {second.shape} after. Expected the same rows of the same width."
        )
    rows, width = first.shape
    found = np.zeros(rows)
    name = function.__name__.replace("_", " ")
    for start, stop in blocks(rows, 8 * width, BLOCK_BYTES):
        report(start, rows, name)
        found[start:stop] = function(*(_floats(m, start, stop) for m in (first, second)))
    report(rows, rows, name)
    return found


def kept(
    study: Study,
    function: Statistic,
    before: Matrix | np.ndarray,
    after: Matrix | np.ndarray,
    report: Report = lambda done, total, message: None,
) -> np.ndarray:
    """A statistic of a study's changed rows by ascending token id, float64 (m,): from its cache, or computed now and kept.

    ``before`` and ``after`` are those rows; ``report`` as in ``in_blocks``.
    """
    key = _key(study, function)
    entry = study.cache.load("statistic", key)
    if entry is not None:
        return entry.arrays["values"]
    found = in_blocks(function, before, after, report)
    study.cache.store("statistic", key, {"values": found}, {})
    return found


def is_kept(study: Study, function: Statistic) -> bool:
    """Whether ``kept`` has no more to do than to read."""
    return study.cache.load("statistic", _key(study, function)) is not None


def _key(study: Study, function: Statistic) -> dict[str, object]:
    return {**study.key, "statistic": function.__name__, "statistics": VERSION, "versions": versions("scipy")}


def _floats(matrix: Matrix, start: int, stop: int) -> np.ndarray:
    target = "float64" if matrix.dtype == "float64" else "float32"
    return to_floats(matrix.block(start, stop), matrix.dtype, target)


def l2(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The length of the shift."""
    return np.linalg.norm(_change(before, after), axis=1)


def relative_l2(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The length of the shift over that of the row before; infinite where a row of zeros was moved."""
    length = np.linalg.norm(before.astype(np.float64), axis=1)
    shift = l2(before, after)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(shift == 0, 0.0, shift / length)


def mean_shift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far the mean of the values went, on either side."""
    return np.abs(_change(before, after).mean(axis=1))


def wasserstein(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The mean distance between the values when both are sorted (``scipy.stats.wasserstein_distance``)."""
    return np.abs(_change(np.sort(before, axis=1), np.sort(after, axis=1))).mean(axis=1)


def cramer_von_mises(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """T of ``scipy.stats.cramervonmises_2samp``: the squared distance between the two distribution functions, summed over
    the values (Anderson 1962)."""
    pooled, d = _pooled(before, after), before.shape[1]
    # A value's rank among all, ties at their mean, less its rank in its own sample.
    own = np.cumsum(pooled.is_before, axis=1, dtype=np.float64)
    place = np.where(pooled.is_before, own, np.arange(1, 2 * d + 1) - own)
    rank = (pooled.below + pooled.upto + 1) / 2
    squared = ((rank - place) ** 2).sum(axis=1)
    return squared * d / (d * d * 2 * d) - (4 * d * d - 1) / (12 * d)


def anderson_darling(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A2 of two samples with midranks (Scholz and Stephens 1987, equation 7), before it is standardized: the same, with more
    weight on the ends of the distribution. ``scipy.stats.anderson_ksamp(variant="midrank")`` gives it less its mean, 1, over
    its standard deviation, which the row's width alone decides."""
    pooled, d = _pooled(before, after), before.shape[1]
    n = 2 * d
    ties = (pooled.upto - pooled.below).astype(np.float64)
    middle = (pooled.below + pooled.upto) / 2
    own = (pooled.before_below + pooled.before_upto) / 2
    spread = middle * (n - middle) - n * ties / 4
    with np.errstate(divide="ignore", invalid="ignore"):
        each = (n * own - middle * d) ** 2 / spread
    # Where all values are equal the spread is 0, and so is the numerator.
    each = np.where(spread > 0, each, 0.0)
    # Both samples have the same deviation, as their counts add up to the pooled one.
    return (n - 1) / n * 2 / (n * d) * each.sum(axis=1)


def energy(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The energy distance of ``scipy.stats.energy_distance`` (Székely and Rizzo 2013)."""
    pooled, d = _pooled(before, after), before.shape[1]
    gaps = np.diff(pooled.values.astype(np.float64), axis=1)
    between = (2 * pooled.before_upto[:, :-1] - pooled.upto[:, :-1]) / d
    return np.sqrt(2 * (between**2 * gaps).sum(axis=1))


def sign_test(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Minus the logarithm to base 10 of the sign test's two-sided exact p (``scipy.stats.binomtest`` of how many values rose,
    of those that changed); 0 where none did."""
    from scipy.stats import binom

    change = _change(before, after)
    rose, moved = (change > 0).sum(axis=1), (change != 0).sum(axis=1)
    fewer = np.minimum(rose, moved - rose)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = binom.logcdf(fewer, moved, 0.5)
        # Below the smallest double, the tail is its largest term and a geometric rest of it.
        far = binom.logpmf(fewer, moved, 0.5) - np.log1p(-np.minimum(fewer / np.maximum(moved - fewer + 1, 1), 0.999))
    tail = np.where(np.isfinite(tail), tail, far)
    return np.maximum(0.0, -(tail + np.log(2)) / np.log(10)) * (moved > 0)


def wilcoxon(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The size of z of Wilcoxon's signed-rank test (``scipy.stats.wilcoxon``, asymptotic, zeros left out); 0 for equal rows."""
    from scipy import stats

    change = _change(before, after)
    found = np.zeros(len(change))
    moved = (change != 0).any(axis=1)
    if moved.any():
        found[moved] = np.abs(stats.wilcoxon(change[moved], axis=1, method="asymptotic", correction=False).zstatistic)
    return found


def _change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return after.astype(np.float64) - before.astype(np.float64)


@dataclass(frozen=True)
class _Pooled:
    """Both samples of each row, sorted together; all (n, 2d). ``values``; ``is_before`` bool: of the first sample; ``below`` and
    ``upto`` int: how many of all values are smaller, and at most as large; ``before_below`` and ``before_upto``: the same of
    the first sample's."""

    values: np.ndarray
    is_before: np.ndarray
    below: np.ndarray
    upto: np.ndarray
    before_below: np.ndarray
    before_upto: np.ndarray


def _pooled(before: np.ndarray, after: np.ndarray) -> _Pooled:
    values, is_before = _sorted(before, after)
    n, width = values.shape
    starts = np.ones((n, width), bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]  # -0.0 equals 0.0
    ends = np.ones((n, width), bool)
    ends[:, :-1] = starts[:, 1:]
    place = np.arange(width)
    below = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    upto = np.minimum.accumulate(np.where(ends, place + 1, width)[:, ::-1], axis=1)[:, ::-1]
    counted = np.zeros((n, width + 1), np.int64)
    np.cumsum(is_before, axis=1, out=counted[:, 1:])
    return _Pooled(
        values,
        is_before,
        below,
        upto,
        np.take_along_axis(counted, below, axis=1),
        np.take_along_axis(counted, upto, axis=1),
    )


def _sorted(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of both samples of each row in order, (n, 2d), and which are of the first, bool (n, 2d)."""
    both, d = np.concatenate([before, after], axis=1), before.shape[1]
    if both.dtype != np.float32:
        order = np.argsort(both, axis=1, kind="stable")
        return np.take_along_axis(both, order, axis=1), order < d
    # Whole numbers in the order of the floats, with the sample as a last bit: one sort of values, which is far faster than one of places.
    bits = (both + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    keys = _in_order(bits).astype(np.int64) * 2
    keys[:, :d] += 1
    keys.sort(axis=1)
    return _in_order((keys >> 1).astype(np.int32)).view(np.float32), (keys & 1).astype(bool)


def _in_order(bits: np.ndarray) -> np.ndarray:
    """The bits of float32 as int32 that are in the order of the floats; and those as bits again."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))

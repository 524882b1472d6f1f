"""A case of the calibration: one kind of before and after, with the p-values that it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ks_core.translation.shares import wilson


@dataclass(frozen=True)
class Case:
    """One kind of before and after: ``pvalues`` float64 (n,), exact and two-sided, a row each.

    ``name`` is identical, permuted, noise SIZE, independent, pair, seeds or null; ``size`` the noise's standard
    deviation in those of the row, 0 for all others.
    """

    name: str
    label: str
    pvalues: np.ndarray
    size: float = 0.0

    @property
    def median(self) -> float:
        return float(np.median(self.pvalues)) if len(self.pvalues) else math.nan

    def share_below(self, alpha: float) -> float:
        """The share of rows with p < alpha; NaN when there is no row."""
        return float((self.pvalues < alpha).mean()) if len(self.pvalues) else math.nan

    def interval(self, alpha: float) -> tuple[float, float]:
        """The 95% interval of that share (Wilson, 1927), the rows being a sample; NaN when there is no row."""
        if not len(self.pvalues):
            return math.nan, math.nan
        return wilson(int((self.pvalues < alpha).sum()), len(self.pvalues))

    def density(self, edges: np.ndarray) -> np.ndarray:
        """The histogram as a density, float64 (len(edges) - 1,): 1 in every bin would be uniform."""
        return np.histogram(self.pvalues, edges)[0] / (max(len(self.pvalues), 1) * np.diff(edges))

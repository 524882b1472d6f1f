"""Two kinds of critical value of D side by side: the exact test's and the asymptotic formula's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ks_core.ks.statistic import asymptotic_critical_value, critical_value, exact_pvalue
from ks_core.study.scan import Scan, check_alpha

ALPHAS = (0.2, 0.1, 0.05, 0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class Critical:
    """Two critical values of D for one alpha: the exact test's (``inf`` if none) and the asymptotic formula's.

    ``attained`` is the exact p at the first, NaN if there is none; ``rows`` and ``rows_asymptotic`` say how many
    changed rows of the pair win by either.
    """

    alpha: float
    exact: float
    asymptotic: float
    attained: float
    rows: int
    rows_asymptotic: int


def critical_values(scan: Scan, alphas: Sequence[float] = ALPHAS) -> tuple[Critical, ...]:
    """Exact and asymptotic critical value for each alpha, and how many changed rows of the scan win by them."""
    statistic, found = scan.statistic[scan.changed], []
    for alpha in map(check_alpha, alphas):
        exact, formula = critical_value(scan.dim, alpha), asymptotic_critical_value(scan.dim, alpha)
        attained = exact_pvalue(exact, scan.dim) if exact <= 1 else math.nan
        # D and the exact value are both k/d by one division, so comparing them is exact.
        winning = int((statistic >= exact).sum()), int((statistic > formula).sum())
        found.append(Critical(alpha, exact, formula, attained, *winning))
    return tuple(found)


def critical_sentence(found: Sequence[Critical]) -> str:
    """What follows from the two kinds of critical value."""
    never = [c.alpha for c in found if c.exact > 1]
    said = f"At alpha {max(never):g} and below no D can win, as the rows are too short. " if never else ""
    apart = [c for c in found if c.rows != c.rows_asymptotic]
    if not apart:
        return f"{said}At all {len(found)} alphas the asymptotic formula lets as many of the pair's rows win as the exact test."
    worst = max(apart, key=lambda c: abs(c.rows - c.rows_asymptotic))
    return (
        f"{said}At {len(apart)} of {len(found)} alphas the asymptotic formula lets another number of rows win than the exact "
        f"test does; most so at {worst.alpha:g}, where it is {worst.rows_asymptotic:,} rows instead of {worst.rows:,}."
    )

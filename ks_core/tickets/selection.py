"""Selection rules: which rows of a scan make the ticket.

The paper's rule is p < alpha, row by row. Two corrections for testing many rows at once (Bonferroni,
Benjamini-Hochberg) and a fixed count are offered beside it, labelled as what they are: none of them is in the paper,
and since a tuned row is not independent of the row it started from, none of them makes alpha a false-positive rate here.

A correction is for a family of tests, and which family is a choice. The whole vocabulary is one; but a training of
embedding rows moves those alone that occur in its text. The others have D = 0 and p = 1 whatever happens, and counting
them only makes the correction stricter (the demo: 49,152 rows tested, of which 45,978 could not move). The rules whose
names end in ``-changed`` take the rows that changed. That family is known only after the training, and a row that was
trained and came out as it was is not in it.

Two rules choose by the length and by the direction of the shift, with no test in them: what D is worth beyond these, and
beside a dozen other orders of the same rows, is measured by ``ks_core.ledger``.

A rule of one's own is a function from a scan to the rows that pass, bool (n,), and a line in ``SELECTION_RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ks_core.errors import SettingsError
from ks_core.registry import Entry, Registry
from ks_core.study.scan import Scan, check_alpha


def below_alpha(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """Rows with p < alpha."""
    return scan.pvalue < check_alpha(alpha)


def bonferroni(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """Rows with p < alpha / n, n the number of rows tested."""
    return scan.pvalue < check_alpha(alpha) / len(scan.pvalue)


def benjamini_hochberg(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """The largest i with p_(i) <= i/n * alpha, and all before it."""
    return _stepped_up(scan.pvalue, check_alpha(alpha))


def bonferroni_changed(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """Changed rows with p < alpha / m, m the number of them."""
    return scan.changed & (scan.pvalue < check_alpha(alpha) / max(int(scan.changed.sum()), 1))


def benjamini_hochberg_changed(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """Benjamini-Hochberg's rows among those that changed."""
    chosen = np.zeros(len(scan.pvalue), bool)
    chosen[scan.changed] = _stepped_up(scan.pvalue[scan.changed], check_alpha(alpha))
    return chosen


def _stepped_up(pvalue: np.ndarray, alpha: float) -> np.ndarray:
    """Which p-values (n,) of a family pass the step-up procedure, bool (n,)."""
    n = len(pvalue)
    ascending = np.sort(pvalue)
    passing = np.nonzero(ascending <= alpha * np.arange(1, n + 1) / n)[0]
    return pvalue <= ascending[passing[-1]] if len(passing) else np.zeros(n, bool)


def largest(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """The k rows of largest D, of those that changed. Raises ``SettingsError`` for a k below 1."""
    return _first(scan, scan.order(), k)


def longest(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """The k rows that were moved furthest, by L2."""
    return _first(scan, np.lexsort((scan.token_ids, -scan.l2)), k)


def turned(scan: Scan, alpha: float, k: int) -> np.ndarray:
    """The k rows that were turned furthest: the smallest cosine between before and after; equal ones by L2."""
    return _first(scan, np.lexsort((scan.token_ids, -scan.l2, scan.cosine)), k)


def _first(scan: Scan, order: np.ndarray, k: int) -> np.ndarray:
    """The k first of an order of all positions, of those that changed: bool (n,)."""
    if k < 1:
        raise SettingsError(f"k is {k}. Expected at least 1.")
    chosen = np.zeros(len(order), bool)
    chosen[order[scan.changed[order]][:k]] = True
    return chosen


@dataclass(frozen=True)
class SelectionRule(Entry):
    """A rule: ``function(scan, alpha, k)`` gives the rows that it chooses, bool (n,). ``by_count`` rules heed k, the others alpha."""

    function: Callable[[Scan, float, int], np.ndarray] = below_alpha
    by_count: bool = False


BONFERRONI, BENJAMINI_HOCHBERG = "Bonferroni (1936)", "Benjamini and Hochberg (1995)"

SELECTION_RULES = Registry("rule", [
    SelectionRule("alpha", "p < alpha", "p < alpha, each row by itself (the paper's rule)", "KS-Lottery, arXiv 2402.02801",
                  function=below_alpha),
    SelectionRule("bonferroni", "Bonferroni, all rows", "p < alpha / n, n all rows tested, changed or not",
                  BONFERRONI, function=bonferroni),
    SelectionRule("bonferroni-changed", "Bonferroni, changed rows", "p < alpha / m, m the rows that changed",
                  BONFERRONI, function=bonferroni_changed),
    SelectionRule("benjamini-hochberg", "Benjamini-Hochberg, all rows",
                  "false discovery rate below alpha among all rows tested, changed or not",
                  BENJAMINI_HOCHBERG, function=benjamini_hochberg),
    SelectionRule("benjamini-hochberg-changed", "Benjamini-Hochberg, changed rows",
                  "false discovery rate below alpha among the rows that changed",
                  BENJAMINI_HOCHBERG, function=benjamini_hochberg_changed),
    SelectionRule("count", "Count", "the k rows of largest D, whatever their p", function=largest, by_count=True),
    SelectionRule("l2", "Longest shift", "the k rows of longest shift (L2), whatever their D", function=longest, by_count=True),
    SelectionRule("cosine", "Turned furthest", "the k rows of smallest cosine between before and after, whatever their D",
                  function=turned, by_count=True),
])  # fmt: skip


def select(scan: Scan, *, rule: str = "alpha", alpha: float = 0.05, k: int = 18) -> np.ndarray:
    """Positions (into the scan's arrays) of the rows that a rule chooses, int64, the largest D first.

    ``rule`` is a name of ``SELECTION_RULES``; ``alpha`` serves some, ``k`` others. Raises ``SettingsError`` for a rule,
    alpha or k that cannot be.
    """
    chosen = SELECTION_RULES.find(rule).function(scan, alpha, k)
    order = scan.order()
    return order[chosen[order]]


def sizes(scan: Scan, alphas: Sequence[float] | np.ndarray) -> np.ndarray:
    """How many rows have p < alpha, for each alpha: int64, in the order given."""
    return np.searchsorted(np.sort(scan.pvalue), np.asarray(alphas), side="left")

"""Selection rules: which rows of a scan make the ticket.

The paper's rule is p < alpha, row by row. Two corrections for testing many rows at once (Bonferroni,
Benjamini-Hochberg) and a fixed count are offered beside it, labelled as what they are: none of them is in the paper,
and since a tuned row is not independent of the row it started from, none of them makes alpha a false-positive rate here.

A correction is for a family of tests, and which family is a choice. The whole vocabulary is one; but a training of
embedding rows moves those alone that occur in its text. The others have D = 0 and p = 1 whatever happens, and counting
them only makes the correction stricter (the demo: 49,152 rows tested, of which 45,978 could not move). The rules whose
names end in ``-changed`` take the rows that changed. That family is known only after the training, and a row that was
trained and came out as it was is not in it.

Others take the k first rows of an order (``orders``): of a statistic in the place of D, of what the training met, of what the model said
when the rules were last compared, or at random. What D is worth beside these is measured by ``ks_core.ledger``. Some need the pair's rows, some a training that is known; where
that is not to be had, they are refused with the reason.

A rule of one's own is a function from a scan to the rows that pass, bool (n,), and a line in ``SELECTION_RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import SettingsError, TicketError
from ks_core.registry import Entry, Registry, named
from ks_core.study import statistics
from ks_core.study.scan import Scan, Study, check_alpha
from ks_core.tickets import matching
from ks_core.tickets.changed import NEEDS, Changed, Report
from ks_core.tickets.orders import ORDERS, SCORED, Rule

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: Values of a matrix up to which a statistic of its rows is had in about a second.
QUICK = 4_000_000


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


def _first(scan: Scan, order: np.ndarray, k: int) -> np.ndarray:
    """The k first of an order of all positions, of those that changed: bool (n,)."""
    chosen = np.zeros(len(order), bool)
    chosen[order[scan.changed[order]][: _counted(k)]] = True
    return chosen


def _counted(k: int) -> int:
    if k < 1:
        raise SettingsError(f"k is {k}. Expected at least 1.")
    return k


def beyond_noise(changed: Changed, alpha: float, k: int) -> np.ndarray:
    """Rows whose D fewer than alpha of the trainings on noise reach at the same exposure. Raises ``SettingsError`` for an alpha
    that so many cannot tell."""
    assert changed.null is not None  # ``needs`` was asked before
    if check_alpha(alpha) <= changed.null.least:
        raise SettingsError(
            f"alpha is {alpha:g}, and {changed.null.draws} trainings on noise give no p-value below {changed.null.least:.3g}. Raise alpha "
            "above that."
        )
    return changed.null.pvalues(changed.statistic) < alpha


def matched(changed: Changed, alpha: float, k: int) -> np.ndarray:
    """For each of the k rows of largest D another row, which about as many optimizer steps touched. Raises ``TicketError`` where
    there are too few others."""
    assert changed.steps is not None
    ticket = changed.order(changed.statistic)[: _counted(k)].tolist()
    others = np.setdiff1d(np.nonzero(changed.steps > 0)[0], ticket).tolist()
    if len(others) < len(ticket):
        raise TicketError(
            f"{len(ticket):,} rows are wanted that match as many of largest D, and {len(others):,} other rows were trained. Choose a smaller k."
        )
    often = {n: int(steps) for n, steps in enumerate(changed.steps)}
    return np.isin(np.arange(len(changed)), list(matching.nearest(ticket, others, often, changed.seed).values()))


def structural(changed: Changed, alpha: float, k: int) -> np.ndarray:
    """The row of the line break, or of the colon."""
    return np.isin(changed.token_ids, changed.structural)


def _first_of(rule: Rule) -> Callable[[Changed, float, int], np.ndarray]:
    """The k first rows of an order."""

    def chosen(changed: Changed, alpha: float, k: int) -> np.ndarray:
        first = changed.order(rule.function(changed))[: _counted(k)]
        return np.isin(np.arange(len(changed)), first)

    return chosen


@dataclass(frozen=True)
class SelectionRule(Entry):
    """A rule. ``by_count`` rules heed k, the others alpha.

    ``function(scan, alpha, k)`` gives the rows that it chooses, bool (n,); with ``needs`` it is ``function(changed, alpha, k)`` of the
    changed rows, bool (m,), of which that is known (``changed.NEEDS``; empty: the pair alone). ``measure`` is the statistic of the
    rows that it takes, where it takes one.
    """

    function: Callable[[Any, float, int], np.ndarray] = below_alpha
    by_count: bool = False
    side: str = "pair"
    needs: str | None = None
    measure: statistics.Statistic | None = None


def _by_order(rule: Rule) -> SelectionRule:
    return SelectionRule(
        rule.name, rule.title, f"{rule.about}; the k first", rule.source, _first_of(rule), True, rule.side, rule.needs,
        rule.measure,
    )  # fmt: skip


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
    SelectionRule("count", "Largest D", "the k rows of largest D, whatever their p", ORDERS["d"].source, function=largest, by_count=True),
    SelectionRule("noise", "Beyond noise", "exposure-adjusted p < alpha: how often noise reaches a row's D at the same steps",
                  "this program's, not the paper's; ks_core.tickets.null", function=beyond_noise, side="training", needs="null"),
    # D itself is the rule count, and one structural row is a ticket of one row.
    *(_by_order(rule) for rule in (*ORDERS.values(), *SCORED.values()) if rule.name not in ("d", "structural")),
    SelectionRule("matched", "Matched", "for each of the k rows of largest D another, touched by about as many optimizer steps",
                  "control", function=matched, by_count=True, side="control", needs="steps"),
    SelectionRule("structural", "One structural row", "the row of the line break, or of the colon, alone",
                  ORDERS["structural"].source, function=structural, side="control", needs="structural"),
])  # fmt: skip


def select(
    scan: Scan,
    *,
    rule: str = "alpha",
    alpha: float = 0.05,
    k: int = 18,
    study: Study | None = None,
    report: Report = lambda done, total, message: None,
) -> np.ndarray:
    """Positions (into the scan's arrays) of the rows that a rule chooses, int64, the largest D first.

    ``rule`` is a name of ``SELECTION_RULES``; ``alpha`` serves some, ``k`` others. ``study`` is what the scan is of: rules that need more
    than the scan look there, and keep what they computed in its cache. ``report(done, total, message)`` may raise ``Cancelled``.
    Raises ``SettingsError`` for a rule, alpha or k that cannot be, ``TicketError`` where a rule needs what is not known.
    """
    found = SELECTION_RULES.find(rule)
    if found.needs is None:
        chosen = found.function(scan, alpha, k)
    else:
        chosen = np.zeros(len(scan.pvalue), bool)
        if scan.changed.any():
            changed = _known(found, scan, study, report)
            ids = changed.token_ids[found.function(changed, alpha, k)]
            chosen = scan.changed & np.isin(scan.token_ids, ids)
    order = scan.order()
    return order[chosen[order]]


def is_quick(study: Study, scan: Scan, rule: str) -> bool:
    """Whether ``select`` needs no more than a second or two: a page has a job do what takes longer (``run_selection``)."""
    found = SELECTION_RULES.find(rule)
    if found.measure is not None:
        return int(scan.changed.sum()) * scan.dim <= QUICK or statistics.is_kept(study, found.measure)
    there = NEEDS[found.needs].there if found.needs else ""
    return not there or bool(named(there)(study))


def run_selection(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``selection``: compute what a rule needs, so that a page finds it in the cache.

    ``parameters``: ``base``, ``tuned`` and ``rule``, a name of ``SELECTION_RULES``.
    """
    study = Study(parameters["base"], parameters["tuned"], parameters.get("device", "auto"))
    scan = study.scan(lambda done, total: running.progress(done, total, "testing rows", unit="rows", stage="scan"))
    rule = SELECTION_RULES.find(parameters["rule"])
    if rule.needs is None or not scan.changed.any():
        return {"rows": len(scan.pvalue)}
    changed = _known(
        rule, scan, study, lambda done, total, message: running.progress(done, total, message, stage="rule")
    )
    if rule.measure is not None:
        changed.measured(rule.measure)
    return {"rows": len(changed), "signature": str(scan.signature)}


def _known(rule: SelectionRule, scan: Scan, study: Study | None, report: Report) -> Changed:
    """The changed rows with what a rule needs. Raises ``TicketError`` where that is not known."""
    if study is None:
        if rule.needs == "" and rule.measure is None:
            return Changed.of_scan(scan)
        raise TicketError(
            f"The rule {rule.name} needs the rows themselves, and of this test no more is kept than its result. Choose a rule that goes by "
            "the test, such as alpha or count."
        )
    assert rule.needs is not None
    found = Changed.of_pair(study, scan, report).known(rule.needs)
    if isinstance(found, str):
        raise TicketError(
            f"The rule {rule.name} cannot choose rows here: {found.rstrip('.')}. Choose a rule that needs the pair alone, such as count."
        )
    return found


def sizes(scan: Scan, alphas: Sequence[float] | np.ndarray) -> np.ndarray:
    """How many rows have p < alpha, for each alpha: int64, in the order given."""
    return np.searchsorted(np.sort(scan.pvalue), np.asarray(alphas), side="left")

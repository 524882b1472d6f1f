"""Rules that put the changed rows of a pair in an order: those that compete with D, and controls.

A rule gives every changed row a score; the k rows of largest score are its ticket of k rows. So all rules can be compared at
equal k, which is what ``bakeoff`` does. The rules of ``ks_core.tickets.SELECTION_RULES`` that go by p all take rows in the order
of D, and differ in where they stop: here they are one rule.

A rule of one's own is a function from ``Evidence`` to scores, float64 (m,), and a line in ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ks_core.errors import SettingsError
from ks_core.ledger import statistics
from ks_core.ledger.evidence import Evidence
from ks_core.ledger.statistics import Statistic
from ks_core.registry import Entry, Registry

Score = Callable[[Evidence], np.ndarray]
#: From where a rule knows what it knows.
SIDES = {"pair": "from the pair", "training": "from the training", "model": "from the model", "control": "controls"}


@dataclass(frozen=True)
class Rule(Entry):
    """A rule: ``function(evidence)`` gives scores float64 (m,), the largest first.

    ``side`` is one of ``SIDES``; ``needs`` what has to be known beyond the pair (``evidence.NEEDS``; empty: nothing).
    """

    function: Score = lambda evidence: evidence.statistic
    side: str = "pair"
    needs: str = ""


def _of(statistic: Statistic) -> Score:
    return lambda evidence: evidence.measured(statistic)


def _known(values: np.ndarray | None) -> np.ndarray:
    assert values is not None  # ``needs`` was asked before
    return values


def _adjusted(evidence: Evidence) -> np.ndarray:
    return evidence.statistic - evidence.expected


def _prompt_first(evidence: Evidence) -> np.ndarray:
    # The prompt's words, then the others by how often they were read; neither is more than 2**52 times.
    return _known(evidence.in_prompt) * 2.0**52 + _known(evidence.counts)


def _slope(name: str) -> Score:
    return lambda evidence: getattr(evidence.slopes, name)


def _attributed(evidence: Evidence) -> np.ndarray:
    assert evidence.attribution is not None
    return evidence.attribution.total


def _beyond_noise(evidence: Evidence) -> np.ndarray:
    assert evidence.null is not None
    return evidence.null.excess(evidence.statistic)


def _at_random(evidence: Evidence) -> np.ndarray:
    return np.random.default_rng(evidence.seed).random(len(evidence))


def _structural(evidence: Evidence) -> np.ndarray:
    return np.isin(evidence.token_ids, evidence.structural).astype(float)


TESTED, RAW = "KS-Lottery, arXiv 2402.02801", "the change of the row itself"
MAGNITUDE = "magnitude of change, as in Frankle and Carbin (2019), arXiv 1803.03635, section 7"

RULES = Registry("rule", [
    Rule("d", "D", "largest KS statistic; p < alpha, Bonferroni and Benjamini-Hochberg stop somewhere on the same list", TESTED),
    Rule("l2", "L2", "longest shift", RAW, function=_of(statistics.l2)),
    Rule("relative-l2", "Relative L2", "longest shift for the row's own length", RAW, function=_of(statistics.relative_l2)),
    Rule("cosine", "Cosine", "turned furthest", RAW, function=_of(statistics.cosine_distance)),
    Rule("mean-shift", "Mean shift", "furthest moved mean of the row's values", "the t test's numerator", function=_of(statistics.mean_shift)),
    Rule("wasserstein", "Wasserstein-1", "furthest moved values, sorted", "scipy.stats.wasserstein_distance", function=_of(statistics.wasserstein)),
    Rule("cramer-von-mises", "Cramér-von Mises", "largest T of two samples", "Anderson (1962); scipy.stats.cramervonmises_2samp",
         function=_of(statistics.cramer_von_mises)),
    Rule("anderson-darling", "Anderson-Darling", "largest A2 of two samples", "Scholz and Stephens (1987); scipy.stats.anderson_ksamp",
         function=_of(statistics.anderson_darling)),
    Rule("energy", "Energy", "largest energy distance", "Székely and Rizzo (2013); scipy.stats.energy_distance", function=_of(statistics.energy)),
    Rule("sign", "Sign test", "smallest p of the sign test: the values are paired", "scipy.stats.binomtest", function=_of(statistics.sign_test)),
    Rule("wilcoxon", "Wilcoxon", "largest z of the signed-rank test: the values are paired", "Wilcoxon (1945); scipy.stats.wilcoxon",
         function=_of(statistics.wilcoxon)),
    Rule("d-adjusted", "D beyond its steps", "D, less what rows of as many optimizer steps have", "this program; isotonic regression of D on steps",
         function=_adjusted, side="training", needs="training"),
    Rule("d-noise", "D beyond noise", "D, less what a training on noise gives at the same exposure, in its standard deviations", "this program; "
         "ks_core.ledger.noise", function=_beyond_noise, side="training", needs="null"),
    Rule("steps", "Steps", "most optimizer steps", "counting", function=lambda e: _known(e.steps), side="training", needs="training"),
    Rule("count", "Count", "read most often in the training text", "the paper's control: most frequent tokens", function=lambda e: _known(e.counts),
         side="training", needs="training"),
    Rule("prompt", "Prompt", "the prompt's own words, then the most frequent ones", "an unreviewed replication of KS-Lottery (September 2026)",
         function=_prompt_first, side="training", needs="training"),
    Rule("first-gradient", "First gradient", "longest gradient of the training text at the base", "one step of descent", function=_slope("first"),
         side="training", needs="slopes"),
    Rule("summed-gradient", "Summed gradient", "longest gradients at the base, sentence by sentence", "accumulated |gradient|, at the base",
         function=_slope("summed"), side="training", needs="slopes"),
    Rule("fisher", "Fisher", "largest empirical Fisher information at the base", "Sung, Nair and Raffel (2021), arXiv 2111.09839",
         function=_slope("fisher"), side="training", needs="slopes"),
    Rule("movement", "Movement", "largest gain that the gradient at the base promises for the change", "Sanh, Wolf and Rush (2020), arXiv 2005.07683; "
         "to first order, at the base", function=_slope("movement"), side="training", needs="slopes"),
    Rule("attribution", "Attribution", "largest share of the gain, by integrated gradients on development sentences",
         "Sundararajan, Taly and Yan (2017), arXiv 1703.01365", function=_attributed, side="model", needs="attribution"),
    Rule("left-out", "Left out", "most is lost without it, measured on development sentences for the rows of largest attribution", "leave one out",
         function=lambda e: _known(e.left_out), side="model", needs="left out"),
    Rule("random", "Random", "changed rows at random", "control", function=_at_random, side="control"),
    Rule("bottom", "Smallest D", "smallest KS statistic of those that changed", "control", function=lambda e: -e.statistic, side="control"),
    Rule("structural", "One structural row", "the row of the line break, or of the colon, then the longest shifts",
         "an unreviewed replication of KS-Lottery (September 2026)", function=_structural, side="control", needs="structural"),
])  # fmt: skip


def rankings(evidence: Evidence, names: Sequence[str] = ()) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Token ids of all changed rows in the order of each rule, int64 (m,); and of rules that cannot be made, why.

    ``names`` of ``RULES`` (empty: all). Raises ``SettingsError`` for a name that is none.
    """
    found: dict[str, np.ndarray] = {}
    left: dict[str, str] = {}
    for rule in [RULES.find(name) for name in dict.fromkeys(names or RULES)]:
        reason = evidence.missing(rule.needs)
        if reason:
            left[rule.name] = reason
            continue
        score = np.asarray(rule.function(evidence), float)
        if score.shape != (len(evidence),):
            raise SettingsError(
                f"The rule {rule.name} gives scores of shape {score.shape}. Expected one for each of {len(evidence):,} changed rows."
            )
        found[rule.name] = evidence.token_ids[evidence.order(score)]
    return found, left

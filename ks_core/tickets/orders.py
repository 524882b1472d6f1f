"""Orders of the changed rows of a pair: what a rule gives every row is a score, and its ticket of k rows are the k largest.

``ORDERS`` need no model: they are of the pair alone, of its training where that is known, and controls. ``SCORED`` are of what the model said
of each row when the rules were last compared. Tickets are chosen by both (``selection.SELECTION_RULES``), and ``ks_core.ledger.rules``
compares them with each other.

An order of one's own is a function from ``Changed`` to scores, float64 (m,), and a line in ``ORDERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ks_core.errors import TicketError
from ks_core.registry import Entry, Registry
from ks_core.study import statistics
from ks_core.study.statistics import Statistic
from ks_core.tickets.changed import Changed

Score = Callable[[Any], np.ndarray]
#: From where a rule knows what it knows.
SIDES = {"pair": "from the pair", "training": "from the training", "model": "from the model", "control": "controls"}


def by_statistic(changed: Changed) -> np.ndarray:
    """The KS statistic."""
    return changed.statistic


@dataclass(frozen=True)
class Rule(Entry):
    """An order: ``function(changed)`` gives scores float64 (m,), the largest first.

    ``side`` is one of ``SIDES``; ``needs`` what has to be known beyond the pair (``changed.NEEDS``; empty: nothing);
    ``measure`` the statistic of the rows that it is, where it is one.
    """

    function: Score = by_statistic
    side: str = "pair"
    needs: str = ""
    measure: Statistic | None = None


def _known(values: np.ndarray | None) -> np.ndarray:
    assert values is not None  # ``needs`` was asked before
    return values


def _adjusted(changed: Changed) -> np.ndarray:
    return changed.statistic - changed.expected


def _prompt_first(changed: Changed) -> np.ndarray:
    # The prompt's words, then the others by how often they were read; neither is more than 2**52 times.
    return _known(changed.in_prompt) * 2.0**52 + _known(changed.counts)


def _beyond_noise(changed: Changed) -> np.ndarray:
    assert changed.null is not None
    return changed.null.excess(changed.statistic)


def _recorded(name: str) -> Score:
    return lambda changed: changed.gradients[name]


def _scored(name: str) -> Score:
    def scores(changed: Changed) -> np.ndarray:
        assert changed.scored is not None  # ``needs`` was asked before
        if name not in changed.scored:
            raise TicketError(
                f"The rule {name} was not among those that were last compared for this pair. Compare it on the page Which rule?, or with: "
                "python -m ks_core rules BASE TUNED"
            )
        return changed.scored[name]

    return scores


def _at_random(changed: Changed) -> np.ndarray:
    return np.random.default_rng(changed.seed).random(len(changed))


def _structural(changed: Changed) -> np.ndarray:
    return np.isin(changed.token_ids, changed.structural).astype(float)


def _statistic(name: str, title: str, about: str, source: str, measure: Statistic) -> Rule:
    return Rule(name, title, about, source, function=lambda changed: changed.measured(measure), measure=measure)


TESTED, RAW = "KS-Lottery, arXiv 2402.02801", "the change of the row itself"
REPLICATION = "an unreviewed replication of KS-Lottery (September 2026)"

ORDERS: Registry[Rule] = Registry("rule", [
    Rule("d", "D", "largest KS statistic; p < alpha, Bonferroni and Benjamini-Hochberg stop somewhere on the same list", TESTED),
    Rule("l2", "L2", "longest shift", RAW, function=lambda changed: changed.l2),
    _statistic("relative-l2", "Relative L2", "longest shift for the row's own length", RAW, statistics.relative_l2),
    Rule("cosine", "Cosine", "turned furthest", RAW, function=lambda changed: -changed.cosine),
    _statistic("mean-shift", "Mean shift", "furthest moved mean of the row's values", "the t test's numerator", statistics.mean_shift),
    _statistic("wasserstein", "Wasserstein-1", "furthest moved values, sorted", "scipy.stats.wasserstein_distance", statistics.wasserstein),
    _statistic("cramer-von-mises", "Cramér-von Mises", "largest T of two samples", "Anderson (1962); scipy.stats.cramervonmises_2samp",
               statistics.cramer_von_mises),
    _statistic("anderson-darling", "Anderson-Darling", "largest A2 of two samples", "Scholz and Stephens (1987); scipy.stats.anderson_ksamp",
               statistics.anderson_darling),
    _statistic("energy", "Energy", "largest energy distance", "Székely and Rizzo (2013); scipy.stats.energy_distance", statistics.energy),
    _statistic("sign", "Sign test", "smallest p of the sign test: the values are paired", "scipy.stats.binomtest", statistics.sign_test),
    _statistic("wilcoxon", "Wilcoxon", "largest z of the signed-rank test: the values are paired", "Wilcoxon (1945); scipy.stats.wilcoxon",
               statistics.wilcoxon),
    Rule("d-adjusted", "D beyond its steps", "D, less what rows of as many optimizer steps have", "this program; isotonic regression of D on steps",
         function=_adjusted, side="training", needs="steps"),
    Rule("d-noise", "D beyond noise", "D, less what a training on noise gives at the same exposure, in its standard deviations",
         "this program; ks_core.ledger.noise", function=_beyond_noise, side="training", needs="null"),
    Rule("steps", "Steps", "most optimizer steps", "counting", function=lambda changed: _known(changed.steps), side="training", needs="steps"),
    Rule("frequency", "Frequency", "read most often in the training text", "the paper's control: most frequent tokens",
         function=lambda changed: _known(changed.counts), side="training", needs="training"),
    Rule("prompt", "Prompt", "the prompt's own words, then the most frequent ones", REPLICATION, function=_prompt_first, side="training",
         needs="training"),
    Rule("recorded-gradient", "Accumulated gradient", "longest gradients over all steps, as they were recorded", "accumulated |gradient|, by its root mean square",
         function=_recorded("summed"), side="training", needs="gradients"),
    Rule("recorded-first", "First recorded gradient", "longest gradient in the first record that has the row", "the first steps of descent",
         function=_recorded("first"), side="training", needs="gradients"),
    Rule("random", "Random", "changed rows at random", "control", function=_at_random, side="control"),
    Rule("bottom", "Smallest D", "smallest KS statistic of those that changed", "control", function=lambda changed: -changed.statistic, side="control"),
    Rule("structural", "One structural row", "the row of the line break, or of the colon, then the longest shifts", REPLICATION,
         function=_structural, side="control", needs="structural"),
])  # fmt: skip


def _of_model(name: str, title: str, about: str, source: str, side: str = "training") -> Rule:
    return Rule(name, title, about, source, function=_scored(name), side=side, needs="scored")


SCORED: Registry[Rule] = Registry("rule", [
    _of_model("first-gradient", "First gradient", "longest gradient of the training text at the base", "one step of descent"),
    _of_model("summed-gradient", "Summed gradient", "longest gradients at the base, sentence by sentence", "accumulated |gradient|, at the base"),
    _of_model("fisher", "Fisher", "largest empirical Fisher information at the base", "Sung, Nair and Raffel (2021), arXiv 2111.09839"),
    _of_model("movement", "Movement", "largest gain that the gradient at the base promises for the change", "Sanh, Wolf and Rush (2020), arXiv 2005.07683; "
              "to first order, at the base"),
    _of_model("attribution", "Attribution", "largest share of the gain, by integrated gradients on development sentences",
              "Sundararajan, Taly and Yan (2017), arXiv 1703.01365", side="model"),
    _of_model("left-out", "Left out", "most is lost without it, measured on development sentences for the rows of largest attribution", "leave one out",
              side="model"),
])  # fmt: skip

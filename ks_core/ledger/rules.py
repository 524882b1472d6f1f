"""Rules that put the changed rows of a pair in an order: those that compete with D, and controls.

A rule gives every changed row a score; the k rows of largest score are its ticket of k rows. So all rules can be compared at
equal k, which is what ``bakeoff`` does. Those that need no model are ``ks_core.tickets.orders.ORDERS``, by which tickets are chosen too;
here are also those that need one. The rules of ``ks_core.tickets.SELECTION_RULES`` that go by p all take rows in the order
of D, and differ in where they stop: here they are one rule.

A rule of one's own is a function from ``Evidence`` to scores, float64 (m,), and a line in ``ORDERS``, or in ``RULES`` where it
needs the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ks_core.errors import SettingsError
from ks_core.ledger.evidence import Evidence
from ks_core.registry import Registry
from ks_core.tickets.orders import ORDERS, SIDES as SIDES, Rule, Score


def _slope(name: str) -> Score:
    return lambda evidence: getattr(evidence.slopes, name)


def _attributed(evidence: Evidence) -> np.ndarray:
    assert evidence.attribution is not None  # ``needs`` was asked before
    return evidence.attribution.total


def _left_out(evidence: Evidence) -> np.ndarray:
    assert evidence.left_out is not None
    return evidence.left_out


_OF_THE_MODEL = (
    Rule("first-gradient", "First gradient", "longest gradient of the training text at the base", "one step of descent",
         function=_slope("first"), side="training", needs="slopes"),
    Rule("summed-gradient", "Summed gradient", "longest gradients at the base, sentence by sentence", "accumulated |gradient|, at the base",
         function=_slope("summed"), side="training", needs="slopes"),
    Rule("fisher", "Fisher", "largest empirical Fisher information at the base", "Sung, Nair and Raffel (2021), arXiv 2111.09839",
         function=_slope("fisher"), side="training", needs="slopes"),
    Rule("movement", "Movement", "largest gain that the gradient at the base promises for the change", "Sanh, Wolf and Rush (2020), arXiv 2005.07683; "
         "to first order, at the base", function=_slope("movement"), side="training", needs="slopes"),
    Rule("attribution", "Attribution", "largest share of the gain, by integrated gradients on development sentences",
         "Sundararajan, Taly and Yan (2017), arXiv 1703.01365", function=_attributed, side="model", needs="attribution"),
    Rule("left-out", "Left out", "most is lost without it, measured on development sentences for the rows of largest attribution", "leave one out",
         function=_left_out, side="model", needs="left out"),
)  # fmt: skip

#: Those of the pair and of the training first, then those of the model, the controls last.
RULES = Registry("rule", [
    *(rule for rule in ORDERS.values() if rule.side != "control"), *_OF_THE_MODEL,
    *(rule for rule in ORDERS.values() if rule.side == "control"),
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

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
from dataclasses import replace

import numpy as np

from ks_core.errors import SettingsError
from ks_core.ledger.evidence import Evidence
from ks_core.registry import Registry
from ks_core.tickets.orders import ORDERS, SCORED, SIDES as SIDES, Score


def _slope(name: str) -> Score:
    return lambda evidence: getattr(evidence.slopes, name)


def _attributed(evidence: Evidence) -> np.ndarray:
    assert evidence.attribution is not None  # ``needs`` was asked before
    return evidence.attribution.total


def _left_out(evidence: Evidence) -> np.ndarray:
    assert evidence.left_out is not None
    return evidence.left_out


#: How those of ``orders.SCORED`` are made here, and what each needs: tickets find what was made.
_MADE: dict[str, tuple[Score, str]] = {
    "first-gradient": (_slope("first"), "slopes"), "summed-gradient": (_slope("summed"), "slopes"), "fisher": (_slope("fisher"), "slopes"),
    "movement": (_slope("movement"), "slopes"), "attribution": (_attributed, "attribution"), "left-out": (_left_out, "left out"),
}  # fmt: skip
_OF_THE_MODEL = tuple(
    replace(rule, function=_MADE[rule.name][0], needs=_MADE[rule.name][1]) for rule in SCORED.values()
)

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


def scores(evidence: Evidence) -> dict[str, np.ndarray]:
    """What the model's rules give each changed row, float64 (m,) by the rule's name, as far as it is known."""
    known = (rule for rule in _OF_THE_MODEL if not evidence.missing(rule.needs))
    return {rule.name: np.asarray(rule.function(evidence), float) for rule in known}

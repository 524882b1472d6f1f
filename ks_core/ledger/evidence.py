"""What is known of each changed row of a pair, what the model says of it included: what the rules of ``rules`` order the rows by.

Comes from three sides: from the pair alone (both matrices) and the training where it is written down (``ks_core.tickets.changed``),
and from the model, by gradients. What is not known is left out with the reason, and so is every rule that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ks_core.tickets import changed
from ks_core.tickets.changed import Changed, structural_row as structural_row

if TYPE_CHECKING:
    from ks_core.ledger.attribution import Attribution, Slopes

#: What a rule may need beyond the pair, and what is said where it is not there.
NEEDS = {
    **{need.name: need.about for need in changed.NEEDS.values()},
    "slopes": "no gradient was taken on the training text",
    "attribution": "no attribution was made",
    "left out": "no row was left out by itself",
}


@dataclass(frozen=True)
class Evidence(Changed):
    """The changed rows of a pair by ascending token id, m of them, with what the model says of them.

    ``slopes`` and ``attribution`` are gradients' answers; ``left_out`` is what leaving out the rows of largest attribution takes,
    NaN for others, float64 (m,).
    """

    slopes: Slopes | None = field(default=None, repr=False)
    attribution: Attribution | None = field(default=None, repr=False)
    left_out: np.ndarray | None = field(default=None, repr=False)

    def has(self, need: str) -> bool:
        """Whether what a rule needs is there; so it is for a rule that needs nothing."""
        if need in changed.NEEDS or not need:
            return super().has(need)
        return {
            "slopes": self.slopes is not None, "attribution": self.attribution is not None, "left out": self.left_out is not None,
        }[need]  # fmt: skip

    def missing(self, need: str) -> str:
        """Why what a rule needs is not there; empty where it is, and for a rule that needs nothing."""
        return "" if self.has(need) else NEEDS[need]

"""What is known of each changed row of a pair: what the rules of ``rules`` order the rows by.

Comes from three sides: from the pair alone (both matrices), from the training where it is written down, and from the model, by
gradients. What is not known is left out with the reason, and so is every rule that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.matrices import take, to_floats
from ks_core.errors import PairError
from ks_core.ledger import statistics
from ks_core.study.scan import Scan, Study, readable

if TYPE_CHECKING:
    from ks_core.ledger.attribution import Attribution, Slopes
    from ks_core.ledger.noise import Null

#: What a rule may need beyond the pair, and what is said where it is not there.
NEEDS = {
    "training": "how this checkpoint was trained is not written down",
    "slopes": "no gradient was taken on the training text",
    "attribution": "no attribution was made",
    "left out": "no row was left out by itself",
    "null": "no training on noise was done, or how this checkpoint was trained is not written down",
    "structural": "neither the row of the line break nor that of the colon changed",
}


def structural_row(study: Study) -> tuple[int, ...]:
    """The newline's id, or the colon's: a row of the prompt's frame. Empty where the base's vocabulary has neither."""
    vocabulary = study.base.vocabulary
    for text in ("\n", ":") if vocabulary else ():
        found = vocabulary.ids_of(text)  # type: ignore[union-attr]
        if found:
            return (found[0],)
    return ()


@dataclass(frozen=True)
class Evidence:
    """The changed rows of a pair by ascending token id, m of them.

    ``token_ids`` int64 (m,); ``tokens`` their readable strings; ``statistic`` (D), ``pvalue``, ``l2`` and ``cosine`` float64 (m,)
    as the scan has them; ``before`` and ``after`` float32 (m, d). Of the training: ``steps``, ``counts`` and ``in_prompt``
    float64 (m,). ``left_out`` is what leaving out the rows of largest attribution takes, NaN for others, float64 (m,);
    ``structural`` the row of the line break or the colon, if it changed; ``seed`` decides the rows at random.
    """

    token_ids: np.ndarray
    tokens: tuple[str, ...]
    statistic: np.ndarray
    pvalue: np.ndarray
    l2: np.ndarray
    cosine: np.ndarray
    before: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    steps: np.ndarray | None = field(default=None, repr=False)
    counts: np.ndarray | None = field(default=None, repr=False)
    in_prompt: np.ndarray | None = field(default=None, repr=False)
    slopes: Slopes | None = field(default=None, repr=False)
    attribution: Attribution | None = field(default=None, repr=False)
    left_out: np.ndarray | None = field(default=None, repr=False)
    null: Null | None = field(default=None, repr=False)
    structural: tuple[int, ...] = ()
    seed: int = 0

    @classmethod
    def of_pair(cls, study: Study, scan: Scan) -> Evidence:
        """What the pair alone says. Raises ``PairError`` where no row changed."""
        changed = np.nonzero(scan.changed)[0]
        if not len(changed):
            raise PairError(
                "All rows are equal before and after, so there is no rule to compare and nothing to attribute. Name a checkpoint "
                "and its fine-tuning."
            )
        changed = changed[np.argsort(scan.token_ids[changed])]
        ids = scan.token_ids[changed]
        strings, pair = study.token_strings(), study.pair
        return cls(
            ids, tuple(readable(strings, int(i)) for i in ids), scan.statistic[changed], scan.pvalue[changed], scan.l2[changed],
            scan.cosine[changed], to_floats(take(pair.before, changed), pair.before.dtype),
            to_floats(take(pair.after, changed), pair.after.dtype), structural=tuple(i for i in structural_row(study) if i in ids),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.token_ids)

    def with_training(self, steps: Mapping[int, int], counts: Mapping[int, int], prompt: Sequence[int]) -> Evidence:
        """The same with what a training met: token id -> optimizer steps and occurrences, and ids of the prompt's own words."""

        def column(given: Mapping[int, int]) -> np.ndarray:
            return np.array([given.get(int(i), 0) for i in self.token_ids], float)

        return replace(
            self,
            steps=column(steps),
            counts=column(counts),
            in_prompt=np.isin(self.token_ids, list(prompt)).astype(float),
        )

    def missing(self, need: str) -> str:
        """Why what a rule needs is not there; empty where it is, and for a rule that needs nothing."""
        there = {
            "": True, "training": self.steps is not None, "slopes": self.slopes is not None,
            "attribution": self.attribution is not None, "left out": self.left_out is not None, "null": self.null is not None,
            "structural": bool(self.structural),
        }  # fmt: skip
        return "" if there[need] else NEEDS[need]

    def measured(self, function: statistics.Statistic) -> np.ndarray:
        """A statistic of the pair's rows, float64 (m,)."""
        return statistics.in_blocks(function, self.before, self.after)

    @cached_property
    def expected(self) -> np.ndarray:
        """The D that rows of as many steps have, float64 (m,): the nearest function of the steps that nowhere falls (isotonic
        regression). Asked for where the steps are known."""
        from scipy.optimize import isotonic_regression

        assert self.steps is not None
        order = np.lexsort((self.token_ids, self.steps))
        # Rows of equally many steps are one point, at their mean.
        _, place, many = np.unique(self.steps[order], return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=self.statistic[order]) / many
        found = np.empty(len(self))
        found[order] = isotonic_regression(mean, weights=many.astype(float)).x[place]
        return found

    def order(self, score: Any) -> np.ndarray:
        """Positions of the rows from the largest score to the smallest; equal ones by shift, then by id. NaN comes last."""
        score = np.where(np.isnan(score), -np.inf, score)
        return np.lexsort((self.token_ids, -self.l2, -score))

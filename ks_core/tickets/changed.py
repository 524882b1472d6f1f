"""The changed rows of a pair, and what is known of each: what ``orders`` and ``selection`` choose by.

Comes from the pair (both matrices, the scan) and, where it is written down, from the training. What is not known stays ``None``,
and who would know it is asked by ``known``: rooms above this one, by name (``NEEDS``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ks_core.checkpoints.matrices import GatheredMatrix, Matrix
from ks_core.errors import PairError
from ks_core.registry import Entry, Registry, named
from ks_core.study import statistics
from ks_core.study.scan import Scan, Study, readable

if TYPE_CHECKING:
    from ks_core.tickets.null import Null

#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]


def _silent(done: int, total: int, message: str) -> None:
    """Nobody asked how far it is."""


@dataclass(frozen=True)
class Need(Entry):
    """What a rule may need beyond the pair; ``about`` is what is said where it is not known.

    ``who`` names who knows it, as ``module:function``: ``function(changed, report)`` gives the same rows with it, or the reason
    why not. ``there`` names ``function(study)``, whether that is had at once. Empty where nobody is asked.
    """

    who: str = ""
    there: str = ""


NEEDS = Registry("need", [
    Need("steps", "Optimizer steps of a row", "how this checkpoint was trained is not written down",
         who="ks_core.ledger.exposure:with_steps"),
    Need("training", "How the rows were trained", "how this checkpoint was trained is not written down",
         who="ks_core.ledger.exposure:with_training"),
    Need("null", "A training on noise", "no training on noise was done, or how this checkpoint was trained is not written down",
         who="ks_core.ledger.exposure:with_null", there="ks_core.ledger.exposure:is_null_kept"),
    Need("gradients", "Recorded gradients", "no gradients of rows were recorded while this checkpoint was trained (KSLotteryCallback does)",
         who="ks_core.ledger.exposure:with_gradients"),
    Need("scored", "What the model says of the rows", "its rows were not put through the model yet, as the page Which rule? does, and "
         "python -m ks_core rules", who="ks_core.ledger.newest:with_scores"),
    Need("structural", "A structural row", "neither the row of the line break nor that of the colon changed"),
])  # fmt: skip


def structural_row(study: Study) -> tuple[int, ...]:
    """The newline's id, or the colon's: a row of the prompt's frame. Empty where the base's vocabulary has neither."""
    vocabulary = study.base.vocabulary
    for text in ("\n", ":") if vocabulary else ():
        found = vocabulary.ids_of(text)  # type: ignore[union-attr]
        if found:
            return (found[0],)
    return ()


@dataclass(frozen=True)
class Changed:
    """The changed rows of a pair by ascending token id, m of them.

    ``token_ids`` int64 (m,); ``tokens`` their readable strings; ``statistic`` (D), ``pvalue``, ``l2`` and ``cosine`` float64 (m,)
    as the scan has them; ``before`` and ``after`` (m, d), read when a statistic asks for them. Of the training: ``steps``,
    ``counts`` and ``in_prompt`` float64 (m,); ``null``, what noise gives; ``gradients`` recorded numbers by name, float64 (m,)
    each; ``scored`` what the model said of each row, by the rule's name. ``structural`` is the row of the line break or the colon, if it changed; ``seed`` decides the rows at random.
    ``study`` is whose cache keeps the statistics.
    """

    token_ids: np.ndarray
    tokens: tuple[str, ...]
    statistic: np.ndarray
    pvalue: np.ndarray
    l2: np.ndarray
    cosine: np.ndarray
    before: Matrix | np.ndarray = field(repr=False)
    after: Matrix | np.ndarray = field(repr=False)
    steps: np.ndarray | None = field(default=None, repr=False)
    counts: np.ndarray | None = field(default=None, repr=False)
    in_prompt: np.ndarray | None = field(default=None, repr=False)
    null: Null | None = field(default=None, repr=False)
    gradients: Mapping[str, np.ndarray] | None = field(default=None, repr=False)
    scored: Mapping[str, np.ndarray] | None = field(default=None, repr=False)
    structural: tuple[int, ...] = ()
    seed: int = 0
    study: Study | None = field(default=None, repr=False, compare=False)
    report: Report = field(default=_silent, repr=False, compare=False)

    @classmethod
    def of_pair(cls, study: Study, scan: Scan, report: Report = _silent) -> Self:
        """What the pair alone says. Raises ``PairError`` where no row changed."""
        found, pair = cls.of_scan(scan), study.pair
        places = _places(scan)
        strings = study.token_strings()
        return replace(
            found,
            tokens=tuple(readable(strings, int(i)) for i in found.token_ids),
            before=GatheredMatrix(pair.before, places),
            after=GatheredMatrix(pair.after, places),
            structural=tuple(i for i in structural_row(study) if i in found.token_ids),
            study=study,
            report=report,
        )

    @classmethod
    def of_scan(cls, scan: Scan) -> Self:
        """What the scan alone says: neither the rows nor their tokens. Raises ``PairError`` where no row changed."""
        places = _places(scan)
        if not len(places):
            raise PairError(
                "All rows are equal before and after, so there is no rule to compare and nothing to attribute. Name a checkpoint "
                "and its fine-tuning."
            )
        nothing = np.zeros((len(places), 0))
        return cls(
            scan.token_ids[places], (), scan.statistic[places], scan.pvalue[places], scan.l2[places], scan.cosine[places], nothing, nothing
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.token_ids)

    def with_training(self, steps: Mapping[int, int], counts: Mapping[int, int], prompt: Sequence[int]) -> Self:
        """The same with what a training met: token id -> optimizer steps and occurrences, and ids of the prompt's own words."""

        def column(given: Mapping[int, int]) -> np.ndarray:
            return np.array([given.get(int(i), 0) for i in self.token_ids], float)

        return replace(
            self,
            steps=column(steps),
            counts=column(counts),
            in_prompt=np.isin(self.token_ids, list(prompt)).astype(float),
        )

    def has(self, need: str) -> bool:
        """Whether what a rule needs is there; so it is for a rule that needs nothing."""
        there = {
            "": True, "steps": self.steps is not None, "training": self.counts is not None, "null": self.null is not None,
            "gradients": self.gradients is not None, "scored": self.scored is not None,
            "structural": bool(self.structural),
        }  # fmt: skip
        return there[need]

    def known(self, need: str) -> Self | str:
        """The same with what a rule needs, asked of who knows it (``NEEDS``); or the reason why nobody does."""
        if self.has(need):
            return self
        entry = NEEDS[need]
        if not entry.who or self.study is None:
            return entry.about
        found: Self | str = named(entry.who)(self, self.report)
        return found

    def measured(self, function: statistics.Statistic) -> np.ndarray:
        """A statistic of the pair's rows, float64 (m,); kept where the study is known."""
        if self.study is None:
            return statistics.in_blocks(function, self.before, self.after, self.report)
        return statistics.kept(self.study, function, self.before, self.after, self.report)

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


def _places(scan: Scan) -> np.ndarray:
    """Positions of the changed rows by ascending token id, int64 (m,)."""
    changed = np.nonzero(scan.changed)[0]
    return changed[np.argsort(scan.token_ids[changed])]

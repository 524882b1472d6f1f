"""Does one do as well as another? A test with a margin that is stated before: yes, no, or not decided.

"Performs as well as" is no claim that a missing difference shows: few sentences show no difference of anything. So the question
is whether the one is worse by no more than a margin. Yes where the one-sided 97.5% bound of the paired difference lies above
minus the margin, no where the bound on the other side lies below it, and not decided else. These bounds are the ends of the
two-sided 95% interval. The margin is a choice, and the answer is worth no more than it.

How many sentences would decide it follows from the paired differences' variance. With the difference d seen here taken for the
true one, margin m, and s2 the variance of a sentence's paired difference, the test says what is true in 80% of cases with

    n = s2 (1.960 + 0.842)^2 / (d + m)^2

sentences (Blackwelder 1982, Controlled Clinical Trials 3(4); Julious 2004, Statistics in Medicine 23(12), section 5). What several
trainings add to the variance no sentence takes away: it is first taken off (d + m)^2 / (1.960 + 0.842)^2, and where nothing is
left, no number of sentences decides it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from ks_core.errors import SettingsError
from ks_core.ledger.seeds import Found
from ks_core.translation.bootstrap import RESAMPLES, Bootstrap
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.generation import Generation

#: Margins unless somebody says otherwise: in nats a target token, of which 0.1 makes a token 10% less likely, and in points of chrF.
MARGINS = {"nats": 0.1, "chrF": 2.0}
#: Whether one does as well as another, within the margin.
YES, NO, OPEN = "yes", "no", "not decided"
#: How often the test is to say what is true.
POWER = 0.8
#: More sentences than this are not told apart from none.
MOST = 10_000_000


@dataclass(frozen=True)
class NonInferiority:
    """Whether ``own`` does as well as ``other``, in words. ``value`` is by how much it is better, in ``unit``, with its 95% interval;
    ``answer`` one of ``YES``, ``NO``, ``OPEN`` on ``sentences`` references; ``needed`` how many would decide it, ``None`` where no
    number would."""

    own: str
    other: str
    unit: str
    margin: float
    value: float
    low: float
    high: float
    answer: str
    sentences: int
    needed: int | None

    @property
    def sentence(self) -> str:
        """The answer, for a person."""
        unit = "nats a token" if self.unit == "nats" else self.unit
        digits = 3 if self.unit == "nats" else 1
        said = {YES: "yes", NO: "no, it does worse by more than that", OPEN: "not decided"}[self.answer]
        found = (
            f"Does {self.own} do as well as {self.other}, but for {self.margin:g} {unit}? {said[0].upper()}{said[1:]}: "
            f"{self.value:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}] on {self.sentences:,} references."
        )
        if self.answer != OPEN:
            return found
        if self.needed is None:
            return found + " If this difference is the true one, no number of references would decide it."
        return (
            found
            + f" About {max(self.needed, self.sentences + 1):,} references would decide it, if this difference is the true one."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the sentence."""
        return {**asdict(self), "sentence": self.sentence}


def judged(found: Found, margin: float, *, sentences: int, own: str, other: str, unit: str = "nats") -> NonInferiority:
    """The answer of a paired difference, positive where ``own`` is better, on so many sentences.

    Raises ``SettingsError`` for a margin that is not above 0.
    """
    if not margin > 0 or not math.isfinite(margin):
        raise SettingsError(
            f"The margin is {margin}. Expected a number above 0: by how much one may be worse and still count as good as the other."
        )
    low, high = found.interval
    answer = YES if low > -margin else NO if high < -margin else OPEN
    needed = _needed(found, margin, sentences)
    return NonInferiority(own, other, unit, margin, found.value, low, high, answer, sentences, needed)


def of_answers(
    own: Sequence[Generation],
    other: Sequence[Generation],
    references: Sequence[str],
    target_language: str,
    margin: float = MARGINS["chrF"],
    *,
    names: tuple[str, str] = ("one", "the other"),
    rule: str = "first_line",
    resamples: int = RESAMPLES,
) -> NonInferiority:
    """The same in chrF, of answers to the same sentences, cut by an extraction rule.

    Raises ``SettingsError`` for a margin that is not above 0, and for answers that are not as many as the references.
    """
    EXTRACTION_RULES.find(rule)
    if not len(own) == len(other) == len(references) or not references:
        raise SettingsError(
            f"{len(own)} and {len(other)} answers to {len(references)} references were to be compared. Expected as many of each, and one at least."
        )
    bootstrap = Bootstrap(references, target_language, resamples)
    scores = [bootstrap.scores("chrf", [a.answer(rule) for a in answers]) for answers in (own, other)]
    difference = scores[0] - scores[1]
    spread = float(difference[1:].var(ddof=1)) if len(difference) > 2 else 0.0
    found = Found(difference, 1, of_sentences=spread)
    return judged(found, margin, sentences=len(references), own=names[0], other=names[1], unit="chrF")


def _needed(found: Found, margin: float, sentences: int) -> int | None:
    """How many sentences would decide it; ``None`` where no number would."""
    normal = NormalDist()
    allowed = ((found.value + margin) / (normal.inv_cdf(0.975) + normal.inv_cdf(POWER))) ** 2 - found.of_seeds
    # The variance of a mean of n sentences, times n, is that of a sentence.
    needed = found.of_sentences * sentences / allowed if allowed > 0 else math.inf
    return max(2, math.ceil(needed)) if needed <= MOST else None

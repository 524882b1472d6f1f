"""Scores of answers that are no translations: how much of the reference an answer has in its order, and whether it is the reference.

ROUGE-L (Lin 2004) is the harmonic mean of the shares of the answer's and of the reference's words that stand in their longest common
subsequence. Words are runs of letters and digits of any script, in lower case: the usual package keeps those of English alone.
Exact match takes runs of white space for one space, and minds case. Both are means over answers, 0 to 100.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from ks_core.signature import versions


def words(text: str) -> list[str]:
    """The words of a text as ROUGE-L counts them.

    >>> words("L'été, 2 fois!")
    ['l', 'été', '2', 'fois']
    """
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).casefold())


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a bit for each word of the first (Hyyrö 2004).

    >>> common("the cat sat on the mat".split(), "the mat and the cat".split())
    3
    """
    places: dict[str, int] = {}
    for n, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << n
    every = (1 << len(one)) - 1
    left = every  # a zero for each step of the subsequence so far
    for word in other:
        met = left & places.get(word, 0)
        left = ((left + met) | (left - met)) & every
    return len(one) - left.bit_count()


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L of an answer, 0 to 1; 0 where either has no word."""
    own, wanted = words(answer), words(reference)
    shared = common(own, wanted)
    return 2 * shared / (len(own) + len(wanted)) if shared else 0.0


def exact(answer: str, reference: str) -> float:
    """1 where an answer is its reference but for white space, 0 elsewhere."""
    own, wanted = (" ".join(unicodedata.normalize("NFC", text).split()) for text in (answer, reference))
    return float(own == wanted)


class MeanMetric:
    """The mean of a score of each answer against its reference, in percent; in form a ``metrics.Metric``."""

    def __init__(self, name: str, score: Callable[[str, str], float], references: Sequence[str], facts: str) -> None:
        self.name, self._score, self._references, self._facts = name, score, references, facts

    def counts(self, answers: Sequence[str]) -> np.ndarray:
        """The score of each answer, and that it is one: float64 (answers, 2)."""
        return np.array([(self._score(a, r), 1.0) for a, r in zip(answers, self._references, strict=True)])

    def scores(self, sums: np.ndarray) -> np.ndarray:
        """The score of each sum of counts: float64 (sums,) from (sums, 2)."""
        return 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)

    def signature(self, **facts: object) -> str:
        """How it was made, in the manner of sacrebleu's signatures."""
        told = [f"{key}:{value}" for key, value in facts.items()]
        version = versions()
        return "|".join([self._facts, *told, *(f"{key}:{value}" for key, value in version.items())])


def over(references: Sequence[str]) -> dict[str, MeanMetric]:
    """The metrics of text to text that are this program's own, over one reference each: ``rouge`` and ``exact``."""
    return {
        "rouge": MeanMetric("rouge", rouge_l, references, "rouge:L|f1|case:lower|words:letters and digits|mean"),
        "exact": MeanMetric("exact", exact, references, "exact|case:mixed|space:one|mean"),
    }

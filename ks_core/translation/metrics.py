"""Metrics: sacrebleu's BLEU, chrF and TER for a language, what each counts in a sentence, and scores from sums of counts.

sacrebleu computes a corpus score from counts that are summed over sentences, so that a resample of sentences is a weighted
sum. Its formulas stand here once more for many sums at once; the tests hold them to sacrebleu's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ks_core.translation import languages, overlap, subwords
from ks_core.translation.overlap import MeanMetric
from ks_core.translation.tasks import TASKS

#: What people call each metric.
TITLES = {"bleu": "BLEU", "chrf": "chrF", "ter": "TER", "spbleu": "spBLEU", "rouge": "ROUGE-L", "exact": "Exact match"}
#: The tokenizers of sacrebleu for scripts that TER splits into characters (its ``asian_support``).
_CJK = ("zh", "ja-mecab", "ko-mecab")


@lru_cache(maxsize=8)
def _works(tokenizer: str) -> bool:
    """Whether a tokenizer of sacrebleu has its package and its dictionary here."""
    from sacrebleu.metrics import BLEU

    try:
        BLEU(tokenize=tokenizer)
    except (RuntimeError, ImportError, AssertionError):  # no package, no dictionary, another dictionary
        return False
    return True


def tokenizer_for(target_language: str) -> str:
    """The tokenizer that BLEU takes for a language (``languages.TOKENIZERS``), or ``char`` where that is not installed."""
    found = languages.find(target_language)
    wanted = found.tokenizer if found else languages.DEFAULT_TOKENIZER
    return wanted if _works(wanted) else "char"


def notes(target_language: str) -> list[str]:
    """What a person should know about the scores of a language, in sentences; nothing where there is none, in text to text."""
    if not target_language:
        return []
    found, used = languages.find(target_language), tokenizer_for(target_language)
    said = []
    if found is None:
        said.append(
            f"{target_language} is no language that is known here, so BLEU takes words between spaces (tokenizer 13a). "
            "If it has a code, such as fr or zho_Hans, name it by that."
        )
    elif used != found.tokenizer:
        package = f"sacrebleu[{found.tokenizer[:2]}]"
        said.append(
            f"BLEU counts characters: sacrebleu's tokenizer for {found.name}, {found.tokenizer}, is not installed "
            f"(pip install '{package}')."
        )
    elif used == "char":
        said.append(f"BLEU counts characters: {found.name} has no spaces between words, and sacrebleu no words for it.")
    pieces = subwords.find()
    return [*said, pieces] if isinstance(pieces, str) else said


class Metric:
    """One of sacrebleu's metrics over fixed references."""

    def __init__(self, name: str, own: Any, facts: dict[str, str]) -> None:
        self.name, self._own, self._facts = name, own, facts
        self._known: dict[tuple[int, str], list[float]] = {}

    def counts(self, answers: Sequence[str]) -> np.ndarray:
        """What sacrebleu counts in each answer, in the order of the references: float64 (answers, counts)."""
        own = self._own
        found = []
        for n, answer in enumerate(answers):
            if (n, answer) not in self._known:  # the rules often leave the same answer
                text = own._preprocess_segment(answer)
                self._known[n, answer] = own._compute_segment_statistics(text, own._ref_cache[n])
            found.append(self._known[n, answer])
        return np.asarray(found, dtype=np.float64)

    def scores(self, sums: np.ndarray) -> np.ndarray:
        """The score of each sum of counts: float64 (sums,) from (sums, counts)."""
        return {"chrf": _chrf, "ter": _ter}.get(self.name, _bleu)(sums)

    def signature(self, **facts: Any) -> str:
        """sacrebleu's signature with more facts before its version."""
        made = self._own.get_signature()
        for key, value in (self._facts | facts).items():
            made.update(key, value)
        return str(made)


def leading(names: Iterable[str]) -> str:
    """Of the metrics that something was scored by the one that tables lead with: BLEU, or that of text to text."""
    found = set(names)
    return next((task.compared[0] for task in TASKS.values() if task.compared[0] in found), "chrf")


def metrics(target_language: str, references: Sequence[str]) -> dict[str, Metric | MeanMetric]:
    """The metrics of a target language over one reference each: ``bleu``, ``chrf``, ``ter``, and ``spbleu`` where it can be; without a
    language, of text to text, ``rouge``, ``chrf`` and ``exact``."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    if not target_language:
        own_ones = overlap.over(references)
        return {
            "rouge": own_ones["rouge"], "chrf": Metric("chrf", CHRF(references=[list(references)]), {}), "exact": own_ones["exact"],
        }  # fmt: skip
    found, used = languages.find(target_language), tokenizer_for(target_language)
    about: dict[str, str] = {}
    if found is None:
        about["lang"] = "unknown"
    elif used != found.tokenizer:
        about["missing"] = found.tokenizer
    asian = used in _CJK or about.get("missing") in _CJK
    over = [list(references)]
    made: dict[str, Metric | MeanMetric] = {
        "bleu": Metric("bleu", BLEU(tokenize=used, references=over), about),
        "chrf": Metric("chrf", CHRF(references=over), {}),
        "ter": Metric("ter", TER(asian_support=asian, normalized=asian, references=over), {}),
    }
    pieces = subwords.find()
    if isinstance(pieces, subwords.Pieces):
        own: Any = BLEU(tokenize="none")  # by its name, sacrebleu would fetch the model where it is not
        own.tokenizer, own.tokenizer_signature = pieces, pieces.signature()
        own._ref_cache = own._cache_references(over)
        made["spbleu"] = Metric("spbleu", own, {"spm": pieces.sha256[:12]})
    return made


def _bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU-4 with exponential smoothing (Papineni et al. 2002; Chen and Cherry 2014, method 3), 0 to 100.

    Counts: length, length of the reference, matched 1- to 4-grams, all 1- to 4-grams.
    """
    length, reference, matched, found = sums[:, 0], sums[:, 1], sums[:, 2:6], sums[:, 6:10]
    usable = matched.any(axis=1) & (found > 0).all(axis=1)
    divisor = np.where(found > 0, found, 1)
    smoothed = 0.5 ** np.cumsum(matched == 0, axis=1)  # half a match for the first order that has none, then a quarter
    precision = np.where(matched > 0, matched, smoothed) / divisor
    brevity = np.exp(np.minimum(0, 1 - reference / np.where(length > 0, length, 1)))
    return np.where(usable, np.minimum(100, 100 * brevity * np.exp(np.log(precision).mean(axis=1))), 0.0)


def _chrf(sums: np.ndarray) -> np.ndarray:
    """chrF with 6 orders of characters and beta 2 (Popović 2015), 0 to 100: means over the orders that both sides have.

    Counts, three an order: n-grams of the answer, of the reference, matched.
    """
    answer, reference, matched = (sums.reshape(len(sums), -1, 3)[:, :, n] for n in range(3))
    both = (answer > 0) & (reference > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = np.divide(matched, answer, out=np.zeros_like(matched), where=both).sum(axis=1) / orders
    recall = np.divide(matched, reference, out=np.zeros_like(matched), where=both).sum(axis=1) / orders
    divisor = 4 * precision + recall
    return 100 * np.divide(5 * precision * recall, divisor, out=np.zeros_like(divisor), where=divisor > 0)


def _ter(sums: np.ndarray) -> np.ndarray:
    """Translation edit rate in percent (Snover et al. 2006), above 100 where an answer needs more edits than the reference
    has words. Counts: edits, words of the reference."""
    edits, words = sums[:, 0], sums[:, 1]
    return 100 * np.where(words > 0, edits / np.where(words > 0, words, 1), edits > 0)

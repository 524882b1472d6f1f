"""Scores of translations, each with the signature that says how it was made.

BLEU, chrF and TER are sacrebleu's, with sacrebleu's signatures; intervals and paired significance
are its bootstrap. Beside them stand the two numbers that the KS-Lottery debate turns on: how often
a model ends its answer, and how long its answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ks_core.translation import RULES, Generation, extract

#: Bootstrap resamples, sacrebleu's default.
RESAMPLES = 1000

#: sacrebleu tokenizers that a language needs; the others take its default, 13a.
TOKENIZERS = {"Chinese": "zh", "Japanese": "char", "Korean": "char"}


@dataclass(frozen=True)
class Score:
    """One metric over a set of answers: its value, a 95% interval, and sacrebleu's signature."""

    value: float
    low: float
    high: float
    signature: str


@dataclass(frozen=True)
class Evaluation:
    """One arm's answers, scored under every extraction rule.

    ``scores[rule][metric]`` with the rules ``raw``, ``first_line``, ``prompt_restart`` and the
    metrics ``bleu``, ``chrf``, ``ter`` (TER: lower is better). ``stop_rate`` is the share of answers
    that the model ended itself; ``mean_length`` is in characters of the raw answer.
    """

    scores: dict[str, dict[str, Score]]
    stop_rate: float
    mean_length: float
    sentences: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def metrics(target_language: str) -> dict[str, Any]:
    """sacrebleu's metric objects for a target language, by our names."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    tokenizer = TOKENIZERS.get(target_language, "13a")
    asian = tokenizer != "13a"
    return {
        "bleu": BLEU(tokenize=tokenizer),
        "chrf": CHRF(),
        "ter": TER(asian_support=asian, normalized=asian),
    }


def evaluate(
    generations: Sequence[Generation],
    references: Sequence[str],
    target_language: str,
    *,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Score generations against one reference each.

    Raises ``ValueError`` when the two lengths differ or nothing is to be scored.
    """
    if not generations or len(generations) != len(references):
        raise ValueError(
            f"{len(generations)} answers and {len(references)} references: expected as many of each, and at least one."
        )
    scores: dict[str, dict[str, Score]] = {}
    for rule in RULES:
        answers = [extract(g.text, rule, g.prompt) for g in generations]
        scores[rule] = {
            name: _score(metric, answers, references, resamples) for name, metric in metrics(target_language).items()
        }
    return Evaluation(
        scores=scores,
        stop_rate=float(np.mean([g.stopped for g in generations])),
        mean_length=float(np.mean([len(extract(g.text, "raw", g.prompt)) for g in generations])),
        sentences=len(generations),
    )


def _score(metric: Any, answers: Sequence[str], references: Sequence[str], resamples: int) -> Score:
    """sacrebleu's score; with ``n_bootstrap`` it puts mean and half-width of the interval on it."""
    found = metric.corpus_score(list(answers), [list(references)], n_bootstrap=max(resamples, 1))
    value = float(found.score)
    if resamples and len(answers) > 1:
        mean, half = float(found._mean), float(found._ci)
    else:
        mean, half = value, float("nan")
    return Score(value, mean - half, mean + half, str(metric.get_signature()))

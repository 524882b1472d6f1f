"""Scores of answers, each with the signature that says how it was made.

BLEU, chrF and TER are sacrebleu's, with sacrebleu's signatures; ROUGE-L and exact match, of text to text, are ``overlap``'s. Intervals and p-values are of one bootstrap over sentences.
Beside them stand the two numbers that the KS-Lottery debate turns on: how often a model ends its answer, and how long its
answers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ks_core.translation.bootstrap import RESAMPLES, SEED, Bootstrap, holm, interval, pvalue
from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.generation import Generation

#: ``[rule][system][metric]`` with ``difference``, ``pvalue`` and ``holm``.
Comparison = dict[str, dict[str, dict[str, dict[str, float]]]]


@dataclass(frozen=True)
class Score:
    """One metric over a set of answers: its value, a 95% interval, and sacrebleu's signature.

    All lie between 0 and 100 but TER, which lies from 0 upwards, and so do their intervals: they are percentiles of the
    bootstrap. NaN bounds: there is one sentence, or nothing was resampled.
    """

    value: float
    low: float
    high: float
    signature: str


@dataclass(frozen=True)
class Evaluation:
    """One arm's answers, scored under every extraction rule.

    ``scores[rule][metric]`` with the rules of ``EXTRACTION_RULES`` (results of older versions lack some) and the metrics
    ``bleu``, ``chrf``, ``ter`` (TER: lower is better), and ``spbleu`` where it can be had; of text to text ``rouge``, ``chrf`` and
    ``exact``. ``stop_rate`` is the share of
    answers that the model ended itself; ``mean_length`` is in characters of the raw answer.
    """

    scores: dict[str, dict[str, Score]]
    stop_rate: float
    mean_length: float
    sentences: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    generations: Sequence[Generation],
    references: Sequence[str],
    target_language: str,
    *,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Score generations against one reference each. ``resamples`` are those of the intervals (0: none).

    Raises ``ValueError`` when the two lengths differ or nothing is to be scored.
    """
    if not generations or len(generations) != len(references):
        raise ValueError(
            f"{len(generations)} answers and {len(references)} references: expected as many of each, and at least one."
        )
    bootstrap = Bootstrap(references, target_language, resamples if len(references) > 1 else 0)
    return Evaluation(
        scores={rule: _scores(bootstrap, [g.answer(rule) for g in generations]) for rule in EXTRACTION_RULES},
        stop_rate=float(np.mean([g.stopped for g in generations])),
        mean_length=float(np.mean([len(g.answer("raw")) for g in generations])),
        sentences=len(generations),
    )


def compare(
    answers: Mapping[str, Sequence[Generation]],
    references: Sequence[str],
    target_language: str,
    baseline: str,
    *,
    resamples: int = RESAMPLES,
) -> Comparison:
    """How each system differs from ``baseline``: ``[rule][system][metric]`` with ``difference``, ``pvalue`` and ``holm``.

    The metrics are BLEU and chrF, of text to text ROUGE-L and chrF; p is of the paired bootstrap over sentences (``bootstrap.pvalue``), two-sided, and
    ``holm`` the same corrected for all that is compared here. Raises ``KeyError`` when there is no such system.
    """
    bootstrap = Bootstrap(references, target_language, resamples)
    scores = {name: bootstrap.all_scores(given) for name, given in answers.items()}
    start = scores.pop(baseline)
    found: Comparison = {}
    for rule in EXTRACTION_RULES if scores else ():
        found[rule] = {name: {} for name in scores}
        for name, own in scores.items():
            for metric in bootstrap.compared:
                difference = own[rule][metric] - start[rule][metric]
                found[rule][name][metric] = {"difference": float(difference[0]), "pvalue": pvalue(difference)}
    correct([found])
    return found


def correct(family: Sequence[Comparison]) -> None:
    """Set ``holm`` beside every p-value of a family of comparisons: those that a reader looks through for a small one."""
    leaves = [
        leaf
        for found in family
        for systems in found.values()
        for metrics in systems.values()
        for leaf in metrics.values()
    ]
    for leaf, corrected in zip(leaves, holm([leaf["pvalue"] for leaf in leaves]), strict=True):
        leaf["holm"] = corrected


def _scores(bootstrap: Bootstrap, answers: list[str]) -> dict[str, Score]:
    """Every metric with its interval."""
    found = {}
    resamples = len(bootstrap.weights) - 1
    facts = {"bs": resamples, "seed": SEED, "interval": "percentiles"} if resamples else {}
    for name, metric in bootstrap.metrics.items():
        scores = bootstrap.scores(name, answers)
        low, high = interval(scores[1:]) if resamples else (float("nan"), float("nan"))
        found[name] = Score(float(scores[0]), low, high, metric.signature(**facts))
    return found

"""Scores of translations, each with the signature that says how it was made.

BLEU, chrF and TER are sacrebleu's, with sacrebleu's signatures; intervals and paired significance
are its bootstrap. Beside them stand the two numbers that the KS-Lottery debate turns on: how often
a model ends its answer, and how long its answers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.translation.generation import RULES, Generation, extract

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
    found = {
        "bleu": BLEU(tokenize=tokenizer),
        "chrf": CHRF(),
        "ter": TER(asian_support=asian, normalized=asian),
    }
    if not why_no_spbleu():
        found["spbleu"] = BLEU(tokenize="flores101")
    return found


def why_no_spbleu() -> str:
    """Empty when spBLEU can be computed here; otherwise a sentence that says what is missing.

    spBLEU is BLEU over the pieces of a sentencepiece model, which sacrebleu fetches once from the net. This
    program never fetches it by itself: a score that depends on whether a download worked would be no score.
    """
    from importlib.util import find_spec

    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    if find_spec("sentencepiece") is None:
        return "spBLEU is left out: it needs the package sentencepiece (pip install sentencepiece)."
    name = SPM_MODELS["flores101"]["url"].rpartition("/")[2]
    if not (Path(SACREBLEU_DIR) / "models" / name).is_file():
        return (
            "spBLEU is left out: its tokenizer model is not on this machine. With a network, once: "
            "echo a | sacrebleu -tok flores101 <(echo a)"
        )
    return ""


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
    scores = {
        rule: _scores([extract(g.text, rule, g.prompt) for g in generations], references, target_language, resamples)
        for rule in RULES
    }
    return Evaluation(
        scores=scores,
        stop_rate=float(np.mean([g.stopped for g in generations])),
        mean_length=float(np.mean([len(extract(g.text, "raw", g.prompt)) for g in generations])),
        sentences=len(generations),
    )


def compare(
    answers: Mapping[str, Sequence[Generation]],
    references: Sequence[str],
    target_language: str,
    baseline: str,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """How each system differs from ``baseline``: ``[rule][system][metric]`` with ``difference`` and ``pvalue``.

    The metrics are BLEU and chrF; p is sacrebleu's paired bootstrap (its ``PairedTest``, after Koehn 2004),
    two-sided, never below 1 / (resamples + 1). Raises ``KeyError`` when there is no such system.
    """
    from sacrebleu.significance import PairedTest

    others = [name for name in answers if name != baseline]
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for rule in RULES if others else ():
        named: list[tuple[str, Sequence[str]]] = [
            (name, [extract(g.text, rule, g.prompt) for g in answers[name]]) for name in (baseline, *others)
        ]
        chosen = {name: m for name, m in metrics(target_language).items() if name in ("bleu", "chrf")}
        _, results = PairedTest(named, chosen, [list(references)], test_type="bs", n_samples=resamples)()
        found[rule] = {name: {} for name in others}
        columns: list[Any] = [results[key] for key in results if key != "System"]
        for metric, (start, *compared) in zip(chosen, columns, strict=True):
            for name, result in zip(others, compared, strict=True):
                difference = float(result.score - start.score)
                # sacrebleu counts resamples strictly beyond the difference: none is, where two systems are equal.
                pvalue = float(result.p_value) if difference else 1.0
                found[rule][name][metric] = {"difference": difference, "pvalue": pvalue}
    return found


def _scores(answers: list[str], references: Sequence[str], target_language: str, resamples: int) -> dict[str, Score]:
    """Every metric with its bootstrap interval.

    This goes through ``PairedTest`` with one system: ``corpus_score(n_bootstrap=)`` of sacrebleu 2.6 ends in a
    TypeError when a resample scores exactly 0, which few sentences or empty answers bring about.
    """
    from sacrebleu.significance import PairedTest

    chosen = metrics(target_language)
    # To PairedTest 0 samples are its default of 1,000.
    test = PairedTest([("", answers)], chosen, [list(references)], test_type="bs", n_samples=max(resamples, 1))
    signatures, results = test()
    found = {}
    for name, key in zip(chosen, (k for k in results if k != "System"), strict=True):
        result: Any = results[key][0]
        bounded = resamples > 0 and len(answers) > 1
        half = float(result.ci) if bounded else float("nan")
        mean = float(result.mean) if bounded else float(result.score)
        found[name] = Score(float(result.score), mean - half, mean + half, str(signatures[key]))
    return found

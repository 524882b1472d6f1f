"""Gains as shares of other gains, by a paired bootstrap over sentences. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ks_core.translation.generation import RULES, Generation, extract
from ks_core.translation.scores import RESAMPLES, metrics

#: ``[rule][metric]`` with the metrics ``bleu`` and ``chrf``.
Scores = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Share:
    """A gain in points of its metric, and what share it is of another gain; each with a 95% interval.

    ``gain`` is this run's score minus its base's. ``value`` is that over the gain it is compared with, ``None`` when
    that is 0. Where the interval of the gain it is compared with holds 0, the share has no bounds: ``low`` and
    ``high`` are ``None``. Without resamples all bounds are.
    """

    gain: float
    gain_low: float | None
    gain_high: float | None
    value: float | None
    low: float | None
    high: float | None


class Bootstrap:
    """Paired resampling of sentences: every system is scored on the same ``resamples`` draws (Koehn 2004)."""

    def __init__(self, references: Sequence[str], target_language: str, resamples: int = RESAMPLES, seed: int = 0):
        self.references = list(references)
        self.metrics = {name: m for name, m in metrics(target_language).items() if name in ("bleu", "chrf")}
        n = len(self.references)
        draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
        drawn = np.stack([np.bincount(draw, minlength=n) for draw in draws]) if resamples else np.zeros((0, n), int)
        #: How often each draw takes each sentence, int64 (1 + resamples, n); the first takes each once.
        self.weights = np.concatenate([np.ones((1, n), int), drawn])

    def scores(self, metric: str, answers: Sequence[str]) -> np.ndarray:
        """A corpus score per draw, float64 (1 + resamples,), from sacrebleu's own counts and formula."""
        own = self.metrics[metric]
        counts = np.asarray(own._extract_corpus_statistics(list(answers), [self.references]))
        return np.array([own._compute_score_from_stats(s).score for s in (self.weights @ counts).tolist()])

    def all_scores(self, answers: Sequence[Generation]) -> Scores:
        """The same under every extraction rule and metric."""
        cut = {rule: [extract(a.text, rule, a.prompt) for a in answers] for rule in RULES}
        return {rule: {name: self.scores(name, texts) for name in self.metrics} for rule, texts in cut.items()}


def shares(scores: Scores, none: Scores, full: Scores, full_none: Scores | None = None) -> dict[str, dict[str, Share]]:
    """For every rule and metric, the gain of ``scores`` over ``none`` as a share of that of ``full`` over ``full_none``.

    ``full_none`` is ``none`` unless it is given.
    """
    start = none if full_none is None else full_none
    return {
        rule: {m: share(own[m] - none[rule][m], full[rule][m] - start[rule][m]) for m in own}
        for rule, own in scores.items()
    }


def share(part: np.ndarray, whole: np.ndarray) -> Share:
    """What share of a ``whole`` gain a ``part`` is; both (1 + resamples,), over the same draws, the sample itself first.

    The intervals are percentiles of the draws. Draws without any whole gain have no share and are left out.
    """
    gain, value = float(part[0]), float(part[0] / whole[0]) if whole[0] else None
    if len(part) == 1:
        return Share(gain, None, None, value, None, None)
    gain_low, gain_high = _middle(part[1:])
    whole_low, whole_high = _middle(whole[1:])
    if value is None or whole_low <= 0 <= whole_high:
        return Share(gain, gain_low, gain_high, value, None, None)
    usable = whole[1:] != 0
    return Share(gain, gain_low, gain_high, value, *_middle(part[1:][usable] / whole[1:][usable]))


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)

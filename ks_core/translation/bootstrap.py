"""The bootstrap over sentences: one way of resampling for every interval, share and p-value of a score. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ks_core.translation.extraction import EXTRACTION_RULES
from ks_core.translation.generation import Generation
from ks_core.translation.metrics import metrics
from ks_core.translation.tasks import task_of

#: Draws of as many sentences as there are. A p-value is never below 1 / (RESAMPLES + 1), and has to stay small when many
#: are corrected together.
RESAMPLES = 10_000
#: The seed of all draws, sacrebleu's default.
SEED = 12345

#: ``[rule][metric]`` with the metrics in which a task is ``compared``: float64 (1 + resamples,), the sample itself first.
Scores = dict[str, dict[str, np.ndarray]]

#: Draws that are summed at once.
_BLOCK = 1000


def weights(n: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each draw takes each of n sentences, uint16 (1 + resamples, n); the first takes each once."""
    generator = np.random.default_rng(seed)
    found = np.ones((1 + resamples, n), np.uint16)
    for start in range(1, 1 + resamples, _BLOCK):
        block = found[start : start + _BLOCK]
        drawn = generator.integers(0, n, block.shape) + n * np.arange(len(block))[:, None]
        block[:] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
    return found


class Bootstrap:
    """Paired resampling of sentences: every system is scored on the same ``resamples`` draws (Koehn 2004)."""

    def __init__(self, references: Sequence[str], target_language: str, resamples: int = RESAMPLES, seed: int = SEED):
        self.metrics = metrics(target_language, references)
        #: The metrics in which systems are compared.
        self.compared = task_of(target_language).compared
        self.weights = weights(len(references), resamples, seed)
        self._scored: dict[tuple[str, ...], np.ndarray] = {}

    def scores(self, metric: str, answers: Sequence[str]) -> np.ndarray:
        """A corpus score per draw, float64 (1 + resamples,): a draw's is that of the sums of its sentences' counts.

        It is sacrebleu's to 1e-9, which adds up one draw at a time. Raises ``KeyError`` for a metric that is not there.
        """
        own, key = self.metrics[metric], (metric, *answers)
        if key not in self._scored:  # of a model that ends its answers, all rules keep the same
            counts = own.counts(answers)
            self._scored[key] = np.concatenate([
                own.scores(self.weights[start : start + _BLOCK].astype(np.float64) @ counts)
                for start in range(0, len(self.weights), _BLOCK)
            ])  # fmt: skip
        return self._scored[key]

    def all_scores(self, answers: Sequence[Generation]) -> Scores:
        """The same under every extraction rule, in the metrics that are ``compared``."""
        cut = {rule: [a.answer(rule) for a in answers] for rule in EXTRACTION_RULES}
        return {rule: {name: self.scores(name, texts) for name in self.compared} for rule, texts in cut.items()}


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle 95% of what the draws gave: their 2.5th and 97.5th percentile. A score's stay where scores can be."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def pvalue(difference: np.ndarray) -> float:
    """How often chance alone parts two systems as far, from their difference (1 + resamples,), the sample's own first.

    The draws are moved to a mean of 0, which is how they would lie if there were no difference, and those at least as far
    from 0 as the sample are counted, on both sides; never below 1 / (resamples + 1). 1 for systems that are equal, and
    where nothing was drawn.
    """
    own, draws = difference[0], difference[1:]
    if own == 0 or not len(draws):
        return 1.0
    beyond = np.abs(draws - draws.mean()) >= abs(own)
    return float((beyond.sum() + 1) / (len(draws) + 1))


def holm(pvalues: Sequence[float]) -> list[float]:
    """p-values of one family, corrected together (Holm 1979), in their order: valid however they depend on each other.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(pvalues)), key=lambda n: pvalues[n])
    found, highest = [0.0] * len(pvalues), 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * pvalues[n]))
        found[n] = highest
    return found

"""Draws of trainings and of sentences: what several trainings with other seeds say together, by a hierarchical bootstrap.

A draw takes trainings with replacement, then sentences. All trainings are scored on the same references, so the sentences of a
draw are the same for each of its trainings: the two are crossed, as in the pigeonhole bootstrap (Owen 2007, Annals of Applied
Statistics 1(2)). With one training the draws are those of ``likelihood.Draws``, over sentences alone.

Draws of few trainings lie too close together: of S trainings they have (S - 1) / S of the variance, and a normal distribution's
quantiles where Student's belong. So their distances from the value are widened to the variance of both components, trainings and
sentences, times Student's quantile with the degrees of freedom that Satterthwaite's rule gives the two, as for a quasi-F (Clark
1973, Journal of Verbal Learning and Verbal Behavior 12). ``make coverage`` measures how often the intervals cover.

    >>> draws = SeedDraws(sentences=2, seeds=2, resamples=0)
    >>> draws.over(lambda gain: gain, np.array([[1.0], [3.0]])).value
    2.0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.translation.bootstrap import RESAMPLES, SEED, interval, pvalue, weights
from ks_core.translation.shares import Share, share


@dataclass(frozen=True)
class Found:
    """A statistic over trainings and sentences.

    ``draws`` float64 (1 + resamples,): the value first, then what the draws gave, widened where there are several trainings;
    ``seeds`` trainings, ``of_seeds`` and ``of_sentences`` the variances that these and the sentences give the value, ``freedom``
    their degrees of freedom together.
    """

    draws: np.ndarray = field(repr=False)
    seeds: int
    of_seeds: float = 0.0
    of_sentences: float = 0.0
    freedom: float = np.inf

    @property
    def value(self) -> float:
        return float(self.draws[0])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval; the value itself, twice, where nothing was drawn."""
        drawn = self.draws[1:]
        drawn = drawn[np.isfinite(drawn)]
        return interval(drawn) if len(drawn) else (self.value, self.value)

    @property
    def pvalue(self) -> float:
        """How often chance alone lies as far from 0, on both sides; never below 1 / (resamples + 1).

        Of one training by the draws of sentences (``bootstrap.pvalue``), of several by Student's t, whose tails draws of few
        trainings have not.
        """
        if self.seeds == 1:
            return pvalue(self.draws)
        if self.value == 0 or len(self.draws) == 1:
            return 1.0
        from scipy.stats import t

        least, variance = 1 / len(self.draws), self.of_seeds + self.of_sentences
        return max(least, float(2 * t.sf(abs(self.value) / variance**0.5, self.freedom))) if variance > 0 else least


class SeedDraws:
    """Draws that all comparisons of the same trainings on the same references share, so that they are paired.

    ``each`` draws the sentences; ``taken`` float64 (seeds, 1 + resamples): which part of a draw each training is, the first
    draw taking all alike.
    """

    def __init__(self, sentences: int, seeds: int = 1, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        self.sentences, self.seeds = sentences, seeds
        self.each = Draws(sentences, resamples, seed)
        self.taken = weights(seeds, resamples, seed + 1).T / seeds

    def gains(self, before: Sequence[Likelihood], after: Sequence[Likelihood], part: str = "all") -> np.ndarray:
        """What a part gains in each training, in nats a target token, on each draw of sentences: float64 (seeds, 1 + resamples).

        ``before`` and ``after`` are a likelihood of the same references for each training.
        """
        return np.stack([self.each.gain(b, a, part) for b, a in zip(before, after, strict=True)])

    def over(self, statistic: Callable[..., np.ndarray], *gains: np.ndarray) -> Found:
        """A statistic of the trainings' mean gains. ``gains`` are float64 (seeds, 1 + resamples) each, as ``gains`` gives them;
        ``statistic`` takes their means, float64 (draws,) each, and gives one float64 (draws,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = statistic(*((own * self.taken).sum(axis=0) for own in gains))
            if self.seeds == 1 or len(draws) == 1:
                return Found(draws, self.seeds, of_sentences=_variance(draws[1:]))
            fixed = statistic(*(own.mean(axis=0) for own in gains))
            single = np.array([statistic(*(own[n, :1] for own in gains))[0] for n in range(self.seeds)])
        of_seeds, of_sentences = _variance(single) / self.seeds, _variance(fixed[1:])
        whole, drawn = of_seeds + of_sentences, _variance(draws[1:])
        if not whole or not drawn:
            return Found(draws, self.seeds, of_seeds, of_sentences)
        from scipy.stats import norm, t

        freedom = whole**2 / (of_seeds**2 / (self.seeds - 1) + of_sentences**2 / max(self.sentences - 1, 1))
        wider = max(1.0, float(t.ppf(0.975, freedom) / norm.ppf(0.975)) * (whole / drawn) ** 0.5)
        return Found(draws[0] + wider * (draws - draws[0]), self.seeds, of_seeds, of_sentences, freedom)

    def mean(self, gains: np.ndarray) -> Found:
        """The mean gain of the trainings."""
        return self.over(lambda own: own, gains)

    def share(self, part: np.ndarray, whole: np.ndarray) -> Share:
        """What share of a whole gain a part is, over all trainings; both float64 (seeds, 1 + resamples)."""
        if self.seeds == 1 or part.shape[1] == 1:
            return share(*((own * self.taken).sum(axis=0) for own in (part, whole)))
        gain, all_of_it = self.mean(part), self.mean(whole)
        gain_low, gain_high = gain.interval
        whole_low, whole_high = all_of_it.interval
        value = low = high = None
        if all_of_it.value:
            ratio = self.over(lambda own, full: own / full, part, whole)
            value = ratio.value
            low, high = ratio.interval if whole_low > 0 else (None, None)
        return Share(gain.value, gain_low, gain_high, value, low, high, all_of_it.value, whole_low, whole_high)


def _variance(values: np.ndarray) -> float:
    """The variance of the finite ones; 0 of fewer than two."""
    values = values[np.isfinite(values)]
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0

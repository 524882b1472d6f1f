"""Shares of tokens with intervals whose unit is the sentence, as the tokens of a sentence are not independent.

95%, percentiles of a bootstrap over sentences (as in ``ks_core.translation.bootstrap``, with its draws and seed).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ks_core.translation.bootstrap import RESAMPLES, SEED, interval

#: Fewer sentences than this give no interval: a difference that has one sign in five sentences is no rarer than 1 in 16.
FEWEST = 6


@dataclass(frozen=True)
class Rate:
    """A share of tokens with its 95% interval, whose unit is the sentence; (0, 1) where there is none to be had."""

    hits: int
    tokens: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """0 without a token."""
        return self.hits / self.tokens if self.tokens else 0.0

    @property
    def bounds(self) -> str:
        """Its interval, for a person."""
        return f"95% interval, by sentences: {self.low:.1%} to {self.high:.1%}."

    def __str__(self) -> str:
        return f"{self.share:.1%} [{self.low:.1%}, {self.high:.1%}]" if self.tokens else "no token"


def rate(hit: np.ndarray, among: np.ndarray, sentence: np.ndarray, sentences: int) -> Rate:
    """The share of ``hit`` among some tokens, with an interval by sentences; all three arrays (tokens,), the first two bool.

    Percentiles of a bootstrap over sentences. Where all tokens are hits, or none, no draw could be otherwise: there it is
    Clopper-Pearson's interval with the sentences as trials. (0, 1) for tokens of fewer than ``FEWEST`` sentences otherwise.
    """
    hits, tokens = int((hit & among).sum()), int(among.sum())
    clusters = len(np.unique(sentence[among]))
    if hits in (0, tokens):
        low, high = clopper_pearson(clusters if hits else 0, clusters)
    elif clusters < FEWEST:
        low, high = 0.0, 1.0
    else:
        low, high = interval(_draws(hit & among, among, sentence, sentences))
    return Rate(hits, tokens, low, high)


def difference(
    first: np.ndarray, second: np.ndarray, among: np.ndarray, sentence: np.ndarray, sentences: int
) -> tuple[float, float, float]:
    """By how much two shares differ among the same tokens, first less second, with its interval on the same draws of
    sentences: (value, low, high). (value, -1, 1) for tokens of fewer than ``FEWEST`` sentences."""
    count = max(int(among.sum()), 1)
    value = (int((first & among).sum()) - int((second & among).sum())) / count
    if len(np.unique(sentence[among])) < FEWEST:
        return value, -1.0, 1.0
    draws = [_draws(hit & among, among, sentence, sentences) for hit in (first, second)]
    return value, *interval(draws[0] - draws[1])


def _draws(hit: np.ndarray, among: np.ndarray, sentence: np.ndarray, sentences: int) -> np.ndarray:
    """The share on each draw of sentences, float64 (draws,); draws without a token among those counted are left out."""
    hits, tokens = (np.bincount(sentence, weights=what, minlength=sentences) for what in (hit, among))
    drawn = _weights(sentences) @ np.stack([hits, tokens], axis=1)
    return drawn[drawn[:, 1] > 0, 0] / drawn[drawn[:, 1] > 0, 1]


@lru_cache(maxsize=2)
def _weights(sentences: int) -> np.ndarray:
    """How often each draw takes each sentence, float64 (RESAMPLES, sentences)."""
    return (
        np.random.default_rng(SEED).multinomial(sentences, np.full(sentences, 1 / sentences), RESAMPLES).astype(float)
    )


def by_sentences(count: int) -> str:
    """What the intervals are (``rate``), in words."""
    return (
        f"Intervals are 95%, by a bootstrap over the {count:,} sentences; where all tokens agree, or none, Clopper-Pearson's "
        f"with sentences as trials. Fewer than {FEWEST} sentences otherwise give none: 0% to 100%."
    )


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934); (0, 1) without a trial."""
    from scipy.special import betaincinv

    low = float(betaincinv(successes, trials - successes + 1, 0.025)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 0.975)) if successes < trials else 1.0
    return low, high

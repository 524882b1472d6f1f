"""How likely a model finds references: nats of each sentence, its end token apart from its content. Loads no torch.

A score of answers needs a model that writes them, a rule that cuts them, and hundreds of sentences. The likelihood of the
reference needs none of these: it is the probability that the model gives to a right answer, token by token. What a model
learns of stopping is then the end token's nats, and what it learns of translating those of all others.

    >>> base = Likelihood(np.array([6.0, 8.0]), np.array([9.0, 7.0]), np.array([2, 2]), np.array([10, 12]))
    >>> base.nats, base.nats_of("content"), base.nats_of("end")
    (5.0, 3.5, 8.0)

Not here: running the model (``scorer``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ks_core.errors import SettingsError
from ks_core.translation.bootstrap import RESAMPLES, SEED, interval, weights
from ks_core.translation.shares import Share, share

#: What a gain is parted into. ``all`` is the sum of the others.
PARTS = ("all", "end", "content")


@dataclass(frozen=True)
class Likelihood:
    """Minus the log-likelihood of references in nats, a sentence each; all arrays are (n,).

    ``content`` float64: of the reference's own tokens together; ``end`` float64: of the end token after them, ``None``
    where the tokenizer names none, so that nothing can be parted; ``tokens`` int64: how many own tokens; ``characters``
    int64: how many characters the reference has.
    """

    content: np.ndarray
    end: np.ndarray | None
    tokens: np.ndarray
    characters: np.ndarray

    def __len__(self) -> int:
        return len(self.content)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that it has: those of ``PARTS``, or ``all`` alone."""
        return PARTS if self.end is not None else PARTS[:1]

    def summed(self, part: str = "all") -> np.ndarray:
        """Nats of a part, float64 (n,). Raises ``SettingsError`` for a part that it has not."""
        if part not in self.parts:
            raise SettingsError(
                f"{part!r} is no part of this likelihood. Expected one of: {', '.join(self.parts)}"
                + ("." if self.end is not None else " (the tokenizer has no end token, so the rest cannot be parted).")
            )
        if part == "content" or self.end is None:
            return self.content
        return self.end if part == "end" else self.content + self.end

    def counted(self, part: str = "all") -> np.ndarray:
        """How many tokens a part has, int64 (n,)."""
        ends = np.ones_like(self.tokens) if self.end is not None else np.zeros_like(self.tokens)
        return {"all": self.tokens + ends, "end": ends, "content": self.tokens}[part]

    def nats_of(self, part: str) -> float:
        """Nats a token of a part; NaN where no reference has one."""
        tokens = int(self.counted(part).sum())
        return float(self.summed(part).sum()) / tokens if tokens else math.nan

    @property
    def nats(self) -> float:
        """Nats a target token, the end token counted as one."""
        return self.nats_of("all")

    @property
    def perplexity(self) -> float:
        """e to the nats a target token."""
        return math.exp(min(self.nats, 700.0))

    @property
    def bits_per_character(self) -> float:
        """Bits a character of the reference, which can be compared between tokenizers; NaN without a character."""
        characters = int(self.characters.sum())
        return float(self.summed().sum()) / math.log(2) / characters if characters else math.nan

    def read_out(self) -> dict[str, float]:
        """Its numbers by name, as plain values for JSON."""
        return {
            **{f"nats_{part}": self.nats_of(part) for part in self.parts},
            "perplexity": self.perplexity, "bits_per_character": self.bits_per_character,
        }  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        return {
            "content": self.content.tolist(), "end": None if self.end is None else self.end.tolist(),
            "tokens": self.tokens.tolist(), "characters": self.characters.tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Likelihood:
        """From what ``as_dict`` gave."""
        end = given["end"]
        return cls(
            np.array(given["content"], float), None if end is None else np.array(end, float),
            np.array(given["tokens"], np.int64), np.array(given["characters"], np.int64),
        )  # fmt: skip


class Draws:
    """Draws of sentences that every likelihood of the same references shares, so that all comparisons are paired.

    The sentence is the unit, as its tokens are not independent. ``weights`` float64 (1 + resamples, n): how often a draw
    takes each sentence; the first takes each once.
    """

    def __init__(self, sentences: int, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        self.weights = weights(sentences, resamples, seed).astype(float)

    def nats(self, found: Likelihood, part: str = "all") -> np.ndarray:
        """Nats a token of a part on each draw, float64 (1 + resamples,)."""
        return (self.weights @ found.summed(part)) / np.maximum(self.weights @ found.counted(part), 1)

    def gain(self, before: Likelihood, after: Likelihood, part: str = "all") -> np.ndarray:
        """What a part of ``after`` gains over ``before``, in nats a target token, on each draw, float64 (1 + resamples,).

        The tokens are those of all parts, so that the gains of ``end`` and ``content`` add up to that of ``all``.
        """
        won = self.weights @ (before.summed(part) - after.summed(part))
        return won / np.maximum(self.weights @ before.counted(), 1)

    def share(self, base: Likelihood, own: Likelihood, full: Likelihood) -> Share:
        """The gain of ``own`` over the base as a share of that of ``full``."""
        return share(self.gain(base, own), self.gain(base, full))

    def part_of_gain(self, base: Likelihood, own: Likelihood, part: str) -> Share:
        """Which share of its own gain lies in a part: what a model learnt of stopping (``end``), or of the rest."""
        return share(self.gain(base, own, part), self.gain(base, own))

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """The 95% interval of what draws gave; the value itself, twice, where nothing was drawn."""
        return interval(values[1:]) if len(values) > 1 else (float(values[0]), float(values[0]))


def same_references(found: Sequence[Likelihood]) -> None:
    """Raise ``SettingsError`` unless all are of the same references: a comparison of others says nothing."""
    for one in found[1:]:
        if len(one) != len(found[0]) or (one.tokens != found[0].tokens).any():
            raise SettingsError(
                f"Likelihoods of {len(found[0])} and {len(one)} references were to be compared, and these are not the same "
                "ones, or were tokenized differently. Score both on the same text."
            )

"""What a training on noise gives: D of every row when there was nothing to learn, and what follows for the real rows.

The values alone; ``ks_core.ledger.noise`` makes them. A row that many steps touch goes far whatever its gradients say, so beside
how many rows win stands how many win by their exposure alone. From many draws each row has a p-value at its own exposure: the
share of draws in which noise reached its D. It is this program's, not the paper's, and it says that a row moved more in one
direction than noise does, not that it carries anything.

    >>> made = Null(np.array([1, 2]), np.array([[1, 4], [2, 4], [3, 4]]), dim=8)
    >>> made.pvalues(np.array([2 / 8, 5 / 8]))
    array([0.75, 0.25])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ks_core.ks.statistic import pvalue_table

#: A row goes beyond noise where at most this share of the draws reach its D.
BEYOND = 0.05


@dataclass(frozen=True)
class Null:
    """What noise does to the rows of a training.

    ``token_ids`` int64 (m,); ``counts`` int (draws, m) with D = counts / dim; ``persistence`` and ``seed`` as asked for.
    """

    token_ids: np.ndarray
    counts: np.ndarray
    dim: int
    persistence: float = 0.0
    seed: int = 0

    @property
    def draws(self) -> int:
        return len(self.counts)

    @property
    def statistic(self) -> np.ndarray:
        """D of each draw, float64 (draws, m)."""
        return self.counts / self.dim

    @property
    def least(self) -> float:
        """The smallest p-value that so many draws can give."""
        return 1 / (1 + self.draws)

    def winners(self, alpha: float) -> np.ndarray:
        """Rows with p < alpha in each draw, bool (draws, m)."""
        return pvalue_table(self.dim)[self.counts] < alpha

    def order(self, draw: int) -> np.ndarray:
        """Positions of the rows from the largest D of a draw to the smallest; equal ones by id."""
        return np.lexsort((self.token_ids, -self.counts[draw].astype(np.int64)))

    def pvalues(self, statistic: np.ndarray) -> np.ndarray:
        """How often noise reaches a row's D at that row's exposure, float64 (m,); never below ``least``."""
        reached = (self.counts >= self._whole(statistic)[None, :]).sum(axis=0)
        return (1 + reached) / (1 + self.draws)

    def excess(self, statistic: np.ndarray) -> np.ndarray:
        """By how many standard deviations of noise at its own exposure a row's D lies above noise's mean, float64 (m,)."""
        # D goes in steps of 1 / dim, which is the least that a deviation can be told from.
        spread = np.maximum(self.statistic.std(axis=0), 1 / self.dim)
        return (np.asarray(statistic) - self.statistic.mean(axis=0)) / spread

    def beyond(self, statistic: np.ndarray, rows: np.ndarray) -> tuple[int, float]:
        """How many of some rows, bool (m,), go beyond noise at their own exposure, and of how many that is to be expected.

        Rows that were chosen by a large D go beyond more often than others, on noise too. So what is expected is counted on
        the draws: each in turn stands for the real training, and as many rows of its largest D against the other draws.
        """
        k = int(rows.sum())
        found = int((self.pvalues(statistic) <= BEYOND)[rows].sum())
        if not k or self.draws < 2:
            return found, k * self._chance
        allowed = round(self._chance * (1 + self.draws)) - 1
        hits = [(self._reached[n, self.order(n)[:k]] <= allowed).sum() for n in range(self.draws)]
        # A draw has one other draw fewer to be reached by than the real training has.
        return found, float(np.mean(hits)) * self.draws / (1 + self.draws)

    def reaching(self, least: float) -> np.ndarray:
        """In what share of the draws each row has at least this D, float64 (m,)."""
        return (self.counts >= self._whole(np.array(least))).mean(axis=0)

    def summary(self, statistic: np.ndarray, alpha: float = 0.05, ticket: np.ndarray | None = None) -> dict[str, Any]:
        """What follows for the real rows, whose D is given, as plain values for JSON; with a ``sentence``.

        ``ticket`` bool (m,) are the rows that are asked about, where these are others than the winners, p < alpha.
        """
        real = pvalue_table(self.dim)[self._whole(statistic)] < alpha
        noise, chosen = self.winners(alpha), real if ticket is None else np.asarray(ticket, bool)
        won, both = noise.sum(axis=1), (noise & real).sum(axis=1)
        beyond, (of_chosen, expected) = self.pvalues(statistic) <= BEYOND, self.beyond(statistic, chosen)
        found: dict[str, Any] = {
            "draws": self.draws, "rows": len(self.token_ids), "winners": int(real.sum()), "persistence": self.persistence,
            "noise_winners": [int(won.min()), float(won.mean()), int(won.max())],
            "noise_largest": float(self.statistic.max()), "largest": float(np.max(statistic)),
            "shared": [int(both.min()), float(both.mean()), int(both.max())],
            "beyond": int(beyond.sum()), "beyond_of_winners": int((beyond & real).sum()),
            "expected_beyond": self._chance * len(self.token_ids),
            "ticket": int(chosen.sum()), "beyond_of_ticket": of_chosen, "expected_of_ticket": expected,
            "same": self.token_ids[chosen & (noise.mean(axis=0) >= 0.5)].tolist(),
        }  # fmt: skip
        whose = "the winners" if ticket is None else f"the ticket's {found['ticket']:,}"
        found["sentence"] = (
            f"Of {found['rows']:,} trained rows {found['winners']:,} have p < {alpha:g}; trained on noise {won.mean():.0f} "
            f"({won.min():,} to {won.max():,} in {self.draws} draws), of which {both.mean():.0f} are the same. At their own exposure "
            f"{found['beyond']:,} rows go beyond {1 - BEYOND:.0%} of noise, where chance alone would have {found['expected_beyond']:.0f}; "
            f"{of_chosen:,} of them are among {whose}, and of as many rows of largest D of a training on noise {expected:.1f} would be."
        )
        return found

    @property
    def _chance(self) -> float:
        """The share of rows of pure noise whose p-value is at most ``BEYOND``, where no two D are equal."""
        return math.floor(BEYOND * (1 + self.draws) + 1e-9) / (1 + self.draws)

    def _whole(self, statistic: np.ndarray) -> np.ndarray:
        """D as whole steps of 1 / dim, int64 (m,)."""
        return np.rint(np.asarray(statistic) * self.dim).astype(np.int64)

    @cached_property
    def _reached(self) -> np.ndarray:
        """By how many other draws the D of a row in each draw is reached, int64 (draws, m)."""
        found = np.empty(self.counts.shape, np.int64)
        for column, own in zip(found.T, self.counts.T, strict=True):
            column[:] = self.draws - 1 - np.searchsorted(np.sort(own), own, side="left")
        return found

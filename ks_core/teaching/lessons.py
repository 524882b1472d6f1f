"""The arithmetic of the page Learn: small experiments on made-up rows, each repeatable from its seed.

Rows here are d draws from a normal distribution, which is what an embedding row looks like at first sight. The test
itself is the program's own (``ks_core.ks.statistic``); nothing here is another way to compute it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import kolmogorov

from ks_core.ks.statistic import ks_test, pvalue_table

#: Widths of rows that the lessons draw: from a toy to the largest models in use.
WIDTHS = (16, 32, 64, 128, 256, 576, 1024, 2048, 4096, 8192)


def two_samples(dim: int, shift: float, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two independent rows of ``dim`` values, float64: N(0, 1), and N(``shift``, ``spread``²)."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(dim), shift + spread * generator.standard_normal(dim)


def share_below(before: np.ndarray, after: np.ndarray, alpha: float) -> float:
    """How many of the rows (n, d) have p < ``alpha``, as a share."""
    return float((ks_test(before, after, device="cpu").pvalue < alpha).mean())


def power(shift: float, alpha: float, widths: Sequence[int] = WIDTHS, draws: int = 300, seed: int = 0) -> list[float]:
    """The share of ``draws`` pairs of independent rows with p < ``alpha``, for each width, when the second is shifted.

    ``shift`` is in standard deviations of a row's values.
    """
    generator = np.random.default_rng(seed)
    return [
        share_below(generator.standard_normal((draws, d)), generator.standard_normal((draws, d)) + shift, alpha)
        for d in widths
    ]


def asymptotic_pvalues(dim: int) -> np.ndarray:
    """Kolmogorov's large-sample p-values of D = 0/dim … dim/dim: float64 (dim + 1,). Smirnov 1948."""
    statistic = np.arange(dim + 1) / dim
    return kolmogorov(statistic * np.sqrt(dim / 2))


def misjudged(dim: int, alpha: float) -> int:
    """How many values of D exact and large-sample p-values put on different sides of ``alpha``."""
    return int(((pvalue_table(dim) < alpha) != (asymptotic_pvalues(dim) < alpha)).sum())


@dataclass(frozen=True)
class Ties:
    """A pair of rows on few distinct values, judged two ways.

    ``statistic`` is D; ``exact`` the p-value that assumes no ties; ``permuted`` D of every random relabelling, (n,);
    ``permutation`` the share of them that reach D.
    """

    distinct: int
    statistic: float
    exact: float
    permuted: np.ndarray
    permutation: float


def ties(dim: int, step: float, shift: float, permutations: int = 1000, seed: int = 0) -> Ties:
    """Round two independent rows to multiples of ``step`` (0: not at all) and relabel their pooled values at random.

    A permutation test is right with ties too (Good 2005): the share of relabellings whose D is at least as large.
    """
    generator = np.random.default_rng(seed)
    before, after = generator.standard_normal(dim), generator.standard_normal(dim) + shift
    if step:
        before, after = np.round(before / step) * step, np.round(after / step) * step
    found = ks_test(before[None], after[None], device="cpu")
    pooled = generator.permuted(np.tile(np.concatenate([before, after]), (permutations, 1)), axis=1)
    permuted = ks_test(pooled[:, :dim], pooled[:, dim:], device="cpu").statistic
    reached = int((permuted >= found.statistic[0] - 1e-12).sum())
    return Ties(
        len(np.unique(np.concatenate([before, after]))), float(found.statistic[0]), float(found.pvalue[0]), permuted,
        (1 + reached) / (1 + permutations),
    )  # fmt: skip


def dependence(
    dim: int, alpha: float, sizes: Sequence[float], draws: int = 300, seed: int = 0
) -> dict[str, list[float]]:
    """The share of rows with p < ``alpha`` when each value has moved by random noise of these sizes (in deviations).

    ``the same row, moved``: the second row is the first with noise on it, as after fine-tuning. ``another row``: a row
    drawn anew with the same distribution, which is what alpha is about.
    """
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((draws, dim))
    found: dict[str, list[float]] = {"the same row, moved": [], "another row": []}
    for size in sizes:
        noise, other = generator.standard_normal((2, draws, dim))
        found["the same row, moved"].append(share_below(rows, rows + size * noise, alpha))
        found["another row"].append(share_below(rows, np.sqrt(1 + size**2) * other, alpha))
    return found

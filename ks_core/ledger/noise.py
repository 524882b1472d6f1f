"""A training on noise: the same rows at the same steps, by the same optimizer, with random gradients in the place of real ones.

A row that many steps touch goes far under Adam whatever its gradients say, as each step has about the same length. So a large D
may mean no more than that a row was met often. Here a training is done again with nothing to learn: what D each row reaches by
its exposure alone, and how many rows would win.

A row's gradient is a draw from a normal distribution, anew at each step that touches it, or with ``persistence`` (from -1 to 1)
of the last one in it. Its scale is one for all steps; then Adam, which divides by it, makes the same steps of any. The gradients
of a real training shrink while it goes on, which this null does not know. No model is run, so a draw takes seconds.

From many draws follows a p-value of each row at its own exposure: the share of draws in which noise reached its D. It is this
program's, not the paper's, and it says that a row moved more in one direction than noise does, not that it carries anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import SettingsError, TicketError
from ks_core.ks.statistic import ks_test, pvalue_table
from ks_core.tuning.recipes import Recipe

if TYPE_CHECKING:
    import torch

#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]
#: Trainings on noise, unless somebody says otherwise. With 19 a p-value can be 0.05 and not below.
DRAWS = 39


@dataclass(frozen=True)
class Null:
    """What noise does to the rows of a training.

    ``token_ids`` int64 (m,); ``counts`` int32 (draws, m) with D = counts / dim; ``persistence`` and ``seed`` as asked for.
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

    def winners(self, alpha: float) -> np.ndarray:
        """Rows with p < alpha in each draw, bool (draws, m)."""
        return pvalue_table(self.dim)[self.counts] < alpha

    def pvalues(self, statistic: np.ndarray) -> np.ndarray:
        """How often noise reaches a row's D at that row's exposure, float64 (m,); never below 1 / (draws + 1)."""
        reached = (self.statistic >= np.asarray(statistic)[None, :] - 1e-12).sum(axis=0)
        return (1 + reached) / (1 + self.draws)

    def excess(self, statistic: np.ndarray) -> np.ndarray:
        """By how many standard deviations of noise at its own exposure a row's D lies above noise's mean, float64 (m,)."""
        # D goes in steps of 1 / dim, which is the least that a deviation can be told from.
        spread = np.maximum(self.statistic.std(axis=0), 1 / self.dim)
        return (np.asarray(statistic) - self.statistic.mean(axis=0)) / spread

    def summary(self, statistic: np.ndarray, alpha: float = 0.05) -> dict[str, Any]:
        """What follows for the real rows, whose D is given, as plain values for JSON; with a ``sentence``."""
        real = pvalue_table(self.dim)[np.rint(np.asarray(statistic) * self.dim).astype(int)] < alpha
        noise = self.winners(alpha)
        won, both = noise.sum(axis=1), (noise & real).sum(axis=1)
        beyond = self.pvalues(statistic) <= 0.05
        found = {
            "draws": self.draws, "rows": len(self.token_ids), "winners": int(real.sum()), "persistence": self.persistence,
            "noise_winners": [int(won.min()), float(won.mean()), int(won.max())],
            "noise_largest": float(self.statistic.max()), "largest": float(np.max(statistic)),
            "shared": [int(both.min()), float(both.mean()), int(both.max())],
            "beyond": int(beyond.sum()), "beyond_of_winners": int((beyond & real).sum()),
            "expected_beyond": float(np.floor(0.05 * (1 + self.draws)) / (1 + self.draws) * len(self.token_ids)),
        }  # fmt: skip
        found["sentence"] = (
            f"Of {found['rows']:,} trained rows {found['winners']:,} have p < {alpha:g}; trained on noise {won.mean():.0f} "
            f"({won.min():,} to {won.max():,} in {self.draws} draws), of which {both.mean():.0f} are the same. At their own exposure "
            f"{found['beyond']:,} rows go beyond 95% of noise, where chance alone would have {found['expected_beyond']:.0f}; "
            f"{found['beyond_of_winners']:,} of them are among the winners."
        )
        return found


def null(
    before: np.ndarray,
    token_ids: np.ndarray,
    touched: Sequence[Sequence[int]],
    recipe: Recipe,
    *,
    draws: int = DRAWS,
    persistence: float = 0.0,
    seed: int = 0,
    report: Report = lambda done, total, message: None,
) -> Null:
    """Train rows on noise, ``draws`` times.

    ``before`` (m, d) are the base's rows of ``token_ids``; ``touched`` the token ids of each step (``trainings.by_step``), of
    which others are passed over. Raises ``SettingsError`` for settings that cannot be, ``TicketError`` where no step touches
    any of the rows.
    """
    if not 1 <= draws <= 10_000 or not -1 < persistence < 1:
        raise SettingsError(
            f"{draws} draws and a persistence of {persistence}. Expected 1 to 10,000 draws, and a number above -1 and below 1."
        )
    place = {int(i): n for n, i in enumerate(token_ids)}
    steps = [np.array(sorted({place[i] for i in ids if i in place}), np.int64) for ids in touched]
    if not any(map(len, steps)):
        raise TicketError("No step of the training touched any of these rows. Name the training that they come from.")
    counts = np.empty((draws, len(token_ids)), np.int32)
    for n in range(draws):
        report(n, draws, "training on noise")
        after = trained_on_noise(before, steps, recipe, persistence=persistence, seed=seed + n)
        counts[n] = ks_test(np.asarray(before, np.float32), after).counts
    report(draws, draws, "training on noise")
    return Null(np.asarray(token_ids), counts, before.shape[1], persistence, seed)


def trained_on_noise(
    before: np.ndarray, steps: Sequence[np.ndarray], recipe: Recipe, *, persistence: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Rows after a training on noise, float32 (m, d); ``steps`` are the positions of the rows that each step touches,
    each once and ascending."""
    import torch
    from transformers import get_scheduler

    drawn = torch.Generator().manual_seed(1_000_003 + seed)
    rows = torch.nn.Parameter(torch.from_numpy(np.array(before, np.float32)))
    optimizer = _optimizer(rows, recipe)
    schedule = get_scheduler(
        recipe.schedule, optimizer, num_warmup_steps=recipe.warmup, num_training_steps=recipe.steps
    )
    last = torch.zeros_like(rows.detach()) if persistence else None
    met = torch.zeros(len(rows), dtype=torch.bool)
    for touched in steps:
        places = torch.from_numpy(touched)
        noise = torch.randn((len(places), rows.shape[1]), generator=drawn)
        if last is not None:
            again = met[places][:, None]
            noise = torch.where(again, persistence * last[places] + (1 - persistence**2) ** 0.5 * noise, noise)
            last[places], met[places] = noise, True
        if recipe.optimizer == "rowwise_adam":  # it would make this of a dense gradient, after looking at every row
            rows.grad = torch.sparse_coo_tensor(
                places[None], noise, rows.shape, is_coalesced=True, check_invariants=False
            )
        else:
            rows.grad = torch.zeros_like(rows.detach()).index_copy_(0, places, noise)
        optimizer.step()
        schedule.step()
    return rows.detach().numpy()


def _optimizer(rows: torch.nn.Parameter, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer that a recipe names, as ``trainer.train`` makes it."""
    import torch

    from ks_core.tuning.trainer import ROW_OPTIMIZERS

    betas = (recipe.beta1, recipe.beta2)
    if recipe.optimizer in ROW_OPTIMIZERS:
        return ROW_OPTIMIZERS[recipe.optimizer]([rows], lr=recipe.learning_rate, betas=betas)
    return torch.optim.Adam([rows], lr=recipe.learning_rate, betas=betas)

"""A training on noise: the same rows at the same steps, by the same optimizer, with random gradients in the place of real ones.

A row that many steps touch goes far under Adam whatever its gradients say, as each step has about the same length. So a large D
may mean no more than that a row was met often. Here a training is done again with nothing to learn: what D each row reaches by
its exposure alone, and how many rows would win.

A row's gradient is a draw from a normal distribution, anew at each step that touches it, or with ``persistence`` (from -1 to 1)
of the last one in it. Its scale is one for all steps; then Adam, which divides by it, makes the same steps of any. The gradients
of a real training shrink while it goes on, which this null does not know. No model is run, so a draw takes seconds.

What follows from the draws for the real rows stands in ``ks_core.tickets.null``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ks_core.checkpoints.matrices import Matrix, to_floats
from ks_core.errors import SettingsError, TicketError
from ks_core.ks.statistic import ks_test
from ks_core.tickets.null import Null
from ks_core.tuning.recipes import Recipe

#: ``report(done, total, message)``; what it raises ends the work.
Report = Callable[[int, int, str], None]
#: Trainings on noise, unless somebody says otherwise. With 19 a p-value can be 0.05 and not below.
DRAWS = 39


def null(
    before: Matrix | np.ndarray,
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

    ``before`` (m, d) are the base's rows of ``token_ids``, as an array or a matrix; ``touched`` the token ids of each step (``trainings.by_step``), of
    which others are passed over. Raises ``SettingsError`` for settings that cannot be, ``TicketError`` where no step touches
    any of the rows.
    """
    if not 1 <= draws <= 10_000 or not -1 < persistence < 1:
        raise SettingsError(
            f"{draws} draws and a persistence of {persistence}. Expected 1 to 10,000 draws, and a number above -1 and below 1."
        )
    rows = to_floats(before.block(0, before.shape[0]), before.dtype) if isinstance(before, Matrix) else before
    rows = np.asarray(rows, np.float32)
    place = {int(i): n for n, i in enumerate(token_ids)}
    steps = [np.array(sorted({place[i] for i in ids if i in place}), np.int64) for ids in touched]
    if not any(map(len, steps)):
        raise TicketError("No step of the training touched any of these rows. Name the training that they come from.")
    counts = np.empty((draws, len(token_ids)), np.int32)
    for n in range(draws):
        report(n, draws, "training on noise")
        after = trained_on_noise(rows, steps, recipe, persistence=persistence, seed=seed + n)
        counts[n] = ks_test(rows, after).counts
    report(draws, draws, "training on noise")
    return Null(np.asarray(token_ids), counts, rows.shape[1], persistence, seed)


def trained_on_noise(
    before: np.ndarray, steps: Sequence[np.ndarray], recipe: Recipe, *, persistence: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Rows after a training on noise, float32 (m, d); ``steps`` are the positions of the rows that each step touches,
    each once and ascending."""
    from ks_core.tuning.trainer import ROW_OPTIMIZERS

    drawn = np.random.default_rng([1_000_003, seed])
    rows = np.array(before, np.float32)
    kind = _RowSteps if recipe.optimizer in ROW_OPTIMIZERS else _DenseSteps
    optimizer: _RowSteps | _DenseSteps = kind(rows, recipe)
    last = np.zeros_like(rows) if persistence else None
    met = np.zeros(len(rows), bool)
    for places, rate in zip(steps, _rates(recipe, len(steps)), strict=True):
        noise = drawn.standard_normal((len(places), rows.shape[1]), dtype=np.float32)
        if last is not None:
            again = met[places][:, None]
            noise = np.where(again, persistence * last[places] + (1 - persistence**2) ** 0.5 * noise, noise)
            noise = noise.astype(np.float32, copy=False)
            last[places], met[places] = noise, True
        optimizer.step(places, noise, rate)
    return rows


def _rates(recipe: Recipe, steps: int) -> list[float]:
    """The learning rate of each step, as transformers' schedule gives it."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = get_scheduler(
        recipe.schedule, optimizer, num_warmup_steps=recipe.warmup, num_training_steps=recipe.steps
    )
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return found


class _RowSteps:
    """The arithmetic of ``trainer.ROW_OPTIMIZERS`` on the touched rows alone, in NumPy: a step is too small to be shared by threads,
    and with a sparse gradient it would take ten times as long."""

    def __init__(self, rows: np.ndarray, recipe: Recipe, eps: float = 1e-8) -> None:
        self.rows, self.betas, self.eps = rows, (recipe.beta1, recipe.beta2), eps
        self.own_count = recipe.optimizer == "adam_per_row"
        self.mean, self.square = np.zeros_like(rows), np.zeros_like(rows)
        self.done, self.steps = 0, np.zeros(len(rows))

    def step(self, places: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        beta1, beta2 = (np.float32(beta) for beta in self.betas)
        self.done += 1
        self.steps[places] += 1
        mean = self.mean[places] * beta1 + gradient * (1 - beta1)
        square = self.square[places] * beta2 + np.square(gradient) * (1 - beta2)
        self.mean[places], self.square[places] = mean, square
        counts = self.steps[places][:, None] if self.own_count else np.full((1, 1), self.done)
        left1, left2 = ((1 - beta**counts).astype(np.float32) for beta in self.betas)
        if self.own_count:
            square /= left2
            mean /= left1
        else:  # it adds eps before it corrects
            mean *= np.sqrt(left2) / left1
        np.sqrt(square, out=square)
        square += np.float32(self.eps)
        mean /= square
        mean *= np.float32(rate)
        self.rows[places] -= mean


class _DenseSteps:
    """Dense Adam, which goes on moving rows that no step touches any more."""

    def __init__(self, rows: np.ndarray, recipe: Recipe) -> None:
        import torch

        self.rows = torch.nn.Parameter(torch.from_numpy(rows))  # over the same memory
        betas = (recipe.beta1, recipe.beta2)
        self.optimizer = torch.optim.Adam([self.rows], lr=recipe.learning_rate, betas=betas, fused=True)
        self.rows.grad = torch.zeros_like(self.rows)

    def step(self, places: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        import torch

        assert self.rows.grad is not None
        self.optimizer.param_groups[0]["lr"] = rate
        self.rows.grad.zero_().index_copy_(0, torch.from_numpy(places), torch.from_numpy(gradient))
        self.optimizer.step()

"""Rows of an embedding with values of their own, and where they began: what a recording compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ks_core.checkpoints.matrices import blocks
from ks_core.ks.statistic import KSResult, ks_test


class Held:
    """What one process holds all of."""

    #: Whether all processes ask for gradients and rows at once.
    together = False

    def gather(self) -> None:
        """Have the rows as they are now, where this process does not hold all of them."""


@dataclass
class Rows(Held):
    """Rows with values of their own: ``ids`` int64 (m,), ``None`` for the whole matrix, are those of ``values`` (m, d).

    ``start`` (V, d) is the matrix that they began in: another tensor, which the training does not write to. ``as_saved`` is
    the dtype in which both are compared where it is not their own.
    """

    kind: str
    ids: torch.Tensor | None
    values: torch.Tensor
    start: torch.Tensor
    as_saved: torch.dtype | None = None
    tied: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and values in a row of the whole embedding."""
        return self.start.shape[0], self.start.shape[1]

    @property
    def trained(self) -> torch.Tensor:
        return self.values

    def token_ids(self) -> np.ndarray:
        """The token ids of the rows that are trained, int64 (m,)."""
        return np.arange(len(self.values)) if self.ids is None else self.ids.cpu().numpy().astype(np.int64)

    def moved(self) -> np.ndarray:
        """Places among the trained rows of those that are not as they began, int64 ascending."""
        parts = []
        for low, high in blocks(len(self.values), 4 * self.shape[1]):
            before, after = self._before(slice(low, high)), self._after(slice(low, high))
            parts.append((before != after).any(dim=1).nonzero()[:, 0] + low)
        return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, np.int64)

    def tested(self, places: np.ndarray) -> KSResult:
        """The test of these rows against where they began, shift and cosine included."""
        chosen = torch.from_numpy(places).to(self.values.device)
        return ks_test(self._before(chosen).cpu(), self._after(chosen).cpu(), with_shift=True)

    def shifts(self, places: np.ndarray) -> np.ndarray:
        """These rows less their starts, float16 (k, d)."""
        chosen = torch.from_numpy(places).to(self.values.device)
        return halves(self._after(chosen).float() - self._before(chosen).float())

    def gradient(self) -> torch.Tensor | None:
        """The length of each trained row's gradient, (m,) on the device of the rows; ``None`` where there is none now."""
        found = self.values.grad
        if found is None:
            return None
        if found.is_sparse:
            found = found.coalesce()
            lengths = torch.zeros(len(self.values), device=found.device)
            return lengths.index_copy_(0, found.indices()[0], row_lengths(found.values(), 1))
        return row_lengths(found, 1)

    def _before(self, which: Any) -> torch.Tensor:
        return self._saved(self.start.detach()[which if self.ids is None else self.ids[which]])

    def _after(self, which: Any) -> torch.Tensor:
        return self._saved(self.values.detach()[which])

    def _saved(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.as_saved is None else rows.to(self.as_saved)


def halves(values: torch.Tensor) -> np.ndarray:
    """Values (k, d) in float16; those that it cannot hold are its largest."""
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half().cpu().numpy()


def row_lengths(values: torch.Tensor, dim: int) -> torch.Tensor:
    """The lengths of vectors along a dimension, float32."""
    return torch.linalg.vector_norm(values.detach(), dim=dim, dtype=torch.float32)

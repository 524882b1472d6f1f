"""A whole embedding that FSDP's second version (``fully_shard``) has split by rows: each process holds some of them, whole.

So lengths of gradients are known row by row where the rows are, and are put together at each step; the rows themselves at each record alone,
which takes the memory of one embedding. All processes do either at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ks_core.errors import SettingsError
from ks_core.trajectory.rows import Rows, row_lengths


def is_by_rows(weight: Any) -> bool:
    """Whether a weight is split over processes, and by rows alone."""
    placed = getattr(weight, "placements", ()) if hasattr(weight, "full_tensor") else ()
    return bool(placed) and all(p.is_replicate() or p.is_shard(0) for p in placed)


def all_rows(weight: Any) -> torch.Tensor:
    """All of a split weight (V, d), on each of the processes, which ask at once."""
    found: torch.Tensor = weight.full_tensor().detach()
    return found


@dataclass
class SplitRows(Rows):
    """``param`` is this process's part; ``values`` are all rows as they were when they were last put together."""

    param: Any = None
    together = True

    def gather(self) -> None:
        self.values = all_rows(self.param)

    def gradient(self) -> torch.Tensor | None:
        from torch.distributed.tensor import DTensor

        found = self.param.grad
        if found is None:
            return None
        if not is_by_rows(found):
            raise SettingsError(
                "The gradient of the embedding is not split by rows, and so it is not known row by row. Record by checkpoints."
            )
        own, rows = row_lengths(found.to_local(), 1), found.shape[0]
        whole = DTensor.from_local(
            own, found.device_mesh, found.placements, run_check=False, shape=torch.Size((rows,)), stride=(1,)
        )
        return whole.full_tensor()

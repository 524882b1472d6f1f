"""The KS statistic of many rows on a GPU, with torch: one batched sort, the same integers.

Both samples of a row are sorted together; walking along, the gap goes up by one for a value from before
and down for one from after, and counts only where the next value differs, so that ties step together.

Written for cuda and mps; tested on torch's CPU device. It has not been run on a GPU.
"""

from __future__ import annotations

import numpy as np
import torch

from ks_core.kernels.cpu import CPUKernel

#: Bytes of work space per value of a row pair: values, sort's output and indices, gaps.
BYTES_PER_VALUE = 2 * (4 + 4 + 8 + 4 + 4 + 4)
DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


class TorchKernel:
    """Counts rows on a torch device; what does not fit is halved, and in the end left to the CPU."""

    def __init__(self, device: str) -> None:
        self.device = "torch:cpu" if device == "cpu" else device
        self.note: str | None = None
        self._torch_device = torch.device(device)
        self._rows: int | None = None  # the most rows that went well at once
        self._cpu: CPUKernel | None = None

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]:
        """As ``ks_core.kernels.cpu.CPUKernel.count``."""
        if self._torch_device.type == "mps" and dtype == "float64":
            self._give_up("mps has no float64")
        n, d = before.shape
        counts, bad = np.zeros(n, np.int32), np.zeros(n, np.int8)
        l2, cosine = np.zeros(n), np.ones(n)
        wholes: list[np.ndarray] = [counts, l2, cosine, bad]
        rows = self._rows or max(1, self._free_bytes() // (2 * BYTES_PER_VALUE * d))
        start = 0
        while start < n:
            stop = min(n, start + rows)
            out: tuple[np.ndarray, ...] = tuple(x[start:stop] for x in wholes)
            if self._cpu:
                found = self._cpu.count(before[start:], after[start:], dtype, with_shift)
                for whole, part in zip(wholes, found, strict=True):
                    whole[start:] = part
                return counts, l2, cosine, bad
            try:
                self._count(before[start:stop], after[start:stop], dtype, with_shift, *out)
                start = stop
                self._rows = rows
            except RuntimeError as error:  # mps raises a plain RuntimeError
                if not (isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)):
                    raise
                if rows == 1:
                    self._give_up("it ran out of memory")
                rows = max(1, rows // 2)
        return counts, l2, cosine, bad

    def _count(
        self,
        before: np.ndarray,
        after: np.ndarray,
        dtype: str,
        with_shift: bool,
        counts: np.ndarray,
        l2: np.ndarray,
        cosine: np.ndarray,
        bad: np.ndarray,
    ) -> None:
        a, b = (self._tensor(x, dtype) for x in (before, after))
        finite_a, finite_b = torch.isfinite(a).all(1), torch.isfinite(b).all(1)
        bad[:] = torch.where(finite_a, torch.where(finite_b, 0, 2), 1).to(torch.int8).cpu().numpy()
        values, origin = torch.cat([a, b], dim=1).sort(dim=1)
        d = a.shape[1]
        gap = torch.where(origin < d, 1, -1).to(torch.int32).cumsum(dim=1, dtype=torch.int32)
        last = torch.ones_like(gap, dtype=torch.bool)
        last[:, :-1] = values[:, 1:] != values[:, :-1]
        counts[:] = gap.abs().mul(last).amax(dim=1).cpu().numpy()
        if with_shift:
            if self._torch_device.type == "mps":
                a, b = a.cpu(), b.cpu()  # mps has no float64
            x, y = a.double(), b.double()
            l2[:] = (y - x).norm(dim=1).cpu().numpy()
            found = (x * y).sum(1) / x.norm(dim=1) / y.norm(dim=1)
            same = (a == b).all(1)
            cosine[:] = torch.where(same, 1.0, torch.nan_to_num(found).clamp(-1, 1)).cpu().numpy()

    def _tensor(self, block: np.ndarray, dtype: str) -> torch.Tensor:
        if dtype in ("bfloat16", "float16"):
            narrow = torch.from_numpy(np.array(block).view(np.int16)).to(self._torch_device)
            return narrow.view(DTYPES[dtype]).float()  # exact, and every device sorts float32
        return torch.from_numpy(np.array(block)).to(self._torch_device)

    def _free_bytes(self) -> int:
        if self._torch_device.type == "cuda":
            return torch.cuda.mem_get_info(self._torch_device)[0]
        if self._torch_device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return 1 << 30

    def _give_up(self, why: str) -> None:
        if self._cpu is None:
            self._cpu = CPUKernel()
            self.note = f"{self.device} could not do it ({why}), so the CPU did; the result is the same."
            self.device = "cpu"

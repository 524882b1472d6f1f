"""The KS statistic of many rows on a GPU, with torch: one batched sort, the same integers.

Both samples of a row are sorted together; walking along, the gap goes up by one for a value from before
and down for one from after, and counts only where the next value differs, so that ties step together.
What is sorted are integers in the order of the floats, so a device that takes subnormal numbers for zero
(as some GPUs do) counts them all the same.

Run on cuda (an H100: ``make gpu``) and on torch's CPU device, in the tests; mps has not been at hand.
"""

from __future__ import annotations

import numpy as np
import torch

from ks_core.ks.kernels.cpu import CPUKernel

#: Bits of infinity, and the integer type that holds a value.
KINDS = {
    "bfloat16": (0x7F80, np.int16),
    "float16": (0x7C00, np.int16),
    "float32": (0x7F80_0000, np.int32),
    "float64": (0x7FF0_0000_0000_0000, np.int64),
}
#: Bytes of work space for one value of either row: keys, the sort's output and positions, gaps, masks.
BYTES_PER_VALUE = 48
#: Bytes that the CPU device may use for work space.
CPU_BYTES = 1 << 30


class TorchKernel:
    """Counts rows on a torch device; what does not fit is halved, and in the end left to the CPU."""

    def __init__(self, device: str) -> None:
        self.device = "torch:cpu" if device == "cpu" else device
        self.note: str | None = None
        self._torch_device = torch.device(device)
        self._rows: int | None = None  # the most rows that went well at once
        self._cpu: CPUKernel | None = None

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]:
        """As ``ks_core.ks.kernels.cpu.CPUKernel.count``."""
        if self._torch_device.type == "mps" and dtype == "float64":
            self._give_up("mps has no float64")
        if self._cpu:
            return self._cpu.count(before, after, dtype, with_shift)
        n, d = before.shape
        out: tuple[np.ndarray, ...] = np.zeros(n, np.int32), np.zeros(n), np.ones(n), np.zeros(n, np.int8)
        rows = self._rows or max(1, self._free_bytes() // 2 // (2 * d * BYTES_PER_VALUE))
        start = 0
        while start < n:
            if self._cpu:
                found = self._cpu.count(before[start:], after[start:], dtype, with_shift)
                for whole, rest in zip(out, found, strict=True):
                    whole[start:] = rest
                break
            piece = slice(start, start + rows)
            try:
                self._count(before[piece], after[piece], dtype, with_shift, *(whole[piece] for whole in out))
            except RuntimeError as error:  # OutOfMemoryError is one; mps raises it plain
                if not (isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)):
                    raise
                if rows == 1:
                    self._give_up("it ran out of memory")
                rows = self._rows = max(1, min(rows, n - start) // 2)
                continue
            start += rows
        return out

    def _count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool, counts: np.ndarray,
               l2: np.ndarray, cosine: np.ndarray, bad: np.ndarray) -> None:  # fmt: skip
        d = before.shape[1]
        infinite, kind = KINDS[dtype]
        a, b = (torch.from_numpy(np.array(x).view(kind)).to(self._torch_device) for x in (before, after))
        a, b = (_keys(x) for x in (a, b))
        wrong_a, wrong_b = ((x.abs() >= infinite).any(1) for x in (a, b))
        bad[:] = torch.where(wrong_a, 1, torch.where(wrong_b, 2, 0)).to(torch.int8).cpu().numpy()
        same = (a == b).all(1)
        values, origin = torch.cat([a, b], dim=1).sort(dim=1)
        gap = torch.where(origin < d, 1, -1).to(torch.int32).cumsum(dim=1, dtype=torch.int32)
        last = torch.ones_like(gap, dtype=torch.bool)
        last[:, :-1] = values[:, 1:] != values[:, :-1]
        counts[:] = gap.abs().mul(last).amax(dim=1).cpu().numpy()
        if with_shift:
            x, y = (self._floats(z, dtype) for z in (before, after))
            if dtype == "float64":
                length, x, y = _near_one(x, y)
            else:
                length = (y - x).norm(dim=1)
            l2[:] = length.cpu().numpy()
            found = (x * y).sum(1) / x.norm(dim=1) / y.norm(dim=1)
            cosine[:] = torch.where(same.to(found.device), 1.0, torch.nan_to_num(found).clamp(-1, 1)).cpu().numpy()

    def _floats(self, block: np.ndarray, dtype: str) -> torch.Tensor:
        """The values as float64, on the device if it has that."""
        values = torch.from_numpy(np.array(block).view(KINDS[dtype][1])).view(getattr(torch, dtype))
        return (values if self._torch_device.type == "mps" else values.to(self._torch_device)).double()

    def _free_bytes(self) -> int:
        if self._torch_device.type == "cuda":
            return torch.cuda.mem_get_info(self._torch_device)[0]
        if self._torch_device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return CPU_BYTES

    def _give_up(self, why: str) -> None:
        if self._cpu is None:
            self._cpu = CPUKernel()
            self.note = f"{self.device} could not do it ({why}), so the CPU did; the result is the same."
            self.device = "cpu"


def _near_one(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lengths of y - x, and both with each row brought near 1 by a power of two: squares of float64 can leave its range."""

    def apart(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        exponent = torch.frexp(z.abs().amax(dim=1, keepdim=True)).exponent
        # In two steps: the power itself can be out of range.
        return torch.ldexp(torch.ldexp(z, -(exponent // 2)), exponent // 2 - exponent), exponent

    shift, exponent = apart(y / 2 - x / 2)  # a difference can be twice the largest number
    length, up = shift.norm(dim=1), exponent[:, 0] + 1
    return torch.ldexp(torch.ldexp(length, up // 2), up - up // 2), apart(x)[0], apart(y)[0]


def _keys(bits: torch.Tensor) -> torch.Tensor:
    """Signed integers in the order of the floats whose bits these are; -0.0 gets 0, like 0.0.

    The magnitude's bits grow with the magnitude; below zero they are negated. Integers of 16 bits come
    back with 32, for devices that do not sort short ones.
    """
    if bits.dtype == torch.int16:
        bits = bits.to(torch.int32)
        magnitude = bits & 0x7FFF
    else:
        magnitude = bits & torch.iinfo(bits.dtype).max
    return torch.where(bits < 0, -magnitude, magnitude)

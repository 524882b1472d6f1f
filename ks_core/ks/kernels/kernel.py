"""What a kernel is, and the one for a device."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ks_core.jobs import devices


class Kernel(Protocol):
    """Something that counts: the integers k = D * d for a block of rows, see ``kernels``."""

    device: str
    #: One sentence when the kernel did not run where it was meant to; ``None`` otherwise.
    note: str | None

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]: ...


def fastest(device: str = "auto") -> str:
    """The device that a test runs on for a wish. ``auto`` is the CPU, whatever else is there.

    Rows come from files by way of main memory, and counting them is cheaper than carrying them to a card and sorting them
    there: beside an H100, the CPU kernel on 16 cores took 0.127 s where the torch kernel took 0.436 (32,000 x 4,096 float32)
    and 0.290 where it took 0.652 (128,256 x 4,096 bfloat16); docs/gpu.md. Nor is torch imported to look for a card.
    Raises what ``devices.select`` raises.
    """
    return "cpu" if device == "auto" else devices.select(device)


def kernel_of(device: str, dtype: str, d: int) -> Kernel:
    """The kernel for a selected device, ready to count rows of ``d`` values of a dtype."""
    if device == "cpu":
        from ks_core.ks.kernels.cpu import CPUKernel, ready

        ready(dtype, d)
        return CPUKernel()
    from ks_core.ks.kernels.torch_kernel import TorchKernel

    return TorchKernel(device.removeprefix("torch:"))

"""What a kernel is, and the one for a device."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Kernel(Protocol):
    """Something that counts: the integers k = D * d for a block of rows, see ``kernels``."""

    device: str
    #: One sentence when the kernel did not run where it was meant to; ``None`` otherwise.
    note: str | None

    def count(self, before: np.ndarray, after: np.ndarray, dtype: str, with_shift: bool) -> tuple[np.ndarray, ...]: ...


def kernel_of(device: str) -> Kernel:
    """The kernel for a selected device."""
    if device == "cpu":
        from ks_core.ks.kernels.cpu import CPUKernel

        return CPUKernel()
    from ks_core.ks.kernels.torch_kernel import TorchKernel

    return TorchKernel(device.removeprefix("torch:"))

"""What this machine computes on: cuda, mps or the CPU, how many of each, and how much memory is free there."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from ks_core.errors import SettingsError

#: What can be asked for; ``torch:cpu`` is torch on the CPU, to try there what a GPU does.
NAMES = ("auto", "cuda", "mps", "cpu", "torch:cpu")

#: One of these is there on a Linux machine with a GPU that torch can use: NVIDIA's driver, that of a guest of Windows, AMD's.
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")

#: Where Linux says what a container may take, in its second way and in its first: the limit, what is used, and which of that is files.
GROUPS = Path("/sys/fs/cgroup")
_GROUP_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def available() -> list[str]:
    """The devices of this machine, the fastest first. Imports torch only where it may find more than the CPU."""
    if not _may_have_gpu():
        return ["cpu"]
    try:
        import torch
    except ImportError:
        return ["cpu"]
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def _may_have_gpu() -> bool:
    """Whether torch has to be asked, which takes seconds to import: not on a Linux machine whose system shows no GPU."""
    return "torch" in sys.modules or sys.platform != "linux" or any(map(os.path.exists, _GPU_NODES))


def select(name: str = "auto") -> str:
    """The device for a wish: ``auto`` takes cuda, then mps, then cpu.

    Raises ``SettingsError`` for an unknown name or a device that this machine lacks.
    """
    if name in ("cpu", "torch:cpu"):
        return name  # always there: no need to wait for torch to be imported
    if name not in NAMES and not name.startswith("cuda:"):
        raise SettingsError(f"{name!r} is no device. Expected one of: {', '.join(NAMES)}.")
    found = available()
    if name == "auto":
        return found[0]
    if name.partition(":")[0] not in found:
        raise SettingsError(f"This machine has no {name}. It has: {', '.join(found)}.")
    return name


def count(device: str) -> int:
    """How many there are of a kind of device: GPUs, or the cores that this process may use."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.device_count()
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 by itself; older GPUs do not."""
    if not device.startswith("cuda"):
        return True
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def free_memory(device: str = "cpu") -> int:
    """Bytes that could be taken on a device now. On the CPU a container's own limit counts too."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used, given_back in _GROUP_FILES:
        folder = GROUPS / Path(limit).parent
        with contextlib.suppress(OSError, ValueError):  # "max" means no limit
            most = int((GROUPS / limit).read_text())
            # Files that were read count as used there, but the system lets go of them where memory is asked for.
            held = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            taken = int((GROUPS / used).read_text()) - sum(int(held.get(name, 0)) for name in given_back)
            free = min(free, most - taken)
    return max(free, 0)

"""How fast this machine tests a matrix, against scipy and against what the hardware allows.

Every way works on the same made-up pair: normal rows of standard deviation 0.1 and the same rows with
noise of a fifth of that added, which is a strong but not unusual shift. scipy's ways are timed on a sample
of rows and scaled up, as a whole vocabulary would take minutes.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ks_core import devices
from ks_core.errors import SettingsError
from ks_core.ks import ks_test
from ks_core.matrices import ArrayMatrix, to_floats
from ks_core.signature import versions

DTYPES = ("float32", "bfloat16", "float16", "float64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m ks_core bench``."""
    parser.add_argument("--rows", type=int, default=32_000, help="tokens (default 32000)")
    parser.add_argument("--dim", type=int, default=4096, help="values per row (default 4096)")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--sample", type=int, default=200, help="rows that scipy is timed on (default 200)")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts (default 3)")


@dataclass(frozen=True)
class Timing:
    """One way: its name, seconds for the whole matrix, and whether its integers agree (None: it has none)."""

    way: str
    seconds: float
    agrees: bool | None = None


def run(options: argparse.Namespace) -> int:
    """Print a Markdown table for this machine."""
    if min(options.rows, options.dim, options.sample, options.repeat) < 1:
        raise SettingsError("rows, dim, sample and repeat have to be at least 1.")
    print(machine())
    timings = measure(options.rows, options.dim, options.dtype, options.sample, options.repeat)
    print(f"\n{options.rows:,} x {options.dim:,}, {options.dtype}\n")
    print(table(timings))
    return 0


def machine() -> str:
    """The machine in a line: processor, cores, versions."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    import os

    found = ", ".join(f"{n} {v}" for n, v in versions("numpy", "scipy", "numba", "torch").items())
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, {found}"


def measure(rows: int, dim: int, dtype: str, sample: int, repeat: int) -> list[Timing]:
    """Time every way on one made-up pair. The first entry is scipy's loop, against which ratios are taken."""
    from scipy.stats import ks_2samp

    before, after = _pair(rows, dim, dtype)
    sample = min(sample, rows)
    few_before, few_after = (to_floats(m.block(0, sample), dtype, "float64" if dtype == "float64" else "float32")
                             for m in (before, after))
    scale = rows / sample
    started = time.perf_counter()
    by_scipy = np.array([ks_2samp(a, b, method="exact").statistic for a, b in zip(few_before, few_after, strict=True)])
    loop = Timing(f"scipy, a call per row ({sample} rows, scaled)", (time.perf_counter() - started) * scale)
    expected = np.rint(by_scipy * dim).astype(int)
    seconds = _best(lambda: ks_2samp(few_before, few_after, axis=1, method="exact"), 1)
    found = [loop, Timing(f"scipy, axis=1 ({sample} rows, scaled)", seconds * scale)]
    for device in [d for d in devices.available() if d != "cpu"] + ["torch:cpu", "cpu"]:
        # torch's sort takes long on a CPU: a part of the rows says enough.
        n = rows if device != "torch:cpu" else min(rows, 2000)
        a, b = ArrayMatrix(before.block(0, n), dtype), ArrayMatrix(after.block(0, n), dtype)
        counts = ks_test(ArrayMatrix(a.block(0, sample), dtype), ArrayMatrix(b.block(0, sample), dtype), device).counts
        seconds = _best(lambda a=a, b=b, device=device: ks_test(a, b, device), repeat if n == rows else 1)
        note = f" ({n} rows, scaled)" if n < rows else ""
        name = "this program, cpu" if device == "cpu" else f"this program, torch on {device.removeprefix('torch:')}"
        found.append(Timing(name + note, seconds * rows / n, bool((counts[:sample] == expected).all())))
    some = to_floats(before.block(0, min(rows, 2000)), dtype)
    seconds = _best(lambda: np.sort(some, axis=1), 1) * rows / len(some)
    found.append(Timing("floor: numpy's sort of one side", seconds))
    a, b = before.block(0, rows).view(np.uint8), after.block(0, rows).view(np.uint8)
    found.append(Timing("limit: one pass over memory", _best(lambda: (a.max(), b.max()), repeat)))
    return found


def table(timings: list[Timing]) -> str:
    """The timings in Markdown, with the ratio against the first."""
    lines = ["| way | seconds | times scipy's loop | same integers |", "|---|---:|---:|---|"]
    for t in timings:
        agrees = {None: "-", True: "yes", False: "NO"}[t.agrees]
        lines.append(f"| {t.way} | {t.seconds:,.3f} | {timings[0].seconds / t.seconds:,.1f} | {agrees} |")
    return "\n".join(lines)


def _best(work: Callable[[], object], repeat: int) -> float:
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def _pair(rows: int, dim: int, dtype: str) -> tuple[ArrayMatrix, ArrayMatrix]:
    generator = np.random.default_rng(0)
    sides = []
    base = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 1000):
        base[start : start + 1000] = generator.standard_normal(base[start : start + 1000].shape, np.float32) * 0.1
    for step in (0.0, 0.02):
        side = base
        if step:
            side = base + generator.standard_normal((rows, dim), np.float32) * np.float32(step)
        if dtype == "bfloat16":
            side = (side.view(np.uint32) >> 16).astype(np.uint16)
        sides.append(ArrayMatrix(side if dtype == "bfloat16" else side.astype(dtype), dtype))
    return sides[0], sides[1]

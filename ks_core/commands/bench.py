"""How fast this machine tests a matrix: every way of doing it, in one table, in one run.

    python -m ks_core bench --rows 32000 --dim 4096 --dtype bfloat16

    python -m ks_core bench --process       # what a person waits for a scan instead: ks_core.commands.benches.process
    python -m ks_core bench --training      # training a ticket instead: ks_core.commands.benches.training
    python -m ks_core bench --translating   # translating held-out sentences instead: ks_core.commands.benches.translating

Ways that would take minutes run on a sample of the rows and are extrapolated; the table says so.
Seconds are the best of ``--repeat`` runs for every way alike, first calls and compilation not counted.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.checkpoints.matrices import FLOATS, ArrayMatrix, to_floats
from ks_core.errors import SettingsError
from ks_core.jobs import devices
from ks_core.ks.statistic import ks_test

#: How much a tuned row moves, in standard deviations of the base row.
SHIFT = 0.1


@dataclass(frozen=True)
class Timing:
    """One line of the table. ``seconds`` are for all the rows; ``agree`` is ``None`` where nothing is counted."""

    way: str
    seconds: float
    agree: bool | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m ks_core bench``."""
    parser.add_argument("--rows", type=int, default=32000, help="rows of the matrix (default 32000)")
    parser.add_argument("--dim", type=int, default=4096, help="values in a row (default 4096)")
    parser.add_argument("--dtype", choices=FLOATS, default="float32", help="how they are stored (default float32)")
    parser.add_argument("--sample", type=int, default=400, help="rows for the slow ways, extrapolated (default 400)")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the best counts (default 3)")
    parser.add_argument("--process", action="store_true",
                        help="time the whole command scan, in new processes, beside scipy's loop")  # fmt: skip
    parser.add_argument("--training", action="store_true", help="time the training of the demo's ticket instead")
    parser.add_argument("--steps", type=int, default=30, help="with --training: steps of each training (default 30)")
    parser.add_argument("--translating", action="store_true", help="time the translating of held-out sentences instead")
    parser.add_argument("--sentences", type=int, default=128, help="with --translating: how many (default 128)")
    parser.add_argument("--rounds", type=int, default=3,
                        help="with --training and --translating: rounds of each way (default 3)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure and print a Markdown table. Returns 0, or 1 when any way's integers differ from scipy's.

    With ``--process`` the whole command ``scan`` is measured, with ``--training`` the training, with ``--translating`` the
    translating; then 1 means that losses or answers differ.
    """
    if args.training:
        from ks_core.commands.benches import training

        return training.run(args.steps, args.rounds, machine())
    if args.translating:
        from ks_core.commands.benches import translating

        return translating.run(args.sentences, args.rounds, machine())
    for name in ("rows", "dim", "sample", "repeat"):
        if getattr(args, name) < 1:
            raise SettingsError(f"--{name} is {getattr(args, name)}. Expected at least 1.")
    print("\n".join(f"- {line}" for line in machine()))
    sample = min(args.sample, args.rows)
    if args.process:
        from ks_core.commands.benches import process

        return process.run(*matrices(args.rows, args.dim, args.dtype), sample, args.repeat)
    print(
        f"- {args.rows:,} x {args.dim:,} {args.dtype}, best of {args.repeat}; scipy's ways and the sort run on "
        f"{sample:,} rows and are extrapolated\n",
        flush=True,
    )
    before, after = matrices(args.rows, args.dim, args.dtype)
    timings = measure(before, after, sample, args.repeat)
    print("\n".join(table(timings)))
    return 1 if any(t.agree is False for t in timings) else 0


def machine() -> list[str]:
    """What was measured on: processor, cores, versions."""
    versions = [f"Python {platform.python_version()}"]
    for package in ("numpy", "scipy", "numba", "torch"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return [
        f"{_processor()}, {devices.count('cpu')} cores, {platform.system()} {platform.machine()}",
        ", ".join(versions),
    ]


def matrices(rows: int, dim: int, dtype: str, seed: int = 0) -> tuple[ArrayMatrix, ArrayMatrix]:
    """A base of normal values and a tuned copy in which every row has moved a little."""
    rng = np.random.default_rng(seed)
    kind = {"bfloat16": np.uint16}.get(dtype, dtype)
    before, after = np.empty((rows, dim), kind), np.empty((rows, dim), kind)
    step = max(1, (1 << 22) // dim)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        base = rng.standard_normal((n, dim), dtype=np.float32) * np.float32(0.02)
        moved = base + rng.standard_normal((n, dim), dtype=np.float32) * np.float32(0.02 * SHIFT)
        for target, values in ((before, base), (after, moved)):
            target[start : start + n] = values.view(np.uint32) >> 16 if dtype == "bfloat16" else values
    return ArrayMatrix(before, dtype), ArrayMatrix(after, dtype)


def measure(
    before: ArrayMatrix, after: ArrayMatrix, sample: int, repeat: int, ours: Sequence[str] = ()
) -> list[Timing]:
    """All the ways, scipy's loop first: the others are compared with its integers on the sample.

    ``ours`` are the devices of this program's ways; without it all that the machine has, and torch on the CPU.
    """
    from scipy.stats import ks_2samp

    rows, dim = before.shape
    wide = "float64" if before.dtype == "float64" else "float32"
    a, b = (to_floats(m.block(0, sample), m.dtype, wide) for m in (before, after))
    scale = rows / sample
    note = "" if sample == rows else f" ({sample:,} rows, extrapolated)"
    print("measuring: scipy", flush=True)
    ks_2samp(a[0], b[0])  # its first call is slow; ours is not timed on the first call either
    loop, found = _best(lambda: [ks_2samp(x, y).statistic for x, y in zip(a, b, strict=True)], repeat)
    expected = np.rint(np.array(found) * dim).astype(np.int64)
    timings = [Timing("scipy, row by row" + note, loop * scale)]
    axis, found = _best(lambda: ks_2samp(a, b, axis=1).statistic, repeat)
    counts = np.rint(np.asarray(found) * dim).astype(np.int64)
    timings.append(Timing("scipy, axis=1" + note, axis * scale, np.array_equal(counts, expected)))
    sort, _ = _best(lambda: np.sort(a, axis=1), repeat)
    timings.append(Timing("numpy's sort of one side: floor of ways that sort" + note, sort * scale))
    ours = ours or ["cpu", *("torch:cpu" if d == "cpu" else d for d in devices.available())]
    for device in ours if _has_torch() else ["cpu"]:
        print(f"measuring: {device}", flush=True)
        seconds, result = _time_ours(before, after, device, repeat)
        name = "this program, on the CPU" if device == "cpu" else f"this program, torch on {device.split(':')[-1]}"
        agree = np.array_equal(result.counts[:sample], expected)
        timings.append(Timing(name, seconds, agree))
    scan, _ = _best(lambda: (_read(before.storage), _read(after.storage)), repeat)
    timings.append(Timing("one pass over memory, one core: the limit", scan))
    return timings


def table(timings: list[Timing]) -> list[str]:
    """The lines of a Markdown table; the first timing is the one that ratios refer to."""
    lines = ["| way | seconds | times scipy's loop | integers agree |", "|---|---:|---:|---|"]
    for t in timings:
        agree = "-" if t.agree is None else "yes" if t.agree else "NO"
        lines.append(f"| {t.way} | {t.seconds:.3f} | {timings[0].seconds / t.seconds:.1f} | {agree} |")
    return lines


def _time_ours(before: ArrayMatrix, after: ArrayMatrix, device: str, repeat: int) -> tuple[float, Any]:
    first = [ArrayMatrix(m.block(0, 1), m.dtype) for m in (before, after)]
    ks_test(first[0], first[1], device=device)  # compiles, or loads what was compiled
    return _best(lambda: ks_test(before, after, device=device), repeat)


def _best(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    seconds, result = float("inf"), None
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, result


def _read(storage: np.ndarray) -> int:
    """Touch every byte once, as whole machine words."""
    flat = storage.reshape(-1).view(np.uint8)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    return int(np.bitwise_or.reduce(words)) if words.size else 0


def _has_torch() -> bool:
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"

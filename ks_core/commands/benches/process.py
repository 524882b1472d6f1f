"""What a person waits for a scan: the command as a whole, in a new process each time, beside scipy's loop in one of its own.

    python -m ks_core bench --process

A pair is written to a folder for the time being, and read once, so that the system has it in memory. Then the two take turns:
``python -m ks_core scan`` of the pair with an empty workspace, which has to hash, test and keep everything, and a process that does
no more than to call ``scipy.stats.ks_2samp`` for each of some rows. Of the second its loop alone counts, extrapolated to all rows;
of the first everything, from the start of Python to its end. Seconds are medians over the rounds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import SettingsError
from ks_core.places import ROOT

#: How safetensors calls what is stored.
STORED = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}
#: The peer: the first rows of two files of bytes, one call a row. Its first call is slow and not counted.
LOOP = """
import json, sys, time
import numpy as np
from scipy.stats import ks_2samp

first, second, offset, dtype, rows, dim = sys.argv[1:]
rows, dim = int(rows), int(dim)
kind = np.uint16 if dtype == "bfloat16" else dtype
pair = [np.memmap(name, kind, "r", int(offset), (rows, dim)) for name in (first, second)]
if dtype == "bfloat16":
    pair = [(x.astype(np.uint32) << 16).view(np.float32) for x in pair]
a, b = (np.array(x) for x in pair)
ks_2samp(a[0], b[0])
start = time.perf_counter()
found = [ks_2samp(x, y).statistic for x, y in zip(a, b)]
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "counts": [round(d * dim) for d in found]}))
"""


@dataclass(frozen=True)
class Round:
    """One turn of each. Seconds of scipy's loop for all rows, of the whole scan, of the same scan again; the scan's own parts; and
    whether the integers of both are the same."""

    loop: float
    scan: float
    again: float
    parts: dict[str, float]
    agree: bool


def run(before: ArrayMatrix, after: ArrayMatrix, sample: int, rounds: int) -> int:
    """Measure and print two Markdown tables. Returns 0, or 1 when any integer differs from scipy's.

    Raises ``SettingsError`` where the pair does not fit on the disk, or a process ends badly.
    """
    rows, dim = before.shape
    print(
        f"- {rows:,} x {dim:,} {before.dtype}, medians of {rounds}; scipy's loop ran on {sample:,} rows and is extrapolated\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="ks-lottery-bench-") as name:
        folder = Path(name)
        wanted, free = before.storage.nbytes + after.storage.nbytes + (64 << 20), shutil.disk_usage(folder).free
        if free < wanted:
            raise SettingsError(
                f"The pair takes {wanted / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free. "
                "Give fewer --rows, or name a larger folder in TMPDIR."
            )
        offset = 0
        for side, matrix in (("base", before), ("tuned", after)):
            offset = write(folder / f"{side}.safetensors", matrix)
        _scan(folder, "warm")  # compiles where this machine has not yet, and has the system read the files
        found = []
        for number in range(rounds):
            print(f"measuring: round {number + 1} of {rounds}", flush=True)
            loop, counts = _loop(folder, offset, before.dtype, sample, dim)
            home = f"round-{number}"
            seconds, parts = _scan(folder, home)
            again, _ = _scan(folder, home)
            found.append(Round(loop * rows / sample, seconds, again, parts, _kept(folder / home)[:sample] == counts))
    print("\n".join(["", *table(found), "", *breakdown(found)]))
    return 0 if all(r.agree for r in found) else 1


def write(path: Path, matrix: ArrayMatrix) -> int:
    """A file of safetensors with this embedding alone; where its values begin is returned."""
    described = {"dtype": STORED[matrix.dtype], "shape": list(matrix.shape), "data_offsets": [0, matrix.storage.nbytes]}
    header = json.dumps({"model.embed_tokens.weight": described}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        matrix.storage.tofile(file)
    return 8 + len(header)


def table(found: Sequence[Round]) -> list[str]:
    """The lines of a Markdown table: seconds, and times scipy's loop, medians over the rounds."""
    loop = statistics.median(r.loop for r in found)
    agree = "yes" if all(r.agree for r in found) else "NO"
    lines = ["| way | seconds | times scipy's loop | integers agree |", "|---|---:|---:|---|"]
    lines.append(f"| scipy's loop, one call of `ks_2samp` a row | {loop:.2f} | 1.0 | - |")
    for name, all_seconds, said in (
        ("`python -m ks_core scan` of a new pair, the whole process", [r.scan for r in found], agree),
        ("the same command again, answered from the cache", [r.again for r in found], "-"),
    ):
        seconds = statistics.median(all_seconds)
        lines.append(f"| {name} | {seconds:.2f} | {loop / seconds:.1f} | {said} |")
    return lines


def breakdown(found: Sequence[Round]) -> list[str]:
    """The lines of a Markdown table: seconds of a new pair's scan by part, as ``scan --timings`` says them, medians over the rounds."""
    names = [name for name in found[0].parts if name != "whole"]
    cells = [statistics.median(r.parts[name] for r in found) for name in names]
    last = statistics.median(r.scan - r.parts["whole"] for r in found)
    return [
        f"| seconds of it | {' | '.join(names)} | leaving Python |",
        "|---|" + "---:|" * (len(names) + 1),
        f"| | {' | '.join(f'{s:.2f}' for s in (*cells, last))} |",
    ]


def _scan(folder: Path, home: str) -> tuple[float, dict[str, float]]:
    """Seconds of the whole command in a new process, and its own parts."""
    command = [
        sys.executable,
        "-m",
        "ks_core",
        "scan",
        "base.safetensors",
        "tuned.safetensors",
        "--timings",
        "--top",
        "5",
    ]
    seconds, said = _process(command, folder, KS_LOTTERY_HOME=str(folder / home))
    lines = said.partition("seconds, by part")[2].splitlines()
    return seconds, {m[1]: float(m[2]) for line in lines if (m := re.fullmatch(r"  (\S.*?) +(\d+\.\d+)", line))}


def _loop(folder: Path, offset: int, dtype: str, rows: int, dim: int) -> tuple[float, list[int]]:
    """Seconds of scipy's loop over the first rows, and its integers."""
    words = ["base.safetensors", "tuned.safetensors", *map(str, (offset, dtype, rows, dim))]
    said = json.loads(_process([sys.executable, "-c", LOOP, *words], folder)[1])
    return said["seconds"], said["counts"]


def _kept(home: Path) -> list[int]:
    """The integers of the one scan that a workspace keeps."""
    from safetensors.numpy import load_file

    (file,) = (home / "cache" / "scan").glob("*.safetensors")
    return np.asarray(load_file(file)["counts"]).tolist()


def _process(command: Sequence[str], folder: Path, **environment: str) -> tuple[float, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    # Python keeps what it compiles of modules, here too, whatever the environment says: the first, uncounted turn writes it.
    environment |= {"PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SettingsError(f"A process of the benchmark ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return seconds, done.stdout

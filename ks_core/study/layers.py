"""The same test over every row of every tensor: which layers did fine-tuning shift, and not only which tokens?

Tensors are taken one at a time, in the order in which they lie on disk, and each one's result is kept in
the cache as soon as it is there, under the content of its two sides. So a cancelled scan goes on where it
stopped, and a tensor that a tuning did not touch costs one pass of hashing and no test.

A matrix is tested row by row, a vector (a norm's weight, a bias) as one row, a tensor of more dimensions
with its last ones laid flat. A LoRA is merged on the fly. In names, what wrappers put before them does not count.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core import values
from ks_core.checkpoints.storage import rounding
from ks_core.checkpoints.tensors import Tensors, open_pair, why_apart
from ks_core.errors import CheckpointError, JobError, PairError
from ks_core.jobs import devices, processes as parallel
from ks_core.jobs.resources import MOST_PROCESSES
from ks_core.ks.kernels.kernel import fastest
from ks_core.ks.statistic import ks_test, pvalue_table
from ks_core.signature import Signature, versions
from ks_core.store.cache import Cache

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.jobs.running import Running

VERSION = 1
Report = Callable[[float, float, str], None]


@dataclass(frozen=True)
class TensorResult:
    """The test of one tensor. Only how often each k occurs is kept: every figure follows from it.

    ``k`` int32 (m,) the distinct values of D * dim, ascending, and ``rows_at`` int64 (m,) how many rows
    have each. ``layer`` is the first number in the name, ``module`` the name without it.
    """

    name: str
    rows: int
    dim: int
    bytes: int
    k: np.ndarray
    rows_at: np.ndarray

    @property
    def layer(self) -> int | None:
        found = re.search(r"(?:^|\.)(\d+)\.", self.name)
        return int(found[1]) if found else None

    @property
    def module(self) -> str:
        found = re.match(r"(?:(?:.*?)\.)?(?:\d+)\.(.*)", self.name)
        return found[1] if found else self.name

    @property
    def largest(self) -> float:
        """The largest D."""
        return float(self.k[-1]) / self.dim

    def share(self, alpha: float) -> float:
        """The share of rows with p < alpha."""
        return float(self.rows_at[pvalue_table(self.dim)[self.k] < alpha].sum() / self.rows)

    def changed(self) -> float:
        """The share of rows with D > 0."""
        return float(self.rows_at[self.k > 0].sum() / self.rows)

    def quantile(self, q: float) -> float:
        """The q-quantile of D over the rows (the smallest D that at least that share does not pass)."""
        at = np.searchsorted(np.cumsum(self.rows_at), q * self.rows, side="left")
        return float(self.k[min(int(at), len(self.k) - 1)]) / self.dim


@dataclass(frozen=True)
class LayerScan:
    """All tensors of a pair, in the order of the base's file, and what could not be compared."""

    tensors: list[TensorResult]
    left_out: list[str]
    signature: Signature
    seconds: float
    #: How many tensors were answered by the cache or by equal hashes.
    reused: int = 0
    #: What a person should know of how the two were opened, matched and compared, in sentences.
    notes: tuple[str, ...] = ()


def scan_layers(
    base: str,
    tuned: str,
    *,
    device: str = "auto",
    processes: int = 1,
    cache: Cache | None = None,
    report: Report = lambda *_: None,
) -> LayerScan:
    """Test every tensor that both checkpoints have.

    With several ``processes`` (a GPU each, where there are) they take the tensors in turn, largest first; the result is
    the same. ``report(bytes_done, bytes, tensor)`` is called on the way and may raise ``Cancelled``. Raises
    ``CheckpointError`` where a checkpoint is not stored as safetensors or holds NaN.
    """
    values.whole("The number of processes", processes, 1, MOST_PROCESSES)
    started = time.perf_counter()
    cache = cache or Cache()
    before, after = open_pair(base, tuned)
    shared = [name for name in before.files if name in after.files]
    if not shared:
        raise PairError(
            f"{before.checkpoint.label} and {after.checkpoint.label} share no tensor. Expected a model and its fine-tuning."
        )
    left_out = [
        f"{name}: only in {side.checkpoint.label}"
        for side, other in ((before, after), (after, before))
        for name in side.files
        if name not in other.files
    ]
    sizes = {name: before.files[name][1].stop - before.files[name][1].start for name in shared}
    total = sum(sizes.values())
    report(0, total, shared[0])
    unfit = {name: reason for name in shared if (reason := why_apart(before, after, name))}
    left_out += [f"{name}: {reason}" for name, reason in unfit.items()]
    fit = {name: size for name, size in sizes.items() if name not in unfit}
    if processes > 1:
        done = _side_by_side(base, tuned, cache, fit, device, processes, lambda done, name: report(done, total, name))
    else:
        done = _in_turn(before, after, cache, fit, device, lambda done, name: report(done, total, name))
    results, reused = [done[name][0] for name in fit], sum(known for _, known in done.values())
    report(total, total, "done")
    rounded = Counter(filter(None, (rounding.described(before.matrix(name), after.matrix(name)) for name in fit)))
    signature = Signature({
        "base": f"{before.checkpoint.label}@{before.fingerprint[:12]}",
        "tuned": f"{after.checkpoint.label}@{after.fingerprint[:12]}",
        "test": "ks_2samp two-sided exact, every tensor", "tensors": len(results),
        **({"rounded": ", ".join(f"{count} {how}" for how, count in sorted(rounded.items()))} if rounded else {}),
        **after.checkpoint.facts, **versions("numpy")})  # fmt: skip
    notes = [*after.checkpoint.notes, *before.notes, *after.notes]
    notes += [f"{n:,} tensors are stored otherwise on either side. {rounding.said(h)}" for h, n in rounded.items()]
    return LayerScan(results, left_out, signature, time.perf_counter() - started, reused, tuple(notes))


#: A tensor's result, and whether nothing had to be tested for it.
Done = tuple[TensorResult, bool]


def _in_turn(
    before: Tensors,
    after: Tensors,
    cache: Cache,
    sizes: dict[str, int],
    device: str,
    report: Callable[[float, str], None],
) -> dict[str, Done]:
    """Every tensor in this process, with progress inside each."""
    found, done = {}, 0
    for name, size in sizes.items():
        report(done, name)
        found[name] = _tensor(cache, before, after, name, size, device, partial(_within, report, done, size, name))
        done += size
    return found


def _within(report: Callable[[float, str], None], done: int, size: int, name: str, rows_done: int, rows: int) -> None:
    """Progress inside one tensor, in bytes."""
    report(done + size * rows_done / rows, name)


def _side_by_side(
    base: str,
    tuned: str,
    cache: Cache,
    sizes: dict[str, int],
    device: str,
    processes: int,
    report: Callable[[float, str], None],
) -> dict[str, Done]:
    """Every tensor in one of several processes. What is done is in the cache when one of them is lost."""
    threads = max(1, devices.count("cpu") // processes)
    found: dict[str, Done] = {}
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _Worker.begin, (base, tuned, cache, device, threads)
    )
    try:
        largest_first = sorted(sizes, key=lambda name: -sizes[name])
        with parallel.without_main():
            running = [pool.submit(_Worker.test, name, sizes[name]) for name in largest_first]
        while running:
            finished, _ = wait(running, 0.5, FIRST_COMPLETED)
            for future in finished:
                result, known = future.result()
                found[result.name] = (result, known)
                running.remove(future)
            report(sum(sizes[name] for name in found), next(reversed(found), largest_first[0]))
    except BrokenProcessPool:
        raise JobError(
            f"One of the {processes} processes was killed, by someone or because memory ran out. Start it again: it goes on from "
            "what is kept, and takes less memory with fewer processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return found


class _Worker:
    """What one of the processes holds between two tensors."""

    before: Tensors
    after: Tensors
    cache: Cache
    device: str

    @classmethod
    def begin(cls, base: str, tuned: str, cache: Cache, device: str, threads: int) -> None:
        """Open the pair, once. Several GPUs are dealt out in turn."""
        parallel.end_with_parent()
        os.environ["NUMBA_NUM_THREADS"] = str(threads)  # the kernel keeps to it
        chosen = fastest(device)
        if chosen == "cuda":
            number = multiprocessing.current_process()._identity[-1]  # counts from 1
            chosen = f"cuda:{(number - 1) % devices.count('cuda')}"
        cls.cache, cls.device = cache, chosen
        cls.before, cls.after = open_pair(base, tuned)

    @classmethod
    def test(cls, name: str, size: int) -> Done:
        """The result of one tensor."""
        return _tensor(cls.cache, cls.before, cls.after, name, size, cls.device, lambda done, rows: None)


def _tensor(
    cache: Cache,
    before: Tensors,
    after: Tensors,
    name: str,
    size: int,
    device: str,
    progress: Callable[[int, int], None],
) -> tuple[TensorResult, bool]:
    """The result of one tensor, and whether nothing had to be tested for it."""
    hash_before, hash_after = before.content_hash(name), after.content_hash(name)
    first, second = before.matrix(name), after.matrix(name)
    rows, dim = first.shape
    if hash_before == hash_after:
        return TensorResult(name, rows, dim, size, np.zeros(1, np.int32), np.array([rows])), True
    rounded = rounding.described(first, second)
    key = {"before": hash_before, "after": hash_after, "version": VERSION, **({"rounded": rounded} if rounded else {})}
    entry = cache.load("layer", key)
    if entry is not None:
        return TensorResult(name, rows, dim, size, entry.arrays["k"], entry.arrays["rows_at"]), True
    try:
        result = ks_test(*rounding.common(first, second), device, progress=progress)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from None
    k, rows_at = np.unique(result.counts, return_counts=True)
    cache.store("layer", key, {"k": k, "rows_at": rows_at}, {"name": name})
    return TensorResult(name, rows, dim, size, k, rows_at), False


def table(scan: LayerScan, alpha: float) -> pd.DataFrame:
    """A row per tensor: name, layer, module, rows, values per row, share of rows that changed and with p < alpha,
    largest D, and the median and 99% quantile of D."""
    import pandas as pd

    return pd.DataFrame([
        {"tensor": t.name, "layer": t.layer, "module": t.module, "rows": t.rows, "dim": t.dim, "changed": t.changed(),
         "share_below_alpha": t.share(alpha), "largest_D": t.largest, "median_D": t.quantile(0.5), "q99_D": t.quantile(0.99)}
        for t in scan.tensors
    ]).astype({"layer": "Int64"})  # fmt: skip


def run_layers(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``layers``: fill the cache, tensor by tensor. Where a GPU is asked for, every one gets a process; on the CPU
    one uses all cores."""
    device = fastest(parameters.get("device", "auto"))
    scan = scan_layers(
        parameters["base"],
        parameters["tuned"],
        device=device,
        processes=devices.count("cuda") if device == "cuda" else 1,
        report=lambda done, total, name: running.progress(done / 1e6, total / 1e6, name, unit="MB", stage="layers"),
    )
    return {"tensors": len(scan.tensors), "seconds": scan.seconds, "reused": scan.reused}

"""What state the program is in here: each thing that it stands on, and what to do where one is not well."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ks_core import __version__
from ks_core.errors import KSLotteryError
from ks_core.places import ROOT
from ks_core.store import access, hosts, workspace

GOOD, WARN, BAD = "ok", "warn", "bad"
#: Below these a fine-tune of the demo, or the preparation of its base, may not get through.
MEMORY, DISK = 3 << 30, 2 << 30
PACKAGES = ("streamlit", "plotly", "torch", "transformers", "peft", "accelerate", "safetensors", "numba", "numpy", "scipy",
            "pandas", "umap-learn", "sacrebleu")  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: ``ok``, ``warn`` (works, but ...) or ``bad``; ``advice`` where there is any."""

    name: str
    state: str
    found: str
    advice: str = ""


def examine() -> Iterator[Check]:
    """Every check, one after the other. None of them changes anything but a file that it removes again."""
    for look in (
        _python,
        _packages,
        _device,
        _memory,
        _disk,
        _workspace,
        _cache,
        _jobs,
        _demo,
        _base,
        _access,
        _names,
        _hub,
        _slurm,
        _log,
    ):
        try:
            yield from look()
        except KSLotteryError as error:
            yield Check(look.__name__.strip("_"), BAD, str(error))
        except Exception as error:  # what is broken enough to end a check is what a doctor is there to name
            yield Check(look.__name__.strip("_"), BAD, f"{type(error).__name__}: {error}", "See the log.")


def _python() -> Iterator[Check]:
    old = sys.version_info < (3, 11)
    yield Check("program", BAD if old else GOOD,
                f"KS-Lottery Explorer {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
                "Python 3.11 or newer is needed." if old else "")  # fmt: skip


def _packages() -> Iterator[Check]:
    wanted = _pinned()
    there, wrong = [], []
    for name in PACKAGES:
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        there.append(f"{name} {have}")
        if name in wanted and have.partition("+")[0] != wanted[name]:
            wrong.append(f"{name} {have} (tested with {wanted[name]})")
    missing = any("not installed" in w for w in wrong)
    yield Check("packages", BAD if missing else WARN if wrong else GOOD, "; ".join(wrong) or ", ".join(there),
                "Install what the tests ran with: pip install -r requirements.txt" if wrong else "")  # fmt: skip


def _device() -> Iterator[Check]:
    import torch

    from ks_core.jobs import devices

    yield Check("device", GOOD, f"{devices.select('auto')} (of {', '.join(devices.available())}), "
                f"{os.cpu_count()} processors, {torch.get_num_threads()} threads")  # fmt: skip


def _memory() -> Iterator[Check]:
    from ks_core.jobs.devices import free_memory

    free = free_memory("cpu")
    yield Check("memory", GOOD if free >= MEMORY else WARN, f"{_size(free)} free",
                "" if free >= MEMORY else f"Fine-tuning the demo takes about {_size(MEMORY)}: close other programs.")  # fmt: skip


def _disk() -> Iterator[Check]:
    place = next(p for p in (workspace.home(), *workspace.home().parents) if p.exists())
    free = shutil.disk_usage(place).free
    yield Check("disk", GOOD if free >= DISK else WARN, f"{_size(free)} free for the workspace",
                "" if free >= DISK else "Free some space, or set KS_LOTTERY_HOME to a folder on another disk.")  # fmt: skip


def _workspace() -> Iterator[Check]:
    home = workspace.home()
    advice = "Make it writable, or set KS_LOTTERY_HOME to a folder that is."
    try:
        workspace.write_atomically(home / ".doctor", b"x")
        (home / ".doctor").unlink()
    except OSError as error:
        yield Check("workspace", BAD, f"{home} cannot be written to: {error.strerror}", advice)
        return
    yield Check("workspace", GOOD, str(home))
    stamp = home.stat().st_mtime - time.time()
    if stamp > 60:
        yield Check("clock", WARN, f"the workspace was changed {stamp / 60:.0f} minutes in the future",
                    "Set the clock: jobs are ordered by it.")  # fmt: skip


def _cache() -> Iterator[Check]:
    from ks_core.store.cache import Cache

    cache = Cache()
    entries = cache.entries()
    size = sum(e.bytes for e in entries)
    left = [p for p in cache.folder.glob("*/.*.tmp") if time.time() - p.stat().st_mtime > 3600]
    yield Check("cache", WARN if left else GOOD, f"{len(entries)} results, {_size(size)} of {_size(cache.limit)}"
                + (f"; {len(left)} unfinished files of killed processes" if left else ""),
                f"Remove them: {' '.join(str(p) for p in left[:5])}" if left else "")  # fmt: skip


def _jobs() -> Iterator[Check]:
    from ks_core.jobs.queue import all_jobs

    states = [job.state for job in all_jobs()]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)) or "none yet"
    failed = [job for job in all_jobs() if job.state == "failed"]
    yield Check("jobs", WARN if failed else GOOD, counts,
                f"The newest that failed: {failed[0].id}: {failed[0].error}" if failed else "")  # fmt: skip


def _demo() -> Iterator[Check]:
    from ks_core.checkpoints.demo import names
    from ks_core.checkpoints.demo_files import damaged

    wrong = damaged()
    yield Check("demo", BAD if wrong else GOOD, f"not as shipped: {', '.join(wrong[:5])}" if wrong
                else f"{len(names()) - 1} tuned runs, as shipped",
                "Fetch the repository's assets folder again: git checkout -- assets" if wrong else "")  # fmt: skip


def _base() -> Iterator[Check]:
    from ks_core.checkpoints import demo
    from ks_core.checkpoints.opening import open_checkpoint

    advice = "Run: python -m ks_core demo"
    if not demo.is_ready():
        yield Check("demo's base", WARN, "not prepared in this workspace", advice)
        return
    try:
        rows, width = open_checkpoint(demo.BASE).shape
    except KSLotteryError as error:
        yield Check("demo's base", BAD, str(error), f"Remove {demo.base_folder()}, then: python -m ks_core demo")
        return
    yield Check("demo's base", GOOD, f"{rows:,} rows of {width}")


def _access() -> Iterator[Check]:
    roots = access.roots()
    mode = "read-only (demo and prepared studies, no jobs)" if access.read_only() else "everything can be started"
    where = f"opens files inside {', '.join(map(str, roots))}" if roots else "opens any file that its user can read"
    open_to_all = not roots and not access.read_only()
    yield Check("access", GOOD, f"{mode}; {where}",
                f"Before others can reach it, set {access.ROOTS} or {access.READ_ONLY}=1." if open_to_all else "")  # fmt: skip


def _names() -> Iterator[Check]:
    names = ["127.0.0.1", "localhost", "[::1]", *sorted(map(str, hosts.added()))]
    yield Check("names", GOOD, f"the app answers to {', '.join(names)}")


def _hub() -> Iterator[Check]:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    token = bool(os.environ.get("HF_TOKEN")) or (Path.home() / ".cache" / "huggingface" / "token").is_file()
    yield Check("hub", GOOD, ("offline by HF_HUB_OFFLINE" if offline else "asked when a hub id is named")
                + (", a token is set" if token else ", no token"))  # fmt: skip


def _slurm() -> Iterator[Check]:
    from ks_core.jobs import cluster

    yield Check("Slurm", GOOD, cluster.why_not() or f"answers; partitions: {', '.join(cluster.partitions())}")


def _log() -> Iterator[Check]:
    from ks_core.store import log

    there = log.path().is_file()
    lines: list[str] = []
    if there:
        with log.path().open(encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if " ERROR " in line]
    yield Check("log", WARN if lines else GOOD, f"{log.path()}{'' if there else ' (nothing written yet)'}"
                + (f", {len(lines)} errors" if lines else ""), f"The last: {lines[-1].strip()[:200]}" if lines else "")  # fmt: skip


def _pinned() -> dict[str, str]:
    """What requirements.txt names, where the program runs from its repository."""
    try:
        text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(line.split("==", 1) for line in text.split() if "==" in line and not line.startswith("#"))


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``doctor`` has no options."""


def run(options: argparse.Namespace | None = None, show: Callable[[str], None] = print) -> int:
    """Print every check; 1 when one is bad, 0 otherwise."""
    worst = 0
    for check in examine():
        show(f"{check.state:<5}{check.name:<13}{check.found}")
        if check.advice:
            show(f"{'':<18}-> {check.advice}")
        worst = max(worst, int(check.state == BAD))
    return worst

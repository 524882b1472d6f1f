"""Processes: start one that outlives its parent, and know it again.

A pid alone says little: the system gives it to another process later. On Linux a process is known by its pid, the
kernel's count of clock ticks at its start, and the boot, none of which follows the clock on the wall; elsewhere by
its pid and the time at which it was created.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

from ks_core.places import ROOT


def identity(pid: int) -> str | None:
    """What tells this process from every other that has or had its pid; ``None`` when it is over."""
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return f"{psutil.Process(pid).create_time():.2f}"
        # The program's name stands in parentheses and may hold any character, so the fields are counted from behind it.
        ticks = stat.read_text(errors="replace").rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"
    except (psutil.Error, OSError, IndexError, ValueError, OverflowError, TypeError):
        return None


def is_running(pid: object, known: object) -> bool:
    """Whether the process that had this pid and identity still runs."""
    return isinstance(pid, int) and pid > 0 and isinstance(known, str) and identity(pid) == known


def worker(folder: Path, home: Path) -> tuple[list[str], dict[str, str]]:
    """The command that does the work of a job's folder, and what it needs in its environment beside what is there.

    It is run where the job was asked for, so that relative paths mean the same; the package is found through
    ``PYTHONPATH``, and nothing else that lies in that folder is imported (``-P``).
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "ks_core.jobs.worker", str(folder.resolve())]
    return command, {"KS_LOTTERY_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


def start(command: Sequence[str], environment: Mapping[str, str], output: BinaryIO, cwd: str = "") -> int:
    """Start a process in a session of its own, with nothing inherited but its output. Returns its pid.

    It runs in ``cwd``, or beside the package where that folder is gone.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        cwd=cwd if os.path.isdir(cwd) else ROOT,
        close_fds=True,
        env={**os.environ, **environment},
    )
    # The parent may live for days: without this its ended children would stay as zombies.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Processes that ``multiprocessing`` starts in here do not run the caller's program anew.

    Its way is to run the parent's main module in every child: a page of Streamlit, a notebook's script, a user's program
    without a guard. What the children need is imported by name.
    """
    own = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own


def end_with_parent() -> None:
    """Have this process end when the one that started it (by ``multiprocessing``) is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def end(pid: int) -> None:
    """End a process that ``start`` started, and all that it started. Nothing happens when it is gone."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that no other process holds. It is the system's: gone with its holder, however that ended."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

"""Where the time of a process goes, part by part, as a person waits for it: in its main thread.

    with stopwatch.part("hash"):
        ...
    stopwatch.parts()  # {"import": 0.3, "hash": 0.6}

A part inside another is taken out of that one, so the parts add up. Other threads count nothing: what they do meanwhile
nobody waits for, until the main thread does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_spent: dict[str, float] = {}
_inner: list[float] = []  # seconds of the parts inside each part that is open, the outermost first


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Count the time inside as the part ``name``, but for the parts inside it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    started = time.perf_counter()
    _inner.append(0.0)
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        _spent[name] = _spent.get(name, 0.0) + seconds - _inner.pop()
        if _inner:
            _inner[-1] += seconds


def parts() -> dict[str, float]:
    """Seconds of each part so far, in the order in which the parts ended first."""
    return dict(_spent)


def since_start() -> float:
    """Seconds since this process was started, its interpreter included, to about a hundredth."""
    stat = Path("/proc/self/stat")
    if stat.exists():
        # The program's name stands in parentheses and may hold any character, so the fields are counted from behind it.
        ticks = int(stat.read_text(errors="replace").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - psutil.Process().create_time()

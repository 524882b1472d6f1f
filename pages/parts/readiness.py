"""What the server does once, so that nobody waits for it later: the app's script runs in a thread for every visitor, beside the one
that answers the browsers, and Python lets one of them go on at a time."""

from __future__ import annotations

import gc
import importlib
import sys
import threading

from ks_core.jobs import bounded

#: Seconds that a script computes before another thread may go on; Python's own are 5 ms, which with twenty visitors at work add up
#: to a tenth of a second, several times in one answer.
TURN = 0.001
#: The rooms, whose lists of names are read when they are first asked for, in one thread at a time: Python 3.11 needs that.
ROOMS = (
    "audit",
    "checkpoints",
    "jobs",
    "ks",
    "ledger",
    "store",
    "study",
    "teaching",
    "tickets",
    "translation",
    "tuning",
)
#: What most pages draw with, the first of which would wait for it.
LIBRARIES = ("pandas", "pyarrow", "plotly.graph_objects", "scipy.stats")


def begin() -> None:
    """For the app's server, before its first visitor."""
    bounded.begin()
    sys.setswitchinterval(TURN)
    for room in ROOMS:
        importlib.import_module(f"ks_core.{room}")
    threading.Thread(target=_load, name="libraries", daemon=True).start()


def _load() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    # What is loaded stays: looking through it for what may be let go would hold up everybody, a sixth of a second each time.
    gc.collect()
    gc.freeze()

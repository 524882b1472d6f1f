"""What the server does once, so that nobody waits for it later: the app's script runs in a thread for every visitor, beside the one
that answers the browsers, and Python lets one of them go on at a time."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import threading

import ks_core
from ks_core.jobs import bounded

#: Seconds that a script computes before another thread may go on; Python's own are 5 ms, which with twenty visitors at work add up
#: to a tenth of a second, several times in one answer.
TURN = 0.001
#: What most pages draw with, the first of which would wait for it.
LIBRARIES = ("pandas", "pyarrow", "plotly.graph_objects", "scipy.stats")


def begin() -> None:
    """For the app's server, before its first visitor."""
    bounded.begin()
    sys.setswitchinterval(TURN)
    # A room's list of names is read when it is first asked for, in one thread at a time: Python 3.11 needs that.
    for room in pkgutil.iter_modules(ks_core.__path__):
        if room.ispkg:
            importlib.import_module(f"ks_core.{room.name}")
    threading.Thread(target=_load, name="libraries", daemon=True).start()


def _load() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    # What is loaded stays: looking through it for what may be let go would hold up everybody, a sixth of a second each time. Not so
    # what visitors bring: frozen again and again, closed sessions stayed, 3.3 GB of twenty in ten minutes.
    gc.collect()
    gc.freeze()

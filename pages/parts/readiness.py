"""What the server does once, so that nobody waits for it later: the app's script runs in a thread for every visitor, beside the one
that answers the browsers, and Python lets one of them go on at a time."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import threading
import time

import ks_core
from ks_core.jobs import bounded, turns

#: Seconds that a script computes before another thread may go on; Python's own are 5 ms, which with twenty visitors at work add up
#: to a tenth of a second, several times in one answer.
TURN = 0.001
#: Seconds after which all that is held is looked through again where nobody computes, and where somebody always does.
OFTEN, AT_LAST = 60.0, 900.0
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
    gc.callbacks.append(_leave_alone)
    while True:
        gc.unfreeze()
        gc.collect()
        _when_nobody_waits()


def _leave_alone(phase: str, about: dict[str, int]) -> None:
    """What lived through a look at everything is not looked at in the next ones.

    Python looks through all that is held for what only holds itself, and everybody waits meanwhile: a sixth of a second after the
    libraries are loaded, half a second with twenty visitors. Most of it stays, or is let go without being looked for.
    """
    if phase == "stop" and about["generation"] == 2:
        gc.freeze()


def _when_nobody_waits() -> None:
    """Wait until it is time to look at everything again: when nothing is computed, and after a while in any case."""
    began = time.monotonic()
    time.sleep(OFTEN)
    while turns.busy() and time.monotonic() - began < AT_LAST:
        time.sleep(1)

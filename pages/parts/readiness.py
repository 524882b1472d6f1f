"""What the server does once, so that nobody waits for it later: the app's script runs in a thread for every visitor, beside the one
that answers the browsers, and Python lets one of them go on at a time."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import threading
import time

from streamlit.runtime.pages_manager import PagesManager

import ks_core
from ks_core.jobs import bounded

#: Seconds that a script computes before another thread may go on; Python's own are 5 ms, which with twenty visitors at work add up
#: to a tenth of a second, several times in one answer.
TURN = 0.001
#: What the Overview is shown with, and most of it every page: the first of them would wait for it.
LIBRARIES = ("pyarrow", "pandas", "plotly.graph_objects", "pages.parts.tour")

#: Looks through the young objects, 7,000 new ones each, after which all are looked through. Python by itself waits until a quarter more
#: have come: for twenty visitors that is 40,000, and a pause of a fifth of a second on a busy machine.
SOON = 2
#: How often what was loaded is set aside after the start, and after how many seconds at the earliest: some is loaded by the pages. What visitors
#: hold at that moment is set aside with it, so this may not go on (frozen again and again, closed sessions stayed, 3.3 GB of twenty in ten minutes).
FREEZES, APART = 2, 30.0


def begin() -> None:
    """For the app's server, before its first visitor."""
    bounded.begin()
    # Or the first visitor who comes by a link to a page is shown that file of pages/ alone, without what app.py draws beside it.
    PagesManager.uses_pages_directory = False
    sys.setswitchinterval(TURN)
    # A room's list of names is read when it is first asked for, in one thread at a time: Python 3.11 needs that.
    for room in pkgutil.iter_modules(ks_core.__path__):
        if room.ispkg:
            importlib.import_module(f"ks_core.{room.name}")
    threading.Thread(target=_load, name="libraries", daemon=True).start()


def _load() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    # What is loaded stays: looking through it for what may be let go would hold up everybody.
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, sys.maxsize >> 32)  # by itself Python looks through all of them no more
    threading.Thread(target=_look_through, args=(len(sys.modules),), name="looking through", daemon=True).start()


def _look_through(loaded: int) -> None:
    """Look through all objects a little at a time: often, while few have come."""
    left, last = FREEZES, time.monotonic()
    while True:
        time.sleep(0.25)
        if gc.get_count()[2] < SOON:
            continue
        gc.collect()
        if left and len(sys.modules) > loaded and time.monotonic() - last > APART:
            gc.freeze()
            left, last, loaded = left - 1, time.monotonic(), len(sys.modules)

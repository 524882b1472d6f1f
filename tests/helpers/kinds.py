"""A kind of job for one test, known here and in the processes that are started from here."""

import os

from ks_core.jobs import KINDS, Kind
from ks_core.places import ROOT

REGISTERED = """
from ks_core.jobs import KINDS, Kind
KINDS.add(Kind({name!r}, "Test", "Of a test.", work={work!r}))
"""


def with_kind(folder, monkeypatch, name, work):
    """Have jobs of this kind run ``work`` (``module:function``, its module in ``folder``) until the test ends."""
    (folder / "sitecustomize.py").write_text(REGISTERED.format(name=name, work=work))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    monkeypatch.setitem(KINDS._entries, name, Kind(name, "Test", "Of a test.", work=work))

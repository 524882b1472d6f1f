"""The pairs that have a name: the demo's runs, and what was prepared on this machine."""

from __future__ import annotations

from ks_core.checkpoints import demo
from ks_core.store import prepared
from ks_core.store.prepared import Prepared


def studies() -> list[Prepared]:
    """Every named pair, those of the demo first: all that a read-only server shows."""
    return [*(Prepared(name, demo.BASE, name) for name in demo.names() if name != demo.BASE), *prepared.studies()]

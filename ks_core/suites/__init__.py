"""Suites of runs, and the paper row by row: language pairs, protocols and seeds with the same arms, as one run with one table.

Comes in: a ``Suite`` (base, texts, protocols, seeds, arms), by hand or from a preset. Goes out: its runs, each found again by what it was made
from; a table with intervals over seeds and sentences; what was published, beside what was measured here. How an arm is trained stands in
``ks_core.tuning``, how seeds are drawn in ``ks_core.ledger``.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""KS-Lottery Explorer: find winning tickets in a pair of checkpoints, and ask whether they are real.

    from ks_core import open_study, ks_test, Ticket, tune, audit_ticket

    study = open_study("demo:base", "demo:en-fr")
    scan = study.scan()
    print(int(scan.winners(alpha=0.05).sum()), "rows win")

Each room below has a face of its own, with what it offers: ``ks_core.checkpoints``, ``ks_core.ks``, ``ks_core.study``,
``ks_core.tickets``, ``ks_core.trajectory``, ``ks_core.translation``, ``ks_core.tuning``, ``ks_core.audit``, ``ks_core.jobs``, ``ks_core.store``,
``ks_core.teaching``, ``ks_core.commands``. Nothing is loaded before it is used: torch alone takes seconds.
"""

import lazy_loader

__version__ = "0.1.0"

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Tickets: which rows a rule chooses, a folder of them that peft loads, and what numbers alone say of a ticket.

Comes in: a scan. Goes out: a ``Ticket``; whether another seed has the same one, what explains D, what p means on this pair.
No model is run here.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

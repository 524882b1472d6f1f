"""A pair of checkpoints and what the test says of it: rows, layers, maps of where rows went.

Comes in: two sources. Goes out: a ``Study`` with its scan (from the cache or computed), tables, figures. It chooses no ticket.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

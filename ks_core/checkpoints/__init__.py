"""Opening a checkpoint: whatever it is, out comes its embedding, its vocabulary and a content hash.

Comes in: a source (folder, file, adapter, hub id, ``demo:en-fr``). Goes out: a ``Checkpoint``, memory-mapped, or a pair whose
rows are matched by token. Nothing that a checkpoint brings is run. It tests and trains nothing.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Where things are kept, and who may see them: the room that every other one stands on.

Comes in: the environment (``KS_LOTTERY_HOME``, roots, read-only, hosts). Goes out: the workspace's folder, a cache of results by
content, the list of prepared studies, what a server lets its visitors open and start, the names it answers to, and the log.
It does not know what a checkpoint, a test or a job is.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Long work in processes of its own: submitted, followed, cancelled, resumed; shared by several, or handed to Slurm.

Comes in: a kind of job and plain parameters. Goes out: a ``Job``, which is a folder that any process can follow. It runs
a function that ``KINDS`` names, and imports none of them. What a machine computes on (``devices``) is asked here too, and
what comes from outside is read here within bounds (``bounded``).
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

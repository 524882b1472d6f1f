"""Drift over training: the test of every embedding row against the start, at many steps instead of one.

Comes in: a model while it is trained (``KSLotteryCallback``, ``Recorder``), checkpoints of one training, or a recorded file.
Goes out: a ``Trajectory``, with D, p, shift and cosine of each row that moved at each recorded step; its table, its figures. It
trains nothing and chooses no ticket.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""KS-Lottery Explorer: find winning tickets in a pair of checkpoints, and ask whether they are real.

Nothing is imported here on purpose: ``python -m ks_core`` has to start in a fraction of a second,
and torch alone takes seconds. Import the module you need: ``from ks_core import ks``.
"""

__version__ = "0.1.0"

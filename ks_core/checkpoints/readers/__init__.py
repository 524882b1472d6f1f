"""Readers: for each kind of source one that says whether it is its own, and opens it.

Comes in: a ``Source``. Goes out: a ``Checkpoint``. ``registry`` has the list and the walk through it, ``reader`` what a reader
is, and each other file one of them (``weights`` what two of them share).
"""

from ks_core.checkpoints.readers.reader import Reader as Reader
from ks_core.checkpoints.readers.registry import READERS as READERS

"""How numbers are stored, and what that takes away.

Comes in: matrices. Goes out: matrices. ``grids`` knows which values a storage can hold (``ggml`` and ``scaled`` those of blocks
and of numbers with scales), ``rounding`` brings two matrices of different storage to the values that both can hold.
"""

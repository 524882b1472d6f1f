"""The test itself, on arrays: the two-sample Kolmogorov-Smirnov statistic of every row, exact, and its p-value.

Comes in: two matrices (V, d). Goes out: D and p for every row, critical values, power. It knows no token and no file;
``kernels`` count, on the CPU and on GPUs.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The command line: a file per command, and the options that several share.

Comes in: words. Goes out: text on a terminal, files, an exit code. It computes nothing: it drives the same functions as
the pages.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

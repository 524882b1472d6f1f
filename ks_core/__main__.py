"""``python -m ks_core``: the command line, which is in ``commands``."""

import sys

from ks_core.commands.program import main

if __name__ == "__main__":
    sys.exit(main())

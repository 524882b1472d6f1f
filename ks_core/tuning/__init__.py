"""Training: a plan of arms, carried out and scored side by side; how the demo's own rows were made.

Comes in: a ``Plan`` (base, ticket, text, prompt, arms). Goes out: a run, which is a folder with a table. Choosing a plan
loads no torch; what doubts a ticket beyond its arms is the audit's.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Is the ticket real? What is asked of it with the model at hand, and the sentences that the answers allow.

Comes in: an ``Audit`` (pair, ticket, text, prompt, budget). Goes out: panels, evidence, a verdict, a report.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

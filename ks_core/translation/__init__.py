"""Parallel text, prompts, what a model writes for them, and its scores.

Comes in: the name of a corpus, a prompt, a loaded model. Goes out: sentence pairs with the split that no run may cross,
answers under every extraction rule, and scores with intervals. It trains nothing and knows no ticket.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Both models, asked at once: the base, the base with the ticket's rows, and the tuned model, side by side.

Comes in: a ``Question`` (pair, ticket, what is typed, which rows act and how strongly). Goes out: an ``Answer`` of each as it is
written, and where their probabilities part, token by token. Nothing is scored here and nothing is trained; kept is
one question of the demo, which ships with its answers.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

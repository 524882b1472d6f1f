"""What Learn and Glossary say: lessons on arrays, questions, terms, and where each statement comes from.

Comes in: settings of a lesson. Goes out: numbers, figures and texts with their sources. It opens no checkpoint.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

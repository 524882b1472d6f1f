"""What is a row worth? Likelihood of references with some rows copied, which rows carry a gain, and the rules that compete with D.

Comes in: an ``Inquiry`` (pair, text, prompt, how much of it). Goes out: likelihoods, an attribution, a bake-off of rules, the
smallest ticket, what a training on noise gives. Nothing is written by a model here, and no row is trained on text.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

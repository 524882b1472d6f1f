"""What is a row worth? Likelihood of references with some rows copied, which rows carry a gain, and the rules that compete with D.

Comes in: an ``Inquiry`` (a pair, or several that differ in the seed; text, prompt, how much of it). Goes out: likelihoods, an
attribution, a bake-off of rules, rules trained at equal budget, the smallest ticket, what a training on noise gives. Nothing is
written by a model here, and how rows are trained stands in ``ks_core.tuning``.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

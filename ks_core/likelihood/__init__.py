"""What a model reads of a text, and how likely it finds it.

Comes in: a model, pairs of sentences, a prompt. Goes out: examples as ids and batches, references with the part of the sequence
that each token stands in, nats of each reference, with any rows laid over the model. No row is chosen here, and nothing trained.
"""

import lazy_loader

# The public names stand in the .pyi beside this file; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

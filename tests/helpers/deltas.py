"""A model with a change laid over its rows, and what it is asked, for the tests of what a trained change does."""

import copy

import torch

from ks_core.likelihood.rows import lay_over
from ks_core.translation.evaluation import HeldOut


def changed(tiny_model, ids, seed):
    """A copy of the tiny model whose rows ``ids`` carry a delta as large as themselves, so that greedy answers change."""
    found = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for p in found.parameters():
            p *= 6  # the initial weights are too small for an answer to depend on the prompt
    rows = lay_over(found, ids)
    with torch.no_grad():
        rows.rows += 0.3 * torch.randn(rows.rows.shape, generator=torch.Generator().manual_seed(seed))
    return found


def asked(template, sources, references, **settings):
    """These sentences under a template, as held-out ones into French."""
    prompts = tuple(template.format(source=s) for s in sources)
    settings = {"max_new_tokens": 8, **settings}
    return HeldOut("tiny", template, prompts, tuple(sources), tuple(references), "French", **settings)

"""References in the tiny model's words, as the ledger scores them, and a model with rows that were changed over it."""

import copy

import torch

from helpers.tiny_text import PROMPT
from ks_core.likelihood.references import references_of
from ks_core.likelihood.rows import lay_over
from ks_core.translation.corpora import Corpus, SentencePair

#: Rows of the prompt, of sources and of targets; w20 to w30 stand in some references alone.
IDS = [3, 4, 6, 9, 10, 11, *range(20, 31), 41, 50]


def pairs(count=12, start=0):
    """Sentences of one to four words, translated by one to three."""
    return tuple(
        SentencePair(
            " ".join(f"w{7 + (n * k + k) % 13}" for k in range(1, 2 + n % 4)),
            " ".join(f"w{20 + (3 * n + k) % 25}" for k in range(1 + n % 3)),
        )
        for n in range(start, start + count)
    )


def corpus(count=12):
    """Pairs to train on, and twice as many held out: halves for development and test."""
    return Corpus("tiny", "A", "B", pairs(count, 100), pairs(2 * count))


def references(model, tokenizer, part="test", *, text=None, prompt=PROMPT, sentences=0):
    return references_of(model, tokenizer, text or corpus(), prompt, part=part, sentences=sentences)


def laid(tiny_model, ids=IDS, seed=5, size=1.0):
    """A copy of the tiny model with a delta on these rows of ``size`` times their own spread. Its weights are larger than those
    that it begins with, so that what it reads matters, and its line from base to tuned is smooth, as a real one's is."""
    found = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for p in found.parameters():
            p *= 9 if p.ndim > 1 else 1
    rows = lay_over(found, ids)
    with torch.no_grad():
        drawn = torch.randn(rows.rows.shape, generator=torch.Generator().manual_seed(seed))
        rows.rows += size * rows.rows.std() * drawn
    return found

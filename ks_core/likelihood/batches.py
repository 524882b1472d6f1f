"""Examples as batches, and the loss on them: computed where there is a target and nowhere else.

So the output layer is not run over the prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ks_core.likelihood.examples import IGNORED, fed


def batch_order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Indices of the examples of every step, one after the other: ``steps * batch_size`` of them.

    Each pass over the examples is shuffled; within stretches of fifty batches those of like length go
    together, which saves half the padding, and the batches are shuffled again. The whole order is made
    beforehand from the seed, so a resumed run meets the very batches it would have met.
    """
    generator = random.Random(seed)
    order: list[int] = []
    while len(order) < steps * batch_size:
        shuffled = list(range(len(lengths)))
        generator.shuffle(shuffled)
        stretch = 50 * batch_size
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), stretch):
            alike = sorted(shuffled[start : start + stretch], key=lambda i: lengths[i])
            batches += [alike[n : n + batch_size] for n in range(0, len(alike), batch_size)]
        generator.shuffle(batches)
        order += [i for batch in batches for i in batch]
    return order[: steps * batch_size]


@dataclass(frozen=True)
class Collator:
    """Examples to a batch, a row each, padded on the left so that the targets end together.

    A column's label is the token that comes next, so an example's last token, which predicts nothing, is not
    in the batch. ``labels`` are those of the last columns alone, from the first that predicts a target on;
    before them stands an ignored one, for transformers counts labels from the second on.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(fed(e)) for e in examples)
        kept = max(sum(label != IGNORED for label in e["labels"]) for e in examples)

        def padded(name: str, fill: int) -> torch.Tensor:
            return torch.tensor([_to_width(e[name][:-1], width, fill) for e in examples])

        mask = torch.tensor([_to_width([1] * len(fed(e)), width, 0) for e in examples])
        return {
            "input_ids": padded("input_ids", self.pad),
            "attention_mask": mask,
            "labels": torch.tensor([[IGNORED, *_to_width(e["labels"], kept, IGNORED)[-kept:]] for e in examples]),
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        }


@dataclass(frozen=True)
class PairCollator:
    """Examples of an encoder-decoder to a batch, a row each, padded on the right on either side.

    ``labels`` have an ignored column before them, as ``Collator``'s have.
    """

    pad: int

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        def padded(name: str, fill: int) -> torch.Tensor:
            width = max(len(e[name]) for e in examples)
            return torch.tensor([e[name] + [fill] * (width - len(e[name])) for e in examples])

        width = max(len(e["input_ids"]) for e in examples)
        labels = padded("labels", IGNORED)
        return {
            "input_ids": padded("input_ids", self.pad),
            "attention_mask": torch.tensor([[1] * (n := len(e["input_ids"])) + [0] * (width - n) for e in examples]),
            "decoder_input_ids": padded("decoder", self.pad),
            "labels": torch.cat([labels.new_full((len(labels), 1), IGNORED), labels], dim=1),
        }


def _to_width(values: Sequence[int], width: int, fill: int) -> list[int]:
    return [fill] * (width - len(values)) + list(values)


def target_loss(model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross entropy of a batch's labels per token (or summed and divided by ``count``)."""
    labels = inputs["labels"][:, 1:]
    logits = target_logits(model, inputs)
    loss = F.cross_entropy(
        logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return loss / ((labels != IGNORED).sum() if count is None else count)


def target_logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """The logits of a collated batch for the columns that ``labels`` are about, less the first: (rows, columns, vocabulary).

    A decoder's output layer is run over these last columns alone.
    """
    if "decoder_input_ids" in inputs:
        names: tuple[str, ...] = ("input_ids", "attention_mask", "decoder_input_ids")
        return model(**{name: inputs[name] for name in names}, use_cache=False).logits
    names, kept = ("input_ids", "attention_mask", "position_ids"), inputs["labels"].shape[1] - 1
    logits = model(**{name: inputs[name] for name in names}, use_cache=False, logits_to_keep=kept).logits
    return logits[:, -kept:]  # some kinds do not heed it

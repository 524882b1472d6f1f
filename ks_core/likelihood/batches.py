"""Examples as batches, and the loss on them: computed where there is a target and nowhere else.

So the output layer is not run over the prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
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


class LossParts:
    """A loss by part, over the batches since it was last taken: of the end token, whose id is ``end``, and of content, all other targets.

    The logits of the end tokens, about one for each example, are looked at again; no forward is done for it, and nothing of the loss is changed.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self._sums: torch.Tensor | None = None

    @torch.no_grad()
    def add(self, logits: torch.Tensor, labels: torch.Tensor, summed: torch.Tensor) -> None:
        """A batch: logits float32 (n, V), labels int64 (n,), and their cross entropy, summed."""
        ends = labels == self.end
        of_ends = F.cross_entropy(logits[ends], labels[ends], reduction="sum")
        counts = torch.stack([(labels != IGNORED).sum() - ends.sum(), ends.sum()])
        sums = torch.cat([torch.stack([summed.detach() - of_ends, of_ends]), counts.to(of_ends.dtype)])
        self._sums = sums if self._sums is None else self._sums + sums

    def take(self, together: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums) -> dict[str, float]:
        """Nats a token of ``content`` and ``end``; a part of which there was no token is absent. ``together`` adds up the sums of several
        processes, all of which take at once."""
        if self._sums is None:
            return {}
        sums, self._sums = together(self._sums).tolist(), None
        parts = {name: (sums[n], sums[n + 2]) for n, name in enumerate(("content", "end"))}
        # Content is a difference of sums, which rounding must not make negative. What is no number stays none.
        return {name: (0.0 if nats < 0 else nats) / tokens for name, (nats, tokens) in parts.items() if tokens}


def target_loss(
    model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None = None, parts: LossParts | None = None
) -> torch.Tensor:
    """Cross entropy of a batch's labels per token (or summed and divided by ``count``); ``parts`` is told of it too."""
    labels = inputs["labels"][:, 1:]
    logits = target_logits(model, inputs)
    scores, wanted = logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1)
    loss = F.cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="sum")
    if parts is not None:
        parts.add(scores, wanted, loss)
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

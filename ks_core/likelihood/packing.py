"""Examples packed into few rows, where a model's attention allows it: no padding, and what all begin with once per row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ks_core.likelihood.batches import Collator, target_loss
from ks_core.likelihood.examples import IGNORED, fed


@dataclass(frozen=True)
class _Place:
    """A token in a packed row: itself, its position in its example, whose it is, and what it is to predict."""

    token: int
    position: int
    owner: int
    label: int


@dataclass(frozen=True)
class Packer:
    """Examples to a batch of few rows with little padding: what all begin with once in a row, then several.

    A prompt's fixed words are thus run through the model once per row instead of once per example. Every
    token sees the shared beginning and its own example up to itself, and has the position it has there, so
    the losses are those of a padded batch but for rounding. As attention goes by the mask and not by the
    order, the tokens that predict a target stand at the end of their row, where ``Collator`` has them too.

    Attention is computed for a whole row and masked afterwards, so long rows cost more per token. The
    number of rows is the one that is cheapest for the batch at hand.
    """

    padded: Collator
    hidden_size: int  # of the model: the wider it is, the less attention weighs

    def __call__(self, examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        shared, own = self._shared(examples), [len(fed(e)) for e in examples]

        def cost(rows: int) -> float:
            # In tokens. Measured on a Llama of hidden size 576 on a CPU, forward and backward through frozen
            # layers: 2.9 ms a token in rows of 60, 3.2 in 120, 3.6 in 240, 4.3 in 480, 5.1 in 960.
            width = shared + max(sum(own[i] - shared for i in row) for row in _spread(own, rows))
            return rows * width * (1 + width / (2 * self.hidden_size))

        return self.pack(examples, min(range(1, len(examples) + 1), key=cost))

    def pack(self, examples: Sequence[dict[str, list[int]]], rows: int = 1) -> dict[str, torch.Tensor]:
        """The batch in so many rows, whatever it costs."""
        shared, lengths = self._shared(examples), [len(fed(e)) for e in examples]
        packed = []
        for chosen in _spread(lengths, rows):
            places = [_Place(token, n, -1, IGNORED) for n, token in enumerate(examples[0]["input_ids"][:shared])]
            for i in chosen:
                ids, labels = examples[i]["input_ids"], examples[i]["labels"]
                places += [_Place(ids[n], n, i, labels[n + 1]) for n in range(shared, lengths[i])]
            packed.append(sorted(places, key=lambda place: place.label != IGNORED))
        width = max(len(row) for row in packed)
        kept = max(sum(place.label != IGNORED for place in row) for row in packed)
        full = [[_Place(self.padded.pad, 0, -2, IGNORED)] * (width - len(row)) + row for row in packed]
        owner, position = (
            torch.tensor([[getattr(place, name) for place in row] for row in full]) for name in ("owner", "position")
        )
        looked_at, looking = owner[:, None, :], owner[:, :, None]
        seen = ((looked_at == looking) | (looked_at == -1)) & (position[:, None, :] <= position[:, :, None])
        seen &= (looking != -2) | (looked_at == -2)  # padding sees padding, so that no row of the mask is empty
        return {
            "input_ids": torch.tensor([[place.token for place in row] for row in full]),
            "attention_mask": torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None],
            "labels": torch.tensor([[IGNORED, *(place.label for place in row[width - kept :])] for row in full]),
            "position_ids": position,
        }

    @staticmethod
    def _shared(examples: Sequence[dict[str, list[int]]]) -> int:
        """How many tokens all examples begin with, before the first of them predicts a target."""
        texts = [e["input_ids"] for e in examples]
        end = min(next(n for n, label in enumerate(e["labels"]) if label != IGNORED) for e in examples) - 1
        return next((n for n in range(end) if len({text[n] for text in texts}) > 1), end)


def _spread(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Indices in so many rows of about the same length: the longest first, each to the shortest row."""
    spread: list[list[int]] = [[] for _ in range(rows)]
    filled = [0] * rows
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        shortest = filled.index(min(filled))
        spread[shortest].append(i)
        filled[shortest] += lengths[i]
    return spread


def can_pack(model: Any, packer: Packer, examples: Sequence[dict[str, list[int]]]) -> bool:
    """Whether a model's loss on packed examples is that on padded ones: found out by trying the first two.

    It is for a decoder whose attention takes any mask. It is not where the mask is not heeded, or a token's
    vector depends on what went before in another way (state space layers). Attention that sees a window only
    is right as long as no example is longer than that.
    """
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(window and max(len(e["input_ids"]) for e in examples) > window for window in windows):
        return False
    if config._attn_implementation not in ("eager", "sdpa") or model.dtype != torch.float32:
        return False
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed, padded = (
                target_loss(model, {name: values.to(model.device) for name, values in batch.items()}).item()
                for batch in (packer.pack(examples[:2]), packer.padded(examples[:2]))
            )
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False
    finally:
        model.train(was_training)
    return math.isclose(packed, padded, rel_tol=1e-5)

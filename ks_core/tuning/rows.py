"""Trainable rows over a frozen embedding: the one module that every arm of a run tunes.

The whole input matrix stays frozen and shared; k chosen rows live beside it in float32 and are
looked up instead of theirs. Three things follow. Only k x d numbers have a gradient and optimizer
state, so weight decay cannot touch anything else. A model whose output layer is tied to its input
keeps its output layer as it was: the rows are laid over the input only, which is what untying means.
And nothing of the size of the vocabulary is written in a step (peft's TrainableTokens builds a new
V x d matrix in each forward pass; this is where most of the speed against it comes from).

What is saved is a plain peft TrainableTokens adapter, so any peft user can load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ks_core.errors import TicketError


class RowEmbedding(nn.Module):
    """An embedding of V rows, k of which are trained.

    ``ids`` (k,) the rows to train, unique, in 0..V-1. ``strength`` scales what training added: the output uses ``base + strength * (rows - base)``.
    Raises ``TicketError`` for an empty list, repeated ids or ids outside the vocabulary.
    """

    def __init__(self, base: nn.Embedding, ids: Sequence[int]) -> None:
        super().__init__()
        size = base.weight.shape[0]
        found = [int(i) for i in ids]
        if not found:
            raise TicketError("The list of rows is empty: there is nothing to train. Choose at least one token.")
        if len(set(found)) != len(found):
            raise TicketError("The list of rows names a token twice. Name each token once.")
        if min(found) < 0 or max(found) >= size:
            raise TicketError(
                f"Token ids go from {min(found)} to {max(found)}, the vocabulary from 0 to {size - 1}. "
                "The ticket was made for another tokenizer."
            )
        self.base = base
        base.weight.requires_grad_(False)
        ids_tensor = torch.tensor(sorted(found), dtype=torch.long, device=base.weight.device)
        self.ids: torch.Tensor
        self.slots: torch.Tensor
        self.register_buffer("ids", ids_tensor, persistent=False)
        slots = torch.full((size,), -1, dtype=torch.long, device=base.weight.device)
        slots[ids_tensor] = torch.arange(len(found), device=base.weight.device)
        self.register_buffer("slots", slots, persistent=False)
        self.rows = nn.Parameter(base.weight[ids_tensor].float().clone())
        #: Set to a bool mask of the input's shape to let the rows act only where it is True.
        self.gate: torch.Tensor | None = None
        self.strength = 1.0

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix. Some models ask their embedding for its weight's dtype and device."""
        return self.base.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """``input_ids`` (...,) int64 to vectors (..., d) in the base's dtype."""
        vectors = F.embedding(input_ids, self.base.weight)
        slots = self.slots[input_ids]
        chosen = slots >= 0
        if self.gate is not None:
            chosen = chosen & self.gate
        if not bool(chosen.any()) and not self.training:
            return vectors
        # Only positions that hold a trained token are looked up, so a row that the batch does not
        # use has a gradient of exactly zero: that is how RowwiseAdam knows which rows to step.
        own = F.embedding(slots[chosen], self.rows)
        if self.strength != 1.0:
            start = vectors[chosen].to(own.dtype)
            own = start + self.strength * (own - start)
        return vectors.index_put((chosen,), own.to(vectors.dtype))

    def full_matrix(self) -> torch.Tensor:
        """The whole matrix with the rows written in, float32 (V, d): a copy."""
        matrix = self.base.weight.detach().float().clone()
        matrix[self.ids] = self.rows.detach()
        return matrix


def lay_over(model: Any, ids: Sequence[int]) -> RowEmbedding:
    """Freeze ``model`` (a transformers causal LM) and lay trainable rows over its input embedding.

    Returns the rows. Call ``lift_off`` to have the model back as it was.
    """
    base = model.get_input_embeddings()
    if isinstance(base, RowEmbedding):
        base = base.base
    rows = RowEmbedding(base, ids)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.set_input_embeddings(rows)
    # The rows act on the input alone, so from here on the model is untied, whatever it was.
    model.config.tie_word_embeddings = False
    return rows


def lift_off(model: Any) -> None:
    """Take the rows off again; the model is the base once more."""
    embedding = model.get_input_embeddings()
    if isinstance(embedding, RowEmbedding):
        model.set_input_embeddings(embedding.base)

"""Trainable rows over a frozen embedding: the one module that every arm of a run tunes.

The whole input matrix stays frozen and shared; k chosen rows live beside it in float32 and are
looked up instead of theirs. Three things follow. Only k x d numbers have a gradient and optimizer
state, so weight decay cannot touch anything else. A model whose output layer is tied to its input
keeps its output layer as it was: the rows are laid over the input only, which is what untying means.
And nothing of the size of the vocabulary is written in a step (peft's TrainableTokens builds a new
V x d matrix in each forward pass; this is where most of the speed against it comes from).

The look-up is all that is replaced. What an embedding does besides (Gemma multiplies, others take a norm, or put another
vector where an image goes) it goes on doing itself, on what was looked up. And it is replaced wherever the model looks up in
that matrix: an encoder and a decoder that share one read the same rows.

What is saved is a plain peft TrainableTokens adapter, so any peft user can load it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ks_core.errors import ModelError, TicketError
from ks_core.translation.encoder_decoder import is_encoder_decoder


class _LookUp(TorchFunctionMode):
    """Inside, looking up in one matrix is done by a function: of ids and of what ``F.embedding`` would have been told besides."""

    def __init__(self, matrix: torch.Tensor, instead: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.matrix, self.instead, self.asked = matrix, instead, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.embedding and len(args) > 1 and args[1] is self.matrix:
            self.asked = True
            return self.instead(args[0], *args[2:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Place(nn.Module):
    """Where a model looks up in a matrix that rows are laid over; ``base`` is the module that did so alone."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base: Any = base  # its weight may be of any kind of module

    def __getattr__(self, name: str) -> Any:
        """What a model asks of its embedding beside vectors, such as a scale or the padding's id, is the base's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix. Some models ask their embedding for its weight's dtype and device."""
        weight: torch.Tensor = self.base.weight
        return weight

    def _look_up(
        self, input_ids: torch.Tensor, padding_idx: int | None = None, *rest: Any, **named: Any
    ) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, input_ids: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        """``input_ids`` (...,) int64 to what the base makes of their rows: vectors (..., d) in its dtype, mostly.

        Raises ``ModelError`` for a module that finds its vectors in another way, over which no rows can be laid.
        """
        with _LookUp(self.base.weight, self._look_up) as found:
            vectors = self.base(input_ids, *more, **named)
        if not found.asked:
            raise ModelError(
                f"{type(self.base).__name__} does not look its rows up as an embedding does, so trained rows cannot be laid over "
                "it. Only LoRA and full tuning are possible on this model."
            )
        return vectors


class RowEmbedding(_Place):
    """An embedding of V rows, k of which are trained.

    ``ids`` (k,) the rows to train, unique, in 0..V-1. ``strength`` scales what training added: what is looked up is
    ``base + strength * (rows - base)``, at 1 the rows themselves, bit for bit. A row has the gradient that it would have in the matrix: none where it is the
    padding's (``padding_idx``).
    Raises ``TicketError`` for an empty list, repeated ids or ids outside the vocabulary.
    """

    def __init__(self, base: Any, ids: Sequence[int]) -> None:
        super().__init__(base)
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
        #: One number, or one for each position, float (...,) of the input's shape.
        self.strength: float | torch.Tensor = 1.0
        #: Told of each look-up that rows act on: the ids (...,) and the vectors (..., d) before the base goes on with them.
        self.watch: Callable[[torch.Tensor, torch.Tensor], None] | None = None
        #: Where else a model looks up in the same matrix (``lay_over``); in a tuple they are no modules of this one.
        self.others: tuple[OtherPlace, ...] = ()
        #: The padding's slot: it has no gradient in the matrix, and so none here.
        self._padding = next((n for n, i in enumerate(sorted(found)) if i == getattr(base, "padding_idx", None)), None)

    def _look_up(
        self,
        input_ids: torch.Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        *rest: Any,
        **named: Any,
    ) -> torch.Tensor:
        """``F.embedding`` of ``base + strength * (rows - base)`` with what it would have been told: (..., d) in the base's dtype."""
        vectors = F.embedding(input_ids, self.base.weight, padding_idx, max_norm, norm_type, *rest, **named)
        slots = self.slots[input_ids]
        chosen = slots >= 0
        if self.gate is not None:
            chosen = chosen & self.gate
        if not bool(chosen.any()) and not self.training:
            return vectors
        # Only positions that hold a trained token are looked up, so a row that the batch does not
        # use has a gradient of exactly zero: that is how RowwiseAdam knows which rows to step.
        own = F.embedding(slots[chosen], self.rows, None if padding_idx is None else self._padding)
        if isinstance(self.strength, torch.Tensor) or self.strength != 1.0:
            start = vectors[chosen].to(own.dtype)
            if isinstance(self.strength, torch.Tensor):
                each = self.strength[chosen].to(own.dtype).unsqueeze(-1)
                own = torch.where(each == 1, own, start + each * (own - start))
            else:
                own = start + self.strength * (own - start)
        own = own.to(vectors.dtype)
        if max_norm is not None:
            own = F.embedding(torch.arange(len(own), device=own.device), own.clone(), None, max_norm, norm_type)
        found = vectors.index_put((chosen,), own)
        if self.watch is not None:
            self.watch(input_ids, found)
        return found

    def full_matrix(self) -> torch.Tensor:
        """The whole matrix with the rows written in, float32 (V, d): a copy."""
        matrix = self.base.weight.detach().float().clone()
        matrix[self.ids] = self.rows.detach()
        return matrix


class OtherPlace(_Place):
    """Another module that looks up in the matrix of a ``RowEmbedding``, and so finds its rows: a decoder's, mostly."""

    def __init__(self, base: nn.Module, rows: RowEmbedding) -> None:
        super().__init__(base)
        self._rows = [rows]  # in a list, or they would be parameters of the model twice

    def _look_up(self, input_ids: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        return self._rows[0]._look_up(input_ids, *rest, **named)


@contextmanager
def each_acting(rows: RowEmbedding, acts: torch.Tensor, strengths: Sequence[float] = ()) -> Iterator[None]:
    """Inside, each sequence of a batch of B has its own acting rows, ``acts`` bool (B, V), and its own strength.

    ``strengths`` (B,): of each sequence; empty: 1 for all. At strength 0 a sequence reads the base, bit for bit. So the base and
    any number of its variants read or write at once.
    """
    if strengths:
        acts = acts & torch.tensor([a != 0 for a in strengths], device=acts.device).unsqueeze(1)
    own = torch.tensor(list(strengths), dtype=torch.float32, device=acts.device).unsqueeze(1)

    def turn(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        rows.gate = acts.gather(1, arguments[0])
        if any(a != 1 for a in strengths):
            rows.strength = own.expand(arguments[0].shape)

    before = rows.gate, rows.strength
    hooks = [part.register_forward_pre_hook(turn) for part in (rows, *rows.others)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        rows.gate, rows.strength = before


def encoder_of(model: Any) -> Any:
    """What of a model reads a prompt: its encoder, or all of a model that has none."""
    return model.get_encoder() if is_encoder_decoder(model) else model


def shares_input(model: Any) -> bool:
    """Whether an encoder-decoder's decoder looks its input up in the encoder's matrix, so that rows act on it as well."""
    decoder = model.get_decoder()
    return any(
        getattr(m, "weight", None) is reading(model).weight for m in decoder.modules() if not isinstance(m, nn.Linear)
    )


def reading(model: Any) -> Any:
    """The module with which a model reads a prompt: its input embedding, that of the encoder where there is one.

    Rows that are laid over it, where there are any, are this module.
    """
    part = encoder_of(model)
    return part.get_input_embeddings() if hasattr(part, "get_input_embeddings") else model.get_input_embeddings()


def rows_over(model: Any) -> RowEmbedding | None:
    """The rows that are laid over a model (``lay_over``); ``None`` for one as it is."""
    found = reading(model)
    return found if isinstance(found, RowEmbedding) else None


def rows_of(model: Any) -> RowEmbedding:
    """The same. Raises ``ModelError`` where there are none."""
    rows = rows_over(model)
    if rows is None:
        raise ModelError(
            "The model has no changed rows laid over it, so none can act by itself. Expected a base with the rows of an adapter, a "
            "ticket, or a pair over it (ks_core.ledger.changed_rows); a fully saved model has none."
        )
    return rows


def lay_over(model: Any, ids: Sequence[int]) -> RowEmbedding:
    """Freeze ``model`` (of transformers, with a causal or a sequence-to-sequence head) and lay trainable rows over its input.

    Returns the rows. They act wherever the model looks up in the matrix that it reads the prompt with; its output layer
    stays as it was, so the model is untied from here on. Its configuration goes on saying what it said, for some models
    scale their output by ``tie_word_embeddings``. Call ``lift_off`` to have the model back as it was. Raises ``ModelError``
    for a module that is no embedding, and what ``RowEmbedding`` raises.
    """
    lift_off(model)
    base = reading(model)
    if not isinstance(getattr(base, "weight", None), torch.Tensor) or base.weight.ndim != 2:
        raise ModelError(
            f"{type(model).__name__} reads its input with {type(base).__name__}, which is no embedding with a row for each token. "
            "Rows cannot be laid over it."
        )
    rows, output = RowEmbedding(base, ids), model.get_output_embeddings()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    own = set(encoder_of(model).modules())
    for parent in list(model.modules()):
        for name, module in list(parent._modules.items()):
            alike = isinstance(module, nn.Embedding) and module.weight is base.weight and module is not output
            if module is base and parent in own:
                setattr(parent, name, rows)
            elif alike:
                other = OtherPlace(module, rows)
                rows.others = (*rows.others, other)
                setattr(parent, name, other)
    return rows


def lift_off(model: Any) -> None:
    """Take the rows off again; the model is the base once more."""
    for parent in list(model.modules()):
        if not isinstance(parent, _Place):
            for name, module in list(parent._modules.items()):
                if isinstance(module, _Place):
                    setattr(parent, name, module.base)

"""The change that tuning made, laid over its base as rows, and how it is turned: which rows act, how strongly, where.

Nothing is trained anew. ``acting`` restricts a delta (``ks_core.likelihood.rows``) to some rows and scales it: the model reads
base + a * (rows - base), which is the base at a = 0 and the tuned model at a = 1, bit for bit. In between and beyond lies
a straight line through embedding space, along which a score need not be straight. Restricted to the ticket's rows, a = 1
is Partial Transfer. ``gated`` restricts it to positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch

from ks_core.errors import SettingsError, TicketError
from ks_core.likelihood.rows import RowEmbedding, rows_of

#: A delta is turned on the model itself, so one thread at a time may do so (pages share a loaded model).
_one_at_a_time = RLock()


@contextmanager
def acting(model: Any, ids: Sequence[int] | None = None, strength: float = 1.0) -> Iterator[RowEmbedding]:
    """Inside, only the rows ``ids`` act (``None``: every row; empty: none), at ``strength``; then all is as before.

    Raises ``TicketError`` when the delta has no such row, ``SettingsError`` for a strength that is no number.
    """
    if not math.isfinite(strength):
        raise SettingsError(f"The strength is {strength}. Expected a number: 0 is the base, 1 the tuned model.")
    rows = rows_of(model)
    with _one_at_a_time:
        slots, gate, before = rows.slots, rows.gate, rows.strength
        try:
            if ids is not None:
                rows.slots = _only(rows, ids)
            rows.strength, rows.gate = float(strength), None
            if strength == 0:  # not computed at all: start + 0 * shift would lose the sign of a -0.0
                rows.gate = torch.zeros((), dtype=torch.bool, device=slots.device)
            yield rows
        finally:
            rows.slots, rows.gate, rows.strength = slots, gate, before


def _only(rows: RowEmbedding, ids: Sequence[int]) -> torch.Tensor:
    """The rows' slots (V,) int64 with every row but ``ids`` out of action."""
    chosen = torch.tensor(sorted({int(i) for i in ids}), dtype=torch.long, device=rows.slots.device)
    missing = set(chosen.tolist()) - set(rows.ids.tolist())
    if missing:
        raise TicketError(
            f"{len(missing)} of {len(chosen)} chosen rows were not changed by this tuning (the first: token {min(missing)}). "
            "Expected rows of the tuned model: was the ticket made from another run?"
        )
    slots = torch.full_like(rows.slots, -1)
    slots[chosen] = rows.slots[chosen]
    return slots


@contextmanager
def gated(rows: RowEmbedding, codes: torch.Tensor, on: torch.Tensor, fed: list[torch.Tensor]) -> Iterator[None]:
    """Inside, one batch can be generated with the rows acting at chosen positions only.

    ``codes`` (B, W) int64 are the spans of the padded prompts; ``on`` bool says which spans act, the last of
    them being what the model writes, which in an encoder-decoder is read in another place (``rows.others``). For each token that the model reads after the prompt, ``fed`` is given whether
    it has an acting row: bool (B * beams,).
    """
    seen = 0

    def set_gate(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        # With a cache: the prompt (whole or in pieces), then token by token. Without: all again, one longer.
        nonlocal seen
        ids = arguments[0]
        start = 0 if seen and ids.shape[1] == seen + 1 else seen
        stop = start + ids.shape[1]
        own = codes[:, start:stop].repeat_interleave(ids.shape[0] // codes.shape[0], dim=0)
        written = own.new_full((ids.shape[0], ids.shape[1] - own.shape[1]), len(on) - 1)
        rows.gate = on[torch.cat([own, written], dim=1)]
        if stop > codes.shape[1]:
            fed.append(rows.slots[ids[:, -1]] >= 0)
        seen = stop

    begun = False

    def set_written(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        # What the decoder begins with was not written, so the first call is not counted.
        nonlocal begun
        ids = arguments[0]
        rows.gate = on[-1].expand(ids.shape)
        if begun:
            fed.append(rows.slots[ids[:, -1]] >= 0)
        begun = True

    before = rows.gate
    hooks = [rows.register_forward_pre_hook(set_gate)]
    hooks += [other.register_forward_pre_hook(set_written) for other in rows.others]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        rows.gate = before

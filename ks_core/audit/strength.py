"""How a trained delta acts: which of its rows, how strongly, at which positions. Nothing is trained anew.

A delta is rows laid over a base (``ks_core.tuning.rows``). ``acting`` restricts it to some rows and scales it: the model
reads base + a * (rows - base), which is the base at a = 0 and the tuned model at a = 1, bit for bit. In between
and beyond lies a straight line through embedding space, along which a score need not be straight. Restricted
to the ticket's rows, a = 1 is Partial Transfer. ``gated`` restricts it to positions (see ``ks_core.audit.gating``).

    >>> swept = sweep(model, tokenizer, prompts, references, target_language="French", rows={"ticket": ids})
    >>> [(p.strength, p.evaluation.scores["raw"]["chrf"].value) for p in swept.points]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

import torch

from ks_core.errors import ModelError, SettingsError, TicketError
from ks_core.translation.generation import Generation, generate, generate_each
from ks_core.translation.scores import RESAMPLES, Evaluation, evaluate
from ks_core.tuning.rows import RowEmbedding

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)

#: ``report(done, total, message)``, in sentences; what it raises (``Cancelled``) ends the work.
Report = Callable[[int, int, str], None]

#: A delta is turned on the model itself, so one thread at a time may do so (pages share a loaded model).
_one_at_a_time = RLock()


def silent(done: int, total: int, message: str) -> None:
    """A report that nobody reads."""


def rows_of(model: Any) -> RowEmbedding:
    """The rows laid over a model. Raises ``ModelError`` when there are none, as on a base."""
    rows = model.get_input_embeddings()
    if not isinstance(rows, RowEmbedding):
        raise ModelError(
            "The model has no trained rows laid over it. Expected one loaded from an adapter or a ticket, "
            "such as demo:en-fr; a base or a fully saved model has no delta that could be turned."
        )
    return rows


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

    ``codes`` (B, W) int64 are the spans of the left-padded prompts; ``on`` bool says which spans act, the last of
    them being what the model writes. For each token that the model reads after the prompt, ``fed`` is given whether
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

    before = rows.gate
    hook = rows.register_forward_pre_hook(set_gate)
    try:
        yield
    finally:
        hook.remove()
        rows.gate = before


@dataclass(frozen=True)
class StrengthPoint:
    """One set of rows at one strength: its answers, in the order of the prompts, and their scores."""

    rows: str
    #: How many rows act.
    count: int
    strength: float
    evaluation: Evaluation
    texts: tuple[str, ...]


@dataclass(frozen=True)
class StrengthSweep:
    """Every set of rows at every strength, set by set, with the settings that decided the numbers."""

    points: tuple[StrengthPoint, ...]
    settings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def sweep(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    references: Sequence[str],
    *,
    target_language: str,
    strengths: Sequence[float] = STRENGTHS,
    rows: Mapping[str, Sequence[int] | None] | None = None,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> StrengthSweep:
    """Translate and score at each strength, for each named set of rows.

    ``rows`` maps names to token ids (``None``: all changed rows), for example ``{"all": None, "ticket":
    ids}``. Strength 0 is the base whatever the rows, so it is written once. Raises ``TicketError`` for rows that
    the delta has not or a set that is empty, ``SettingsError`` for strengths that cannot be.
    """
    sets = {"all": None} if rows is None else dict(rows)
    if not sets or not strengths or len(set(strengths)) != len(strengths):
        raise SettingsError(
            f"{len(sets)} sets of rows at the strengths {list(strengths)}. Expected at least one of each, none twice."
        )
    for name, ids in sets.items():  # found out before the first sentence, not after an hour
        if ids is not None and not len(ids):
            raise TicketError(f"The set of rows {name!r} is empty: nothing would act. Choose at least one token.")
        for strength in strengths:
            with acting(model, ids, strength):
                pass
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "beams": beams, "batch_size": batch_size}
    # Strength 0 is the base whatever the rows, so all sets share it.
    keys = {(name, a): "the base" if a == 0 else f"strength {a:.10g}, rows: {name}" for name in sets for a in strengths}
    how = {key: (sets[name], a) for (name, a), key in keys.items()}
    answers = generate_each(
        model, tokenizer, dict.fromkeys(how, prompts), lambda key: acting(model, *how[key]), **options, progress=report
    )  # fmt: skip
    scored = {key: evaluate(found, references, target_language, resamples=resamples) for key, found in answers.items()}
    points = []
    for (name, strength), key in keys.items():
        ids = sets[name]
        count = len(rows_of(model).ids) if ids is None else len({int(i) for i in ids})
        texts = tuple(a.text for a in answers[key])
        points.append(StrengthPoint(name, count, float(strength), scored[key], texts))
    settings = {"sentences": len(prompts), "target_language": target_language, **options, "resamples": resamples}
    return StrengthSweep(tuple(points), settings)


def translate_at(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    strength: float,
    *,
    ids: Sequence[int] | None = None,
    max_new_tokens: int = 48,
    report: Report = silent,
) -> list[Generation]:
    """What the model writes for a few prompts at one strength, greedily: for a slider that is being moved."""
    with acting(model, ids, strength):
        return generate(
            model, tokenizer, prompts, max_new_tokens=max_new_tokens,
            progress=lambda done, total: report(done, total, f"strength {strength:g}"),
        )  # fmt: skip

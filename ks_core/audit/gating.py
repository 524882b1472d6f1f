"""Position gating: one trained delta, acting only where it is let.

Where in the sequence does a ticket do its work? The same rows are laid over the same base, nothing is trained,
and the rows act only at the tokens of chosen spans. A prompt with its answer falls into five of them:

    instruction_head   the first line of the template, with its line break and with a BOS token
    instruction_tail   what else stands before the source sentence: the label of its field
    source             the source sentence
    prefill            the template after the source, where the answer begins ("\\nFrench:")
    target             what the model writes

A token belongs to the span that holds its last character, by the tokenizer's own offsets: the space that most
tokenizers glue to the first word of the source goes with the source, a full stop glued to the line break after
it with the prefill. A token without characters goes with the token before it, a BOS with the head; so does
padding, which is never attended to.

All spans on is the tuned model and all off the base, bit for bit. Beside each score stands how often the acting rows'
tokens occur in the spans that are on: where they never occur, no effect means no opportunity.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ks_core.audit.strength import Report, acting, gated, rows_of, silent
from ks_core.errors import ModelError, SettingsError
from ks_core.jobs import sharding, world
from ks_core.translation.generation import Generation, batches_of, write
from ks_core.translation.generation import template as template_text
from ks_core.translation.scores import RESAMPLES, Evaluation, evaluate
from ks_core.translation.shares import Bootstrap, Share, shares

SPANS = ("instruction_head", "instruction_tail", "source", "prefill", "target")
HEAD, TAIL, SOURCE, PREFILL, TARGET = range(5)

#: Name of a gate -> the spans in which the rows act.
GATES: dict[str, tuple[str, ...]] = {
    "none": (),
    "instruction_head": ("instruction_head",),
    "instruction_tail": ("instruction_tail",),
    "instruction": ("instruction_head", "instruction_tail"),
    "source": ("source",),
    "prefill": ("prefill",),
    "target": ("target",),
    "all": SPANS,
}


def character_spans(prompt: str, template: str, source: str, target_language: str) -> np.ndarray:
    """The span of each character of a prompt, int8 (len(prompt),), as positions in ``SPANS``.

    Found by laying the template over the prompt, so a source that reads like a label is still the source.
    Raises ``SettingsError`` when the prompt was not made from this template and source.
    """
    pattern, seen, kinds = "", set(), []
    for literal, name, spec, conversion in string.Formatter().parse(template_text(template)):
        if literal:
            pattern += f"({re.escape(literal)})"
            kinds.append("text")
        if name == "source_language":  # the one part that is not known here, but the same wherever it stands
            pattern += f"((?P={name}))" if name in seen else f"(?P<{name}>[^\\n]*?)"
        elif name is not None:
            value = string.Formatter().convert_field(source if name == "source" else target_language, conversion)
            pattern += f"({re.escape(format(value, spec or ''))})"
        if name is not None:
            kinds.append("source" if name == "source" else "text")
            seen.add(name)
    if (found := re.fullmatch(pattern, prompt)) is None:
        raise SettingsError(
            f"The prompt {prompt[:60]!r} was not made from the template {template[:60]!r} and its source sentence. "
            "Expected prompts, sources and template of one held-out part."
        )
    codes = np.full(len(prompt), PREFILL, np.int8)
    sources = [found.span(n) for n, kind in enumerate(kinds, 1) if kind == "source"]
    codes[: sources[0][0]] = TAIL
    codes[: len(re.sub(r"(\s*[^\n]*\n?).*", r"\1", prompt[: sources[0][0]], flags=re.DOTALL))] = HEAD
    for start, end in sources:
        codes[start:end] = SOURCE
    return codes


def token_spans(tokenizer: Any, prompt: str, characters: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The prompt's token ids (n,) as ``generate`` reads them, and the span of each, int8 (n,).

    Raises ``ModelError`` for a tokenizer that does not say where its tokens stand in the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell where its tokens stand in the text. Position gating needs a "
            "fast tokenizer: a model folder with tokenizer.json."
        )
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    codes = np.empty(len(encoded["input_ids"]), np.int8)
    span = HEAD
    for n, (_, end) in enumerate(encoded["offset_mapping"]):
        span = int(characters[end - 1]) if end else span
        codes[n] = span
    return encoded["input_ids"], codes


def gated_generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    tokens: Sequence[tuple[list[int], np.ndarray]],
    spans: Sequence[str],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Generation], np.ndarray]:
    """``translation.generate`` with the laid-over rows acting in ``spans`` only.

    ``tokens`` are ``token_spans`` of each prompt. Returns the answers, and how often an acting row's token
    occurs in each span of each sentence, float64 (n, 5); those of the target are counted among the tokens that the
    model read again (the last one of an answer cut off is not), under beam search as a mean over the beams.
    """
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "beams": beams, "batch_size": batch_size}
    return gated_runs(
        model, tokenizer, prompts, tokens, {"": spans}, **options,
        progress=lambda done, total, _: progress(done, total),
    )[""]  # fmt: skip


def gated_runs(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    tokens: Sequence[tuple[list[int], np.ndarray]],
    gates: Mapping[str, Sequence[str]],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    progress: Callable[[int, int, str], None] = lambda done, total, gate: None,
) -> dict[str, tuple[list[Generation], np.ndarray]]:
    """``gated_generate`` for several gates; processes that work together share the batches of all."""
    rows = rows_of(model)
    items = [(gate, batch) for gate in gates for batch in batches_of(prompts, batch_size)]
    total, done = len(gates) * len(prompts), 0
    found: dict[tuple[str, int], tuple[Generation, np.ndarray]] = {}
    for (gate, batch), own, taken in world.deal(items, sharding.is_spread(model)):
        progress(done, total, gate)
        on = torch.tensor([name in gates[gate] for name in SPANS], device=rows.slots.device)
        width = max(len(tokens[i][0]) for i in batch)
        codes, counts = np.full((len(batch), width), HEAD), np.zeros((len(batch), len(SPANS)))
        for n, i in enumerate(batch):
            codes[n, width - len(tokens[i][1]) :] = tokens[i][1]
            has_row = rows.slots[torch.tensor(tokens[i][0], device=on.device)].cpu().numpy() >= 0
            counts[n] = np.bincount(tokens[i][1][has_row], minlength=len(SPANS))
        fed: list[torch.Tensor] = []
        with gated(rows, torch.from_numpy(codes).to(on.device), on, fed):
            asked = [prompts[i] for i in batch]
            written = write(model, tokenizer, asked, max_new_tokens=max_new_tokens, beams=beams)
        if fed:
            read = torch.stack(fed, dim=1).view(len(batch), beams, -1).double().cpu().numpy()
            counts[:, TARGET] = [read[n, :, : a.tokens].sum(axis=1).mean() for n, a in enumerate(written)]
        if own:
            found |= {(gate, i): pair for i, *pair in zip(batch, written, counts, strict=True)}  # type: ignore[misc]
        done = sum(len(b) for _, b in items[:taken])
    if items:
        progress(total, total, items[-1][0])
    found = dict(world.gather(list(found.items())))
    every = range(len(prompts))
    return {g: ([found[g, i][0] for i in every], np.array([found[g, i][1] for i in every])) for g in gates}


@dataclass(frozen=True)
class GateRun:
    """One gate: which spans were on, what was written and how it scored.

    ``occurrences`` are tokens with an acting row per sentence, span by span, in this run's own text; ``acting``
    is their sum over the spans that are on, and 0 means that this gate had no opportunity. ``touched`` is the share of
    sentences where it had one. ``recovery[rule][metric]`` is the gain over ``none``, and as a share of that of ``all``.
    """

    name: str
    spans: tuple[str, ...]
    evaluation: Evaluation
    occurrences: dict[str, float]
    acting: float
    touched: float
    recovery: dict[str, dict[str, Share]]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Gating:
    """Every gate's run, the number of rows that act, and the settings that decided the numbers."""

    runs: tuple[GateRun, ...]
    rows: int
    settings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def position_gating(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    sources: Sequence[str],
    references: Sequence[str],
    *,
    template: str,
    target_language: str,
    ids: Sequence[int] | None = None,
    gates: Mapping[str, Sequence[str]] = GATES,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    seed: int = 0,
    report: Report = silent,
) -> Gating:
    """Generate and score under each gate; ``none`` and ``all`` are always among them.

    ``ids`` are the rows that act (``None``: every changed row), ``prompts`` were made from ``template`` (name or
    text) and ``sources``. ``report(done, total, message)`` counts sentences over all gates. Raises ``ModelError``
    without laid-over rows or a fast tokenizer, ``SettingsError`` for spans or prompts that do not fit.
    """
    chosen: dict[str, tuple[str, ...]] = {"none": ()} | {name: tuple(spans) for name, spans in gates.items()}
    chosen |= {"none": (), "all": SPANS}
    unknown = {span for spans in chosen.values() for span in spans} - set(SPANS)
    if unknown or not prompts:
        raise SettingsError(
            f"{len(prompts)} prompts, unknown spans: {', '.join(sorted(unknown)) or 'none'}. "
            f"Expected at least one prompt, and spans out of: {', '.join(SPANS)}."
        )
    tokens = [
        token_spans(tokenizer, p, character_spans(p, template, s, target_language))
        for p, s in zip(prompts, sources, strict=True)
    ]
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "beams": beams, "batch_size": batch_size}
    with acting(model, ids) as rows:
        acting_rows = int((rows.slots >= 0).sum())
        written = gated_runs(
            model, tokenizer, prompts, tokens, chosen, **options,
            progress=lambda done, total, gate: report(done, total, f"translating with the rows acting in: {gate}"),
        )  # fmt: skip
    bootstrap = Bootstrap(references, target_language, resamples, seed)
    scores = {name: bootstrap.all_scores(answers) for name, (answers, _) in written.items()}
    runs = []
    for name, spans in chosen.items():
        answers, counts = written[name]
        acted = counts[:, [span in spans for span in SPANS]].sum(axis=1)
        runs.append(GateRun(
            name, spans,
            evaluate(answers, references, target_language, resamples=resamples),
            dict(zip(SPANS, counts.mean(axis=0).tolist(), strict=True)),
            acting=float(acted.mean()),
            touched=float((acted > 0).mean()),
            recovery=shares(scores[name], scores["none"], scores["all"]),
            texts=tuple(a.text for a in answers),
        ))  # fmt: skip
    settings = {
        "template": template_text(template), "sentences": len(prompts), "target_language": target_language,
        **options, "resamples": resamples, "seed": seed,
    }  # fmt: skip
    return Gating(tuple(runs), acting_rows, settings)

"""Gating: one trained change, acting only where it is let.

Where in the sequence does a ticket do its work? The same rows are laid over the same base, nothing is trained, and the rows
act only at the tokens of chosen spans (``ks_core.likelihood.spans``), while the model reads references.

All spans on is the base with the ticket copied, and all off the base. Beside each gain stands how often the acting rows'
tokens occur in the spans that are on: where they never occur, no effect means no opportunity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ks_core.audit.delta import acting, gated
from ks_core.audit.material import Material
from ks_core.audit.reading import Gains, kept, read_each, settings
from ks_core.errors import ModelError, SettingsError
from ks_core.likelihood.examples import fed
from ks_core.likelihood.nats import Likelihood
from ks_core.likelihood.references import References
from ks_core.likelihood.scorer import Report, silent
from ks_core.likelihood.spans import HEAD, SPANS, TARGET
from ks_core.translation.bootstrap import RESAMPLES
from ks_core.translation.encoder_decoder import is_encoder_decoder

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


def read_gates(
    model: Any,
    references: References,
    *,
    ids: Sequence[int] | None = None,
    gates: Mapping[str, Sequence[str]] = GATES,
    known: Mapping[str, Likelihood] | None = None,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> dict[str, Any]:
    """Read references under each gate, as plain values; ``none`` and ``all`` are always among them.

    ``runs`` has for each gate its ``name`` and ``spans``, ``reading.kept`` (shares are of the gain of ``all``), ``occurrences``
    (tokens with an acting row a sentence, by span), ``acting`` (their sum over the spans that are on; 0: this gate had no
    opportunity) and ``touched`` (the share of sentences that had one). ``rows`` is how many act. ``ids`` are these rows
    (``None``: every changed row); ``known`` gates were read before. Raises ``ModelError`` without laid-over rows, ``SettingsError`` for spans that there are not.
    """
    chosen: dict[str, tuple[str, ...]] = {"none": ()} | {name: tuple(spans) for name, spans in gates.items()}
    chosen |= {"none": (), "all": SPANS}
    if unknown := {span for spans in chosen.values() for span in spans} - set(SPANS):
        raise SettingsError(f"Unknown spans: {', '.join(sorted(unknown))}. Expected spans out of: {', '.join(SPANS)}.")
    with acting(model, ids) as rows:
        places = _Places(model, references, rows.slots.cpu().numpy() >= 0)
        found = read_each(
            model, dict.fromkeys(chosen, references), lambda gate, batch: places.letting(rows, chosen[gate], batch),
            same=lambda gate, place: (place, places.acts(place, chosen[gate]).tobytes()), known=known,
            report=lambda done, total, gate: report(done, total, f"reading with the rows acting in: {gate}"),
        )  # fmt: skip
        count = int((rows.slots >= 0).sum())
    gains, runs = Gains(len(references), resamples), []
    for name, spans in chosen.items():
        acted = places.counts[:, [span in spans for span in SPANS]].sum(axis=1)
        runs.append({
            "name": name, "spans": list(spans), "occurrences": dict(zip(SPANS, places.counts.mean(axis=0).tolist(), strict=True)),
            "acting": float(acted.mean()), "touched": float((acted > 0).mean()),
            **kept(found[name], gains.of(found["none"], found[name], (found["none"], found["all"]))),
        })  # fmt: skip
    return {"runs": runs, "rows": count, "settings": settings(references, resamples)}


class _Places:
    """Where each reference has tokens with an acting row. ``has_row`` bool (V,)."""

    def __init__(self, model: Any, references: References, has_row: np.ndarray) -> None:
        self.halves = is_encoder_decoder(model)
        self.rows: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        for example, spans in zip(references.examples, references.spans, strict=True):
            ids = fed(example)
            # What an encoder-decoder's decoder reads, as far as it reads it in the same matrix, is the target.
            codes = np.concatenate([spans, np.full(max(len(ids) - len(spans), 0), TARGET, np.int8)])[: len(ids)]
            self.rows.append(has_row[ids])
            self.codes.append(codes)
        #: How often an acting row's token occurs in each span of each reference, float64 (n, 5).
        self.counts = np.array([
            np.bincount(codes[rows], minlength=len(SPANS)) for codes, rows in zip(self.codes, self.rows, strict=True)
        ], float)  # fmt: skip
        #: How much of each is the model's first input.
        self.widths = [len(e["input_ids"]) if self.halves else len(fed(e)) for e in references.examples]

    def acts(self, place: int, spans: Sequence[str]) -> np.ndarray:
        """At which of its tokens rows act, bool."""
        on = np.array([span in spans for span in SPANS])
        return self.rows[place] & on[self.codes[place]]

    @contextmanager
    def letting(self, rows: Any, spans: Sequence[str], batch: Sequence[int]) -> Iterator[None]:
        """Inside, a batch of references can be read with the rows acting in some spans only."""
        device, width = rows.slots.device, max(self.widths[i] for i in batch)
        codes = np.full((len(batch), width), HEAD)
        for n, i in enumerate(batch):
            own = self.codes[i][: self.widths[i]]
            start = 0 if self.halves else width - len(own)  # an encoder's side is padded on the right
            codes[n, start : start + len(own)] = own
        on = torch.tensor([span in spans for span in SPANS], device=device)
        with gated(rows, torch.from_numpy(codes).to(device), on, []):
            yield


def panel(material: Material, report: Report) -> dict[str, Any]:
    """The panel ``gating``: the ticket in each part of the sequence. Raises ``ModelError`` without a fast tokenizer."""
    if not getattr(material.tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(material.tokenizer).__name__} does not tell where its tokens stand in the text. Parts of a sequence need a "
            "fast tokenizer: a model folder with tokenizer.json."
        )
    known = dict(zip(("none", "all"), material.ends, strict=True))
    return read_gates(material.model, material.test, ids=material.ticket, known=known, report=report)

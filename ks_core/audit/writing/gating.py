"""Position gating by answers: one trained delta, acting only where it is let, while the model writes.

Where in the sequence does a ticket do its work? The same rows are laid over the same base, nothing is trained,
and the rows act only at the tokens of chosen spans (``ks_core.likelihood.spans``).

All spans on is the tuned model and all off the base, bit for bit. Beside each score stands how often the acting rows'
tokens occur in the spans that are on: where they never occur, no effect means no opportunity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ks_core.audit.delta import acting, gated
from ks_core.audit.gating import GATES
from ks_core.audit.material import Material
from ks_core.audit.writing.trials import run_trials, settings
from ks_core.errors import SettingsError
from ks_core.jobs import world
from ks_core.likelihood.rows import rows_of
from ks_core.likelihood.scorer import Report, silent
from ks_core.likelihood.spans import HEAD, SPANS, TARGET, character_spans, token_spans
from ks_core.translation.bootstrap import RESAMPLES, SEED
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.evaluation import HeldOut
from ks_core.translation.generation import Generation
from ks_core.translation.prompts import template as template_text
from ks_core.translation.scores import Evaluation
from ks_core.translation.shares import Share, shares


class GatedRows:
    """A model's rows while each gate lets them act in its spans only, and how often they had a chance to.

    ``tokens`` are ``token_spans`` of each prompt; ``gates`` maps names to spans.
    """

    def __init__(
        self, model: Any, tokens: Sequence[tuple[list[int], np.ndarray]], gates: Mapping[str, Sequence[str]]
    ) -> None:
        self.rows, self.tokens, self.gates = rows_of(model), tokens, gates
        self.halves = is_encoder_decoder(model)
        #: How often an acting row's token occurs in each span of each prompt, float64 (n, 5); none yet in the target.
        self.counts = np.zeros((len(tokens), len(SPANS)))
        for n, (ids, codes) in enumerate(tokens):
            has_row = self.rows.slots[torch.tensor(ids, device=self.rows.slots.device)].cpu().numpy() >= 0
            self.counts[n] = np.bincount(codes[has_row], minlength=len(SPANS))
        #: By gate and prompt: whether each token that was read after the prompt has an acting row, bool (beams, tokens).
        self._read: dict[tuple[str, int], np.ndarray] = {}

    @contextmanager
    def acting(self, gate: str, batch: list[int]) -> Iterator[None]:
        """Inside, the prompts of a batch can be generated at once with the rows acting in the spans of a gate."""
        device = self.rows.slots.device
        on = torch.tensor([span in self.gates[gate] for span in SPANS], device=device)
        width = max(len(self.tokens[i][0]) for i in batch)
        codes = np.full((len(batch), width), HEAD)
        for n, i in enumerate(batch):
            own = self.tokens[i][1]
            start = 0 if self.halves else width - len(own)  # an encoder's prompts are padded on the right
            codes[n, start : start + len(own)] = own
        fed: list[torch.Tensor] = []
        with gated(self.rows, torch.from_numpy(codes).to(device), on, fed):
            yield
        if fed:
            read = torch.stack(fed, dim=1).view(len(batch), -1, len(fed)).cpu().numpy()
            self._read |= {(gate, i): read[n] for n, i in enumerate(batch)}

    def occurrences(self, written: Mapping[str, Sequence[Generation]]) -> dict[str, np.ndarray]:
        """How often an acting row's token occurs in each span of each sentence, float64 (n, 5), by gate.

        Those of the target are counted among the tokens that the model read again (the last one of an answer cut off is
        not), under beam search as a mean over the beams. Processes that work together wait for each other here.
        """
        read = dict(world.gather(list(self._read.items())))
        found = {}
        for gate, answers in written.items():
            found[gate] = self.counts.copy()
            for i, answer in enumerate(answers):
                if (gate, i) in read:
                    found[gate][i, TARGET] = read[gate, i][:, : answer.tokens].sum(axis=1).mean()
        return found


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
    asked: HeldOut,
    *,
    ids: Sequence[int] | None = None,
    gates: Mapping[str, Sequence[str]] = GATES,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    report: Report = silent,
) -> Gating:
    """Generate and score under each gate; ``none`` and ``all`` are always among them.

    ``ids`` are the rows that act (``None``: every changed row). ``report(done, total, message)`` counts sentences over all
    gates. Raises ``ModelError`` without laid-over rows or a fast tokenizer, ``SettingsError`` for spans that there are not,
    or prompts that were not made from their template and sources.
    """
    chosen: dict[str, tuple[str, ...]] = {"none": ()} | {name: tuple(spans) for name, spans in gates.items()}
    chosen |= {"none": (), "all": SPANS}
    unknown = {span for spans in chosen.values() for span in spans} - set(SPANS)
    if unknown or not asked.prompts:
        raise SettingsError(
            f"{len(asked)} prompts, unknown spans: {', '.join(sorted(unknown)) or 'none'}. "
            f"Expected at least one prompt, and spans out of: {', '.join(SPANS)}."
        )
    tokens = [
        token_spans(tokenizer, p, character_spans(p, asked.template, s, asked.target_language))
        for p, s in zip(asked.prompts, asked.sources, strict=True)
    ]
    with acting(model, ids) as laid:
        rows = int((laid.slots >= 0).sum())
        held = GatedRows(model, tokens, chosen)
        trials = run_trials(
            model, tokenizer, dict.fromkeys(chosen, asked), held.acting, resamples=resamples, seed=seed, in_one_go=True,
            report=lambda done, total, gate: report(done, total, f"answering with the rows acting in: {gate}"),
        )  # fmt: skip
    occurrences = held.occurrences({name: trial.answers for name, trial in trials.items()})
    runs = []
    for name, spans in chosen.items():
        trial, counts = trials[name], occurrences[name]
        acted = counts[:, [span in spans for span in SPANS]].sum(axis=1)
        runs.append(GateRun(
            name, spans, trial.evaluation,
            dict(zip(SPANS, counts.mean(axis=0).tolist(), strict=True)),
            acting=float(acted.mean()),
            touched=float((acted > 0).mean()),
            recovery=shares(trial.scores, trials["none"].scores, trials["all"].scores),
            texts=trial.texts,
        ))  # fmt: skip
    decided = {"template": template_text(asked.template), **settings(asked, resamples), "seed": seed}
    return Gating(tuple(runs), rows, decided)


def panel(material: Material, report: Report) -> dict[str, Any]:
    """What the panel ``gating`` asks of answers: the ticket in each part of the sequence."""
    return position_gating(
        material.model, material.tokenizer, material.asked, ids=material.ticket, report=report
    ).as_dict()

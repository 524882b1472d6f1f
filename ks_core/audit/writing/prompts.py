"""Prompt transfer by answers: one trained delta under prompts that it was not trained with.

A ticket is found, and its rows trained, under one prompt. Whether it carries the language or only the wording
shows when the same delta is used under another named template, with the base under that same template beside
it: a tuned score alone would mix up what the delta brings with what the template brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ks_core.audit.delta import acting
from ks_core.audit.material import Material
from ks_core.audit.writing.trials import run_trials, settings
from ks_core.errors import SettingsError
from ks_core.likelihood.scorer import Report, silent
from ks_core.translation.bootstrap import RESAMPLES, SEED
from ks_core.translation.encoder_decoder import is_encoder_decoder
from ks_core.translation.evaluation import HeldOut
from ks_core.translation.extraction import SOURCE
from ks_core.translation.prompts import format_prompt, template as template_text, texts
from ks_core.translation.scores import Evaluation
from ks_core.translation.shares import Share, shares
from ks_core.translation.tasks import task_of


@dataclass(frozen=True)
class Transfer:
    """One template: base and tuned model under it.

    ``kept[rule][metric]`` has the gain of tuned over base under this template (``gain``, ``gain_low``, ``gain_high``), and
    as ``value`` what share that is of the gain under the template of the training.
    """

    name: str
    template: str
    trained: bool
    base: Evaluation
    tuned: Evaluation
    kept: dict[str, dict[str, Share]]
    base_texts: tuple[str, ...]
    tuned_texts: tuple[str, ...]


@dataclass(frozen=True)
class PromptTransfer:
    """Every template's pair of runs, the trained one first, and the settings that decided the numbers."""

    runs: tuple[Transfer, ...]
    rows: int
    settings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def prompt_transfer(
    model: Any,
    tokenizer: Any,
    asked: HeldOut,
    *,
    source_language: str,
    templates: Mapping[str, str] | None = None,
    ids: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    report: Report = silent,
) -> PromptTransfer:
    """Answer under each template, with the delta and without, and score both.

    ``asked`` is in the template of the training, which comes first; the others follow in their order (``None``: the named
    ones for such a model). ``ids`` are the rows that act (``None``: every changed row). ``report(done, total, message)`` counts sentences.
    Raises ``ModelError`` without laid-over rows, ``SettingsError`` for a template that cannot be.
    """
    own, task = template_text(asked.template), task_of(asked.target_language).name
    named = {name: template_text(text) for name, text in (templates or texts(is_encoder_decoder(model), task)).items()}
    first = next((name for name, text in named.items() if text == own), "trained")
    named = {first: own} | {name: text for name, text in named.items() if text != own}
    if not asked.sources:
        raise SettingsError("There are no source sentences. Expected at least one.")
    keys = {
        (name, tuned): f"{'the tuned rows' if tuned else 'the base'} under the prompt {name}"
        for name in named
        for tuned in (False, True)
    }
    strength = {key: float(tuned) for (_, tuned), key in keys.items()}
    questions = {key: _under(named[name], asked, source_language) for (name, _), key in keys.items()}
    with acting(model, ids) as laid:
        rows = int((laid.slots >= 0).sum())
    trials = run_trials(
        model, tokenizer, questions, lambda key, _: acting(model, ids, strength[key]), resamples=resamples, seed=seed,
        report=lambda done, total, key: report(done, total, f"answering with {key}"),
    )  # fmt: skip
    found = {key: trials[run] for key, run in keys.items()}
    runs = tuple(
        Transfer(
            name, text, trained=text == own, base=found[name, False].evaluation, tuned=found[name, True].evaluation,
            kept=shares(
                found[name, True].scores, found[name, False].scores, found[first, True].scores, found[first, False].scores
            ),
            base_texts=found[name, False].texts, tuned_texts=found[name, True].texts,
        )
        for name, text in named.items()
    )  # fmt: skip
    own_settings = {"sentences": len(asked), "source_language": source_language}  # the order of the file that is kept
    return PromptTransfer(runs, rows, {**own_settings, **settings(asked, resamples), "seed": seed})


def _under(text: str, asked: HeldOut, source_language: str) -> HeldOut:
    """The same sentences under another template."""
    languages = (source_language, asked.target_language)
    prompts = tuple(format_prompt(text, source, *languages) for source in asked.sources)
    return replace(asked, template=text, prompts=prompts, frame=format_prompt(text, SOURCE, *languages))


def panel(material: Material, report: Report) -> dict[str, Any]:
    """What the panel ``transfer`` asks of answers: the ticket under every named prompt."""
    return prompt_transfer(
        material.model, material.tokenizer, material.asked, source_language=material.corpus.source_language,
        ids=material.ticket, report=report,
    ).as_dict()  # fmt: skip

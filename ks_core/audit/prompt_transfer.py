"""Prompt transfer: one trained delta under prompts that it was not trained with.

A ticket is found, and its rows trained, under one prompt. Whether it carries the language or only the wording
shows when the same delta is used under another named template, with the base under that same template beside
it: a tuned score alone would mix up what the delta brings with what the template brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ks_core.audit.strength import Report, acting, silent
from ks_core.errors import SettingsError
from ks_core.translation.generation import TEMPLATES, format_prompt, generate_each
from ks_core.translation.generation import template as template_text
from ks_core.translation.scores import RESAMPLES, Evaluation, evaluate
from ks_core.translation.shares import Bootstrap, Share, shares


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
    sources: Sequence[str],
    references: Sequence[str],
    *,
    trained: str,
    source_language: str,
    target_language: str,
    templates: Mapping[str, str] = TEMPLATES,
    ids: Sequence[int] | None = None,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    seed: int = 0,
    report: Report = silent,
) -> PromptTransfer:
    """Translate under each template, with the delta and without, and score both.

    ``trained`` is the template of the training, by name or as text; it comes first, the others follow in their order.
    ``ids`` are the rows that act (``None``: every changed row). ``report(done, total, message)`` counts sentences.
    Raises ``ModelError`` without laid-over rows, ``SettingsError`` for a template that cannot be.
    """
    own = template_text(trained)
    named = {name: template_text(text) for name, text in templates.items()}
    first = next((name for name, text in named.items() if text == own), "trained")
    named = {first: own} | {name: text for name, text in named.items() if text != own}
    if not sources:
        raise SettingsError("There are no source sentences. Expected at least one.")
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "beams": beams, "batch_size": batch_size}
    keys = {
        f"{'the tuned rows' if t else 'the base'} under the prompt {n}": (n, t) for n in named for t in (False, True)
    }
    prompts = {
        key: [format_prompt(named[name], s, source_language, target_language) for s in sources]
        for key, (name, _) in keys.items()
    }
    with acting(model, ids) as laid:
        rows = int((laid.slots >= 0).sum())
    written = generate_each(
        model, tokenizer, prompts, lambda key: acting(model, ids, 1.0 if keys[key][1] else 0.0), **options,
        progress=lambda done, total, key: report(done, total, f"translating with {key}"),
    )  # fmt: skip
    answers = {keys[key]: found for key, found in written.items()}
    bootstrap = Bootstrap(references, target_language, resamples, seed)
    scores = {key: bootstrap.all_scores(found) for key, found in answers.items()}
    runs = tuple(
        Transfer(
            name, text, trained=text == own,
            base=evaluate(answers[name, False], references, target_language, resamples=resamples),
            tuned=evaluate(answers[name, True], references, target_language, resamples=resamples),
            kept=shares(scores[name, True], scores[name, False], scores[first, True], scores[first, False]),
            base_texts=tuple(a.text for a in answers[name, False]),
            tuned_texts=tuple(a.text for a in answers[name, True]),
        )
        for name, text in named.items()
    )  # fmt: skip
    settings = {
        "sentences": len(sources), "source_language": source_language, "target_language": target_language, **options,
        "resamples": resamples, "seed": seed,
    }  # fmt: skip
    return PromptTransfer(runs, rows, settings)

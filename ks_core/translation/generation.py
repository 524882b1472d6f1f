"""Prompts, generation, and the rules that say which part of a continuation is the answer.

A base model rarely stops on its own: after the translation it goes on with another sentence, so
what a score measures depends on where the answer is cut. Every evaluation here is therefore scored
under all three rules, side by side:

    raw              the whole continuation
    first_line       up to the first newline
    prompt_restart   up to where the model starts a field of the prompt again

None of them looks at the reference. White space around the answer is dropped by all three, and
for ``first_line`` that comes first: a continuation that begins with a newline is not an empty answer.

    >>> extract(" Bonjour\\nEnglish: Bye", "first_line", "English: Hello\\nFrench:")
    'Bonjour'
"""

from __future__ import annotations

import contextlib
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ks_core import values
from ks_core.errors import Cancelled, SettingsError
from ks_core.jobs import sharding, world

RULES = ("raw", "first_line", "prompt_restart")

#: Named prompts. ``short`` is the demo's; ``paper`` and the two paraphrases are those the
#: replication of KS-Lottery trained and swapped.
TEMPLATES = {
    "short": "Translate {source_language} to {target_language}.\n{source_language}: {source}\n{target_language}:",
    "paper": "Translate the following sentence from {source_language} to {target_language}.\n"
             "{source_language}: {source}\n{target_language}:",
    "source_target": "Translate the following sentence from {source_language} to {target_language}.\n"
                     "Source: {source}\nTarget:",
    "input_output": "Translate the following sentence from {source_language} to {target_language}.\n"
                    "Input: {source}\nOutput:",
}  # fmt: skip

#: What a person reads in place of a template's name.
TEMPLATE_TITLES = {
    "short": "Short (the demo's)", "paper": "The paper's wording", "source_target": "Labels Source and Target",
    "input_output": "Labels Input and Output",
}  # fmt: skip

_FIELDS = {"source", "source_language", "target_language"}


def template(name_or_text: str) -> str:
    """A template by name, or the text itself when it is one.

    Raises ``SettingsError`` when the text lacks ``{source}`` or has other fields.
    """
    text = values.text("The prompt", name_or_text)
    text = TEMPLATES.get(text, text)
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError:
        raise SettingsError(
            f"The prompt {text[:300]!r} has a brace that is not closed. Write {{{{ for a brace."
        ) from None
    if any(layout or conversion for _, _, layout, conversion in parts):  # a width may ask for a terabyte of blanks
        raise SettingsError(
            f"The prompt {text[:300]!r} says how a field is laid out. Write its name alone, as {{source}}."
        )
    fields = {str(name) for _, name, _, _ in parts}
    if "source" not in fields or fields - _FIELDS:
        found = ", ".join(sorted(fields)) or "none"
        raise SettingsError(
            f"The prompt has the fields {found}. Expected {{source}} and, if wanted, "
            f"{{source_language}} and {{target_language}}; named prompts: {', '.join(TEMPLATES)}."
        )
    return text


def template_title(name: str) -> str:
    """How a template is called in a sentence or a figure; another name stays as it is."""
    return TEMPLATE_TITLES.get(name, name)


def format_prompt(name_or_text: str, source: str, source_language: str, target_language: str) -> str:
    """The prompt for one sentence. It ends where the model's answer begins."""
    return template(name_or_text).format(
        source=source, source_language=source_language, target_language=target_language
    )


def extract(text: str, rule: str, prompt: str) -> str:
    """The answer in a continuation under a rule, without the white space around it.

    ``text`` is what the model wrote after ``prompt``; ``prompt`` is the prompt as the model saw it
    (or its template), from which ``prompt_restart`` takes the labels: whatever stands before a
    colon at the start of a line, and the first line as a whole. Quotes are part of an answer and
    stay. Raises ``SettingsError`` for an unknown rule.
    """
    if rule not in RULES:
        raise SettingsError(f"{rule!r} is no extraction rule. Expected one of: {', '.join(RULES)}.")
    answer = text.strip()
    if rule == "first_line":
        return answer.partition("\n")[0].strip()
    if rule == "prompt_restart":
        starts = [m.start() for pattern in _restarts(prompt) if (m := re.search(pattern, answer))]
        return answer[: min(starts, default=len(answer))].strip()
    return answer


def _restarts(prompt: str) -> list[str]:
    """Patterns that tell a restarted prompt: each label with its colon, and the instruction."""
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    labels = dict.fromkeys(m[1] for line in lines if (m := re.match(r"([^\s:][^:]{0,40}?)\s*:(\s|$)", line)))
    patterns = [rf"(?<!\w){re.escape(label)}\s*:" for label in labels]
    if lines and not re.match(r"[^:]{1,41}:", lines[0]):
        patterns.append(re.escape(lines[0]))
    return patterns


@dataclass(frozen=True)
class Generation:
    """What a model wrote for one prompt."""

    prompt: str
    #: The continuation, special tokens left out.
    text: str
    #: Whether the model ended it (an end token) before the limit.
    stopped: bool
    #: Tokens written, the end token not counted.
    tokens: int


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Generation]:
    """Let a causal LM continue each prompt; results in the order of ``prompts``.

    Greedy, or beam search with ``beams`` > 1. Prompts are padded on the left and batched by length,
    so little is computed for padding. ``progress(done, total)`` is called after each batch;
    ``should_stop()`` is asked before each, and ``Cancelled`` raised when it says so. Processes that work together
    (``ks_core.jobs.world``) share the batches, and each gets all answers. The batches are the same however many there are,
    and so are the answers.
    """

    def asked(_run: str) -> contextlib.nullcontext:
        if should_stop and should_stop():
            raise Cancelled
        return contextlib.nullcontext()

    def told(done: int, total: int, _run: str) -> None:
        if progress and done:
            progress(done, total)

    options = {"max_new_tokens": max_new_tokens, "beams": beams, "batch_size": batch_size}
    return generate_each(model, tokenizer, {"": prompts}, asked, **options, progress=told)[""]


def generate_each(
    model: Any,
    tokenizer: Any,
    runs: Mapping[str, Sequence[str]],
    acting: Callable[[str], contextlib.AbstractContextManager[Any]],
    *,
    max_new_tokens: int = 48,
    beams: int = 1,
    batch_size: int = 32,
    progress: Callable[[int, int, str], None] = lambda done, total, run: None,
) -> dict[str, list[Generation]]:
    """``generate`` for several lists of prompts, each while the model is as ``acting(run)`` makes it.

    ``progress(done, total, run)`` counts prompts of all runs, before each batch and at the end. Processes that work
    together share the batches of all runs, so that there are enough of them even where each list is short.
    """
    items = [(run, batch) for run, prompts in runs.items() for batch in batches_of(prompts, batch_size)]
    total, done = sum(map(len, runs.values())), 0
    found: dict[tuple[str, int], Generation] = {}
    for (run, batch), counts, taken in world.deal(items, sharding.is_spread(model)):
        progress(done, total, run)
        with acting(run):
            written = write(
                model, tokenizer, [runs[run][i] for i in batch], max_new_tokens=max_new_tokens, beams=beams
            )  # fmt: skip
        if counts:
            found |= {(run, i): answer for i, answer in zip(batch, written, strict=True)}
        done = sum(len(batch) for _, batch in items[:taken])
    if items:
        progress(total, total, items[-1][0])
    found = dict(world.gather(list(found.items())))
    return {run: [found[run, i] for i in range(len(prompts))] for run, prompts in runs.items()}


def batches_of(prompts: Sequence[str], batch_size: int) -> list[list[int]]:
    """The prompts' positions by length, cut into batches.

    >>> batches_of(["long one", "a", "bb"], 2)
    [[1, 2], [0]]
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def write(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int = 48, beams: int = 1
) -> list[Generation]:
    """What a model writes for one batch of prompts, padded on the left to one width."""
    import torch

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ends = _end_ids(model, tokenizer)
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    width = max(map(len, encoded))
    model.eval()
    with sharding.inference(model):
        written = model.generate(
            input_ids=torch.tensor([[pad] * (width - len(e)) + e for e in encoded], device=model.device),
            attention_mask=torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded], device=model.device),
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
            eos_token_id=sorted(ends),
        )[:, width:].tolist()
    answers = []
    for prompt, tokens in zip(prompts, written, strict=True):
        end = next((n for n, t in enumerate(tokens) if t in ends), None)
        own = tokens if end is None else tokens[:end]
        text = tokenizer.decode(own, skip_special_tokens=True)
        answers.append(Generation(prompt, text, end is not None, len(own)))
    return answers


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every id that ends an answer, by the model's own settings and the tokenizer's."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return {i for i in ids if i is not None}

"""Prompts: how a sentence is put to the model. A template is text with ``{source}`` and, if wanted, the two languages."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ks_core import values
from ks_core.errors import SettingsError
from ks_core.registry import Entry, Registry
from ks_core.translation.tasks import TASKS, TEXT, TRANSLATION, Task

REPLICATION = "an unreviewed replication of KS-Lottery (September 2026)"
#: The code of a paper by KS-Lottery's authors, "How Vocabulary Sharing Facilitates Multilingualism in LLaMA?".
SIBLING = "CONE-MT/Vocabulary-Sharing-Facilitates-Multilingualism at 48446cd (Findings of ACL 2024)"

#: Alpaca's first words. A model that writes them begins another prompt.
ALPACA_OPENING = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)


@dataclass(frozen=True)
class Template(Entry):
    """A named prompt: ``text`` has ``{source}``, and may have ``{source_language}`` and ``{target_language}``. It ends where the
    answer begins; one for an ``encoder``, which only reads it, ends with the sentence. ``tasks`` are those that it asks for."""

    text: str = ""
    encoder: bool = False
    tasks: tuple[str, ...] = (TRANSLATION,)


TEMPLATES = Registry("prompt", [
    Template(
        "short", "Short (the demo's)", "An instruction of three words, and the two languages as labels.",
        text="Translate {source_language} to {target_language}.\n{source_language}: {source}\n{target_language}:",
    ),
    Template(
        # Called "paper" by links and saved runs, from when it was taken for the paper's, which is not published.
        "paper", "The replication's wording", "A full sentence, and the two languages as labels.", REPLICATION,
        text="Translate the following sentence from {source_language} to {target_language}.\n"
             "{source_language}: {source}\n{target_language}:",
    ),
    Template(
        "source_target", "Labels Source and Target", "The same sentence with other labels.", REPLICATION,
        text="Translate the following sentence from {source_language} to {target_language}.\nSource: {source}\nTarget:",
    ),
    Template(
        "input_output", "Labels Input and Output", "The same sentence with other labels.", REPLICATION,
        text="Translate the following sentence from {source_language} to {target_language}.\nInput: {source}\nOutput:",
    ),
    Template(
        "alpaca", "Alpaca frame", "Headings for instruction, input and response, as in the code of the authors' sibling paper; "
        "the instruction's words are not in that code, and are the replication's here.", SIBLING,
        text=ALPACA_OPENING + "\n### Instruction:\nTranslate the following sentence from {source_language} to {target_language}.\n"
             "### Input:\n{source}\n### Response:",
    ),
    Template(
        "source", "The sentence alone", "For encoder-decoders that know their languages, such as Marian, mBART, M2M-100 and NLLB; and for "
        "text to text, whose prompt is taken as it is.", text="{source}", encoder=True, tasks=(TRANSLATION, TEXT),
    ),
    Template(
        "t5", "T5's task", "The task before the sentence, as T5 was trained to translate.", "Raffel et al. (2020), arXiv 1910.10683",
        text="translate {source_language} to {target_language}: {source}", encoder=True,
    ),
    Template(
        "question", "Question and answer", "Text to text behind the label Question; the answer behind Answer.",
        text="Question: {source}\nAnswer:", tasks=(TEXT,),
    ),
    Template(
        "instruction", "Alpaca frame, no input", "Text to text as an instruction, as Alpaca puts one that has no input.",
        "Taori et al. (2023), Stanford Alpaca",
        text="Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
             "### Instruction:\n{source}\n\n### Response:", tasks=(TEXT,),
    ),
])  # fmt: skip

#: Other names that a template goes by.
ALIASES = {"replication": "paper"}

_FIELDS = {"source", "source_language", "target_language"}


def template(name_or_text: str) -> str:
    """A template by name, or the text itself when it is one.

    Raises ``SettingsError`` when the text lacks ``{source}`` or has other fields.
    """
    return _checked(values.text("The prompt", name_or_text))


@lru_cache(maxsize=256)  # an estimate asks for the same one at each of thousands of sentences
def _checked(text: str) -> str:
    text = ALIASES.get(text, text)
    text = TEMPLATES[text].text if text in TEMPLATES else text
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


def texts(encoder: bool = False, task: str = TRANSLATION) -> dict[str, str]:
    """The text of every named template of a task: of translation for a decoder, or for an encoder; of text to text for either."""
    return {
        name: known.text
        for name, known in TEMPLATES.items()
        if task in known.tasks and (task != TRANSLATION or known.encoder == encoder)
    }


def usual_prompt(encoder: bool, task: str = TRANSLATION) -> str:
    """The name of the prompt that is taken where none is named."""
    return "source" if encoder else TASKS.find(task).prompt


def check_for(task: Task, name_or_text: str) -> None:
    """Raise ``SettingsError`` for a prompt that names languages where the task has none."""
    named = [name for _, name, _, _ in string.Formatter().parse(template(name_or_text)) if name and name != "source"]
    if named and task.name == TEXT:
        raise SettingsError(
            f"The prompt names {{{named[0]}}}, and text to text has no languages. Expected a prompt with {{source}} alone; named ones: "
            f"{', '.join(texts(task=TEXT))}."
        )


def template_title(name: str) -> str:
    """How a template is called in a sentence or a figure; another name stays as it is."""
    name = ALIASES.get(name, name)
    return TEMPLATES[name].title if name in TEMPLATES else name


def format_prompt(name_or_text: str, source: str, source_language: str, target_language: str) -> str:
    """The prompt for one sentence. It ends where the model's answer begins."""
    return template(name_or_text).format(
        source=source, source_language=source_language, target_language=target_language
    )


def prompt_lengths(name_or_text: str, sources: Sequence[str], source_language: str, target_language: str) -> list[int]:
    """How many characters the prompt of each sentence has. An estimate asks for thousands, so only two prompts are made.

    >>> prompt_lengths("{source} in {target_language}: {source}", ["a", "bcd"], "English", "French")
    [14, 18]
    """
    empty, one = (len(format_prompt(name_or_text, text, source_language, target_language)) for text in ("", "x"))
    return [empty + (one - empty) * len(source) for source in sources]

"""Extraction rules: which part of a continuation is the answer.

A base model rarely stops on its own: after the translation it goes on with another sentence, so what a score measures
depends on where the answer is cut. Every evaluation here is therefore scored under all rules, side by side. None of
them looks at the reference. White space around the answer is dropped by all, and for ``first_line`` that comes first:
a continuation that begins with a newline is not an empty answer.

    >>> extract(" Bonjour\\nEnglish: Bye", "first_line", "English: Hello\\nFrench:")
    'Bonjour'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ks_core.registry import Entry, Registry
from ks_core.translation.prompts import ALPACA_OPENING, REPLICATION, SIBLING

#: Stands where the sentence goes in a frame (``evaluation.HeldOut.frame``).
SOURCE = "{source}"


def extract(text: str, rule: str, prompt: str) -> str:
    """The answer in a continuation under a rule, without the white space around it.

    ``text`` is what the model wrote after ``prompt``. ``prompt`` is the prompt as the model saw it or, better, its frame:
    the same with ``{source}`` where the sentence stands, so that nothing in the sentence is taken for a part of the
    prompt. Quotes are part of an answer and stay. Raises ``SettingsError`` for an unknown rule.
    """
    return EXTRACTION_RULES.find(rule).function(text.strip(), prompt)


def usual_rule(references: Iterable[str]) -> str:
    """The rule that a table leads with: up to the first line break, or all that was written where references have several lines.

    >>> usual_rule(["Bonjour le monde"]), usual_rule(["yes", "a list:\\n1"])
    ('first_line', 'raw')
    """
    return "raw" if any("\n" in reference.strip() for reference in references) else "first_line"


def dropped(text: str, kept: str) -> str:
    """What a rule left out behind the answer that it kept.

    >>> dropped("Bonjour le\\nmonde ### Input", "Bonjour le monde")
    ' ### Input'
    """
    found = re.search(r"\s+".join(map(re.escape, kept.split())), text)
    return text[found.end() :] if found else text


def whole(answer: str, prompt: str) -> str:
    """All that was written."""
    return answer


def first_line(answer: str, prompt: str) -> str:
    """Up to the first line break."""
    return answer.partition("\n")[0].strip()


def prompt_restart(answer: str, prompt: str) -> str:
    """Up to where the model starts a field of the prompt, or its instruction, again.

    A field starts with its label and colon at the start of a line, after a line break: a label inside a line is a word
    like any other, and what an answer begins with is the answer. Where it begins with the label that the prompt ends
    with, the label is taken off: "French: Bonjour" says once more where the answer begins. Labels are what stands before
    a colon at the start of a line of the prompt; the instruction is its first line, if that is no field.
    """
    labels, instruction = _fields(prompt)
    last = prompt.rstrip().rpartition("\n")[2]
    own = _label(last) if last.endswith(":") else ""
    if own and (found := re.match(rf"({re.escape(own)}\s*:[^\S\n]*)+", answer)):
        answer = answer[found.end() :]
    starts = [rf"{re.escape(label)}\s*:" for label in labels] + ([re.escape(instruction)] if instruction else [])
    restart = re.search(rf"\n[^\S\n]*({'|'.join(starts)})", answer) if starts else None
    return answer[: restart.start() if restart else len(answer)].strip()


def response(answer: str, prompt: str) -> str:
    """Up to the next heading of an Alpaca frame ("###"), or to its first words; the lines joined by spaces.

    A heading "### Response:" that the answer begins with is taken off. This is how the sibling's code cuts, which splits
    everything that was written at its headings and takes what follows the first response; it also ends an answer at its
    first colon, which looks like an accident of the split and is not repeated here.
    """
    joined = re.sub(r"^((#+\s*)?Response\s*:\s*)+", "", " ".join(answer.split()))
    return joined.partition("###")[0].partition(ALPACA_OPENING)[0].strip()


def _fields(prompt: str) -> tuple[list[str], str]:
    """The labels of a prompt's fields, and its instruction (empty where its first line is a field or has the sentence)."""
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    labels = [_label(line.partition(SOURCE)[0]) for line in lines]
    instruction = lines[0] if lines and not labels[0] and SOURCE not in lines[0] else ""
    return list(dict.fromkeys(filter(None, labels))), instruction


def _label(line: str) -> str:
    """What stands before the colon at the start of a line; empty where nothing does."""
    found = re.match(r"([^\s:][^:]{0,40}?)\s*:(\s|$)", line.strip())
    return found[1] if found else ""


@dataclass(frozen=True)
class ExtractionRule(Entry):
    """A rule: ``function(answer, prompt)`` gives what of a stripped answer counts."""

    function: Callable[[str, str], str] = whole


EXTRACTION_RULES = Registry("extraction rule", [
    ExtractionRule("raw", "Raw", "The whole continuation.", REPLICATION + ", R1", function=whole),
    ExtractionRule("first_line", "First line", "Up to the first line break.", REPLICATION + ", R2", function=first_line),
    ExtractionRule("prompt_restart", "Prompt restart", "Up to where the model starts a field of the prompt again.",
                   REPLICATION + ", R3", function=prompt_restart),
    ExtractionRule("response", "Response", "Up to the next heading of an Alpaca frame, the lines joined.", SIBLING,
                   function=response),
])  # fmt: skip

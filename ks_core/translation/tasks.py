"""Tasks: what a model is asked to do with a text, and how its answers are scored.

A translation has two languages, and its scores know how the words of one are told apart. Any other text has a prompt and an answer
and no languages: instructions, questions, classes. Everything below a corpus knows the task by that: where no target language is
named, it is text to text.
"""

from __future__ import annotations

from dataclasses import dataclass

from ks_core.registry import Entry, Registry

TRANSLATION, TEXT = "translation", "text-to-text"


@dataclass(frozen=True)
class Task(Entry):
    """A task: ``fields`` are how its two sides are called in a JSONL file unless somebody says otherwise; ``shortest`` and ``longest``
    the usual bounds on a source, in words; ``prompt`` the usual prompt of a decoder; ``pair`` and ``source`` what people
    call a pair and what of it is asked. ``compared`` are the metrics in which systems are compared, the one that tables lead with first.
    """

    fields: tuple[str, str] = ("source", "target")
    shortest: int = 3
    longest: int = 16
    prompt: str = "short"
    pair: str = "sentence"
    source: str = "Source"
    target: str = "Reference"
    compared: tuple[str, str] = ("bleu", "chrf")


TASKS = Registry("task", [
    Task(TRANSLATION, "Translation", "A sentence and its translation, between two languages that the prompt names."),
    Task(TEXT, "Text to text", "A prompt and its answer: instructions, questions, classes. The prompt is taken as it is.",
         fields=("prompt", "answer"), shortest=1, longest=200, prompt="source", pair="prompt", source="Prompt",
         compared=("rouge", "chrf")),
])  # fmt: skip


def task_of(target_language: str) -> Task:
    """The task of a text with this target language: a translation, or text to text where it is empty."""
    return TASKS[TRANSLATION if target_language else TEXT]


def usual_joint(target_language: str, prompt: str) -> str:
    """What stands between a prompt and its answer: a space; nothing where text to text ends its prompt with a line break."""
    return "" if not target_language and prompt.endswith("\n") else " "

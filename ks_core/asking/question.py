"""What is asked: a pair, its ticket, what somebody typed, which rows act and how strongly. Making one loads no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ks_core import values
from ks_core.errors import SettingsError
from ks_core.translation.prompts import format_prompt

#: Who answers, in this order, by name: what a person calls it.
VOICES = {"base": "Base", "ticket": "Ticket", "tuned": "Tuned"}
#: Characters that are taken at all, tokens of a prompt, tokens of an answer, and how far beyond the tuned rows one may go.
LONGEST, MOST_PROMPT, MOST_NEW, MOST_STRENGTH = 100_000, 2048, 256, 4.0


@dataclass(frozen=True)
class Question:
    """Everything that decides the answers.

    ``ticket`` are the ids of the ticket's rows, of which those in ``off`` do not act; the others act at ``strength`` (0: the
    base's rows, 1: the tuned ones). ``text`` is a sentence, put to the models by ``prompt`` (a template's name or text) in
    two languages, or the whole prompt where ``prompt`` is empty. An answer has at most ``max_new_tokens`` tokens. ``content`` says
    what both checkpoints held when it was asked. Raises ``SettingsError`` for what cannot be.
    """

    base: str
    tuned: str
    text: str
    prompt: str = "short"
    source_language: str = "English"
    target_language: str = "French"
    ticket: tuple[int, ...] = ()
    off: tuple[int, ...] = ()
    strength: float = 1.0
    max_new_tokens: int = 48
    content: str = ""

    def __post_init__(self) -> None:
        for name in ("base", "tuned", "prompt", "source_language", "target_language", "content"):
            if len(values.text(f"The question: {name.replace('_', ' ')}", getattr(self, name))) > LONGEST:
                raise SettingsError(
                    f"The question's {name.replace('_', ' ')} has more than {LONGEST:,} characters. Expected fewer."
                )
        if len(values.text("The question", self.text)) > LONGEST:
            raise SettingsError(
                f"{len(self.text):,} characters were typed. Expected at most {LONGEST:,}, and at most {MOST_PROMPT:,} tokens of a prompt. "
                "Shorten it."
            )
        if not self.text.strip():
            raise SettingsError("Nothing was typed. Expected a sentence, or a whole prompt.")
        for name in ("ticket", "off"):
            for token in values.members(f"The rows: {name}", getattr(self, name)):
                values.whole("A token id", token, 0, (1 << 63) - 1)
        if foreign := set(self.off) - set(self.ticket):
            raise SettingsError(
                f"Row {min(foreign)} is to be switched off, and it is not in the ticket. Expected some of its {len(self.ticket):,} rows."
            )
        if not 0 <= values.number("The strength", self.strength) <= MOST_STRENGTH:
            raise SettingsError(
                f"The strength is {self.strength:g}. Expected a number from 0, the base, to {MOST_STRENGTH:g}; 1 is the tuned rows."
            )
        values.whole("The limit of new tokens", self.max_new_tokens, 1, MOST_NEW)
        if len(self.whole) > LONGEST:
            raise SettingsError(
                f"The prompt has {len(self.whole):,} characters with its template. Expected at most {LONGEST:,}: shorten it."
            )

    @cached_property
    def whole(self) -> str:
        """The prompt as the models read it. Raises ``SettingsError`` for a template that breaks."""
        if not self.prompt:
            return self.text
        return format_prompt(self.prompt, self.text, self.source_language, self.target_language)

    @property
    def acting(self) -> tuple[int, ...]:
        """The ticket's rows that act."""
        off = set(self.off)
        return tuple(i for i in self.ticket if i not in off)

    @cached_property
    def key(self) -> str:
        """16 hex digits that stand for the whole of it: the same question, the same answers."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Plain values: ``from_dict`` takes them back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Question:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field or a value that cannot be."""
        known = values.of_fields(cls, given)
        for name in ("ticket", "off"):
            known[name] = values.members(f"The rows: {name}", known.get(name, ()))
        return cls(**known)

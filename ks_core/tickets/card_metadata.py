"""What a published ticket's card says besides its rows, and the block of YAML above the card, which the hub reads.

It writes no sentence of its own and knows no network: the words are the audit's, and ``upload`` sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ks_core.errors import SettingsError
from ks_core.values import is_repository

TAGS = ("ks-lottery", "trainable-tokens", "embedding-rows")
#: The longest name that the hub takes, ``org/`` and all.
LONGEST = 96
#: How the hub writes a licence: ``apache-2.0``, ``cc-by-4.0``, ``other``.
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True)
class Measured:
    """A number of the base with the ticket over it: ``kind`` as the hub calls the metric, ``name`` as a person does."""

    kind: str
    name: str
    value: float


@dataclass(frozen=True)
class Publication:
    """What is known of a ticket that is published, besides its rows.

    ``repository`` and ``base_model`` are ids on the hub; ``license`` as the hub writes it (empty: the card names none);
    ``languages`` codes of the text that the ticket was audited on, source and target; ``corpus`` that text's name, ``datasets``
    its id where the hub has it, ``part`` which part of it was held out; ``measured`` what the ticket reached on it.
    ``short`` are the audit's sentences in short, what counts against the ticket first, ``said`` all of them, ``missing`` what
    was not run; ``notes`` whatever else a reader should know. Raises ``SettingsError`` for what the hub would not take.
    """

    repository: str
    base_model: str
    license: str = ""
    languages: Sequence[str] = ()
    corpus: str = ""
    datasets: Sequence[str] = ()
    part: str = ""
    measured: Sequence[Measured] = ()
    short: Sequence[str] = ()
    said: Sequence[str] = ()
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()
    signature: str = ""

    def __post_init__(self) -> None:
        check_repository(self.repository)
        if self.license and not _LICENSE.fullmatch(self.license):
            raise SettingsError(
                f"{self.license[:80]!r} is no licence as the hub writes them. Expected one such as apache-2.0, mit, cc-by-4.0, other."
            )

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repository.partition("/")[2]


def check_repository(name: str) -> None:
    """Raise ``SettingsError`` unless a name can be a repository's: the hub's own rules, so that nothing is sent for a slip."""
    fits = is_repository(name) and re.fullmatch(r"[A-Za-z0-9._/-]+", name) and len(name) <= LONGEST
    if not fits or "--" in name or ".." in name or name.endswith(".git"):
        raise SettingsError(
            f"{name[:200]!r} is no repository's name. Expected owner/name of letters, digits, -, _ and . (no -- or .., {LONGEST} "
            "signs at most), as in me/my-ticket."
        )


def metadata(base: str, more: Publication | None) -> list[str]:
    """The block, fences and all, a line each. Without ``more`` it names the base as it stands in the ticket."""
    known: dict[str, Any] = {"base_model": more.base_model if more else base, "library_name": "peft"}
    if more:
        known |= {
            "license": more.license, "language": list(dict.fromkeys(more.languages)), "datasets": list(more.datasets),
            "pipeline_tag": "translation" if more.languages else "text-generation", "tags": ["base_model:adapter:" + more.base_model, *TAGS],
            "metrics": list(dict.fromkeys(one.kind for one in more.measured)), "model-index": _index(more),
        }  # fmt: skip
    else:
        known["tags"] = list(TAGS[:2])
    return ["---", *(f"{key}: {yaml(value)}" for key, value in known.items() if value), "---"]


def _index(more: Publication) -> list[dict[str, Any]]:
    """The results as the hub's model-index; empty where nothing was measured."""
    if not more.measured:
        return []
    dataset = {"type": next(iter(more.datasets), more.corpus), "name": more.corpus, "split": more.part or "test"}
    task = {"type": "translation" if more.languages else "text-generation"}
    found = [{"type": one.kind, "name": one.name, "value": round(one.value, 4)} for one in more.measured]
    return [{"name": more.name, "results": [{"task": task, "dataset": dataset, "metrics": found}]}]


def yaml(value: Any) -> str:
    """A value as YAML on one line: quoted text, numbers, lists and tables of them.

    >>> yaml({"a": ["b", 1.5]})
    '{"a": ["b", 1.5]}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)}: {yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(yaml, value)) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def quoted(value: str) -> str:
    """Text in double quotes, on one line, which YAML and Python both read as that text.

    >>> quoted('a"b'), quoted("two\\nlines"), quoted("\\u2028")
    ('"a\\\\"b"', '"two\\\\nlines"', '"\\\\u2028"')
    """
    made = json.dumps(value, ensure_ascii=False)
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}" for c in made
    )

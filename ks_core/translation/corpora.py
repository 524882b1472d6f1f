"""Corpora: parallel text, or prompts and their answers, cleaned, and the split that no run may cross.

A corpus is named by a short string, so that a job, a ticket and a link can all carry it:

    pack:fr-FR              an installed JupyterLab language pack (English to French)
    file:pairs.tsv          two tab-separated columns, source and target
    file:pairs.jsonl        one JSON object a line, with named fields
    flores:folder#eng,cat   a folder in Flores layout (``<split>/<code>.<split>`` or ``<code>.<split>``)
    hub:org/name#src,tgt    a dataset on the hub, where a network and ``datasets`` are there

What stands before the colon is a reader of ``parallel_text``.

Which pairs are held out is decided by each source sentence alone (a hash of its letters), so a
held-out sentence stays held out in every run, with every seed, in every corpus it turns up in. The same hash parts what is
held out: settings are chosen on ``development``, and what is claimed is measured on ``test``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from ks_core.errors import CorpusError, SettingsError
from ks_core.jobs import bounded
from ks_core.store import access, door
from ks_core.translation import lines
from ks_core.translation.languages import language_name
from ks_core.translation.lines import Files, Pairs
from ks_core.translation.parallel_text import CORPUS_READERS
from ks_core.translation.tasks import TASKS, TEXT, TRANSLATION, Task, task_of

#: One pair in this many is held out.
HELD_OUT_ONE_IN = 10
#: Of the held-out pairs, those with a fingerprint below this are for development: 55% of the range. The demo's settings were
#: chosen on the first 100 held-out pairs of ``pack:fr-FR`` in the order of the fingerprint, and these lie below it.
DEVELOPMENT_BELOW = 55 * 2**64 // 100
#: More words than a sentence has.
LONGEST = 1_000_000
#: The parts of what is held out.
PARTS = ("development", "test")
#: Pairs in a piece in which they come out of cleaning, each after whether they are held out; with it how many raw pairs were
#: dropped so far, by reason.
PIECE = 5000
Piece = tuple[bool, list[tuple[str, str]], dict[str, int]]

_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class SentencePair:
    """One sentence and its translation, or a prompt and its answer."""

    source: str
    target: str


@dataclass(frozen=True)
class Corpus:
    """Cleaned parallel text, split: to train on and held out, each in an order that only its content decides.

    The languages are empty where the task is text to text. What is held out is ``development``, then ``test``. Where so little is held out that one of the two would be empty, the
    held-out pairs are halved in their order, and a single one is for the test: then a sentence may be in the other part of
    another corpus, and ``halved`` says so.
    """

    name: str
    source_language: str
    target_language: str
    train: tuple[SentencePair, ...]
    held_out: tuple[SentencePair, ...]
    #: How many raw pairs were left out, by reason.
    dropped: dict[str, int] = field(default_factory=dict)
    #: How many of the held-out pairs are for development, where the test is a text of its own.
    developing: int | None = None

    @cached_property
    def _cut(self) -> tuple[int, bool]:
        """How many of the held-out pairs are for development, and whether they were halved."""
        if self.developing is not None:
            return self.developing, False
        below = sum(fingerprint(pair.source) < DEVELOPMENT_BELOW for pair in self.held_out)
        halved = below in (0, len(self.held_out))
        return (len(self.held_out) // 2 if halved else below), halved

    @property
    def task(self) -> Task:
        """What a model is asked to do with it."""
        return task_of(self.target_language)

    @property
    def development(self) -> tuple[SentencePair, ...]:
        """The held-out pairs on which settings are chosen."""
        return self.held_out[: self._cut[0]]

    @property
    def test(self) -> tuple[SentencePair, ...]:
        """The held-out pairs on which what is claimed is measured."""
        return self.held_out[self._cut[0] :]

    @property
    def halved(self) -> bool:
        """Whether the held-out pairs are parted by their number, as too few are held out to part them by fingerprint."""
        return self._cut[1]

    def part(self, name: str) -> tuple[SentencePair, ...]:
        """The held-out pairs of a part: one of ``PARTS``; all where the name is empty. Raises ``SettingsError``."""
        if name not in ("", *PARTS):
            raise SettingsError(f"{name!r} is no part of a corpus. Expected one of: {', '.join(PARTS)}.")
        return {"": self.held_out, "development": self.development, "test": self.test}[name]

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of every pair in order: equal text, equal hash."""
        digest = hashlib.sha256()
        for pair in (*self.train, *self.held_out):
            digest.update(json.dumps([pair.source, pair.target]).encode())
        return digest.hexdigest()


def fingerprint(source: str) -> int:
    """A number that only the letters and digits of a sentence decide.

    Case, spacing and punctuation do not count, so ``Open file`` and ``open file…`` are held out
    together or trained on together.
    """
    folded = unicodedata.normalize("NFKC", source).casefold()
    letters = "".join(c for c in folded if c.isalnum())
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big")


def load(
    name: str,
    *,
    shortest: int = 3,
    longest: int = 16,
    source_field: str = "source",
    target_field: str = "target",
    source_language: str = "",
    target_language: str = "",
    test: str = "",
    most: int = 0,
    task: str = TRANSLATION,
) -> Corpus:
    """Read, clean and split a corpus.

    ``shortest`` and ``longest`` bound the source in words (the target in twice ``longest``).
    Languages are names such as ``French``, or codes (``languages.find``), which become names; where the source says them they
    may be left empty. With the ``task`` text-to-text there are none, and a prompt and its answer may have several lines. Text becomes
    NFC, without white space around it; what is inside stays.

    ``test`` names another text, all of which is the part ``test``, whatever its length; what is held out of the first is then for
    development, and a sentence of the test is in neither. Of what is left ``most`` pairs (0: all) are trained on: the first in the order
    of their fingerprints, which is a sample.

    Raises ``CorpusError`` when a text is missing, unreadable, or has fewer than two pairs
    left for training or none held out, and ``AccessError`` for text that this server does not read.
    """
    text = TASKS.find(task).name == TEXT
    if text and (source_language or target_language):
        raise CorpusError(
            f"{name} is read as text to text, which has no languages, and {source_language or target_language} is named. Leave the "
            "languages out, or choose the task translation."
        )
    found, languages = _read(name, source_field, target_field)
    source_language = "" if text else language_name(source_language or languages[0])
    target_language = "" if text else language_name(target_language or languages[1])
    if not text and not (source_language and target_language):
        raise CorpusError(
            f"{name} does not say its languages. Name them, for example source language "
            "English and target language French: the prompt needs both."
        )
    train, held_out, dropped = _gathered(name, found, {"shortest": shortest, "longest": longest, "several_lines": text})
    developing: int | None = None
    if test:
        tested = _all_of(test, source_field, target_field, text)
        asked = {fingerprint(pair.source) for pair in tested}
        before = len(train) + len(held_out)
        train, held_out = ([p for p in part if fingerprint(p.source) not in asked] for part in (train, held_out))
        dropped["in the test"] = before - len(train) - len(held_out)
        developing, held_out = len(held_out), [*held_out, *tested]
    if most and len(train) > most:
        dropped["more than asked for"] = len(train) - most
        train = train[:most]
    if len(train) < 2 or not held_out:
        why = ", ".join(f"{n} {r}" for r, n in dropped.items() if n) or "nothing was dropped"
        raise CorpusError(
            f"{name} leaves {len(train)} pairs to train on and {len(held_out)} held out ({why}). "
            "A run needs at least two and one: bring more text, or widen the length limits."
        )
    kept = {reason: count for reason, count in dropped.items() if count}
    return Corpus(name, source_language, target_language, tuple(train), tuple(held_out), kept, developing)


def _read(name: str, source_field: str, target_field: str) -> tuple[Pairs | Files, tuple[str, str]]:
    """The pairs of a text, or where they lie, and its languages. Raises what ``load`` raises for a name."""
    access.check_text(name)
    kind, _, rest = name.partition(":")
    if kind not in CORPUS_READERS:
        raise CorpusError(
            f"{name!r} names no corpus. Expected {', '.join(r.example for r in CORPUS_READERS.values())}."
        )
    reader = CORPUS_READERS[kind]
    if reader.path:
        access.check_path(Path(reader.path(rest)), reader.path(rest))
    return reader.function(rest, source_field, target_field)


def _all_of(name: str, source_field: str, target_field: str, several_lines: bool) -> list[SentencePair]:
    """Every pair of a text, of any length, in the order of the fingerprints. Raises ``CorpusError`` for a text without one."""
    found, _ = _read(name, source_field, target_field)
    parts = _gathered(name, found, {"shortest": 0, "longest": LONGEST, "several_lines": several_lines})
    pairs = sorted((*parts[0], *parts[1]), key=lambda pair: fingerprint(pair.source))
    if not pairs:
        why = ", ".join(f"{n} {r}" for r, n in parts[2].items() if n) or "it is empty"
        raise CorpusError(f"{name} has no pair to test on ({why}). Name a text with sentences and their translations.")
    return pairs


def _gathered(
    name: str, found: Pairs | Files, limits: dict[str, Any]
) -> tuple[list[SentencePair], list[SentencePair], dict[str, int]]:
    """What is left to train on, what is held out, and how many pairs were dropped for which reason."""
    if isinstance(found, Files):
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(lines.opened(path)) for path in found.paths]
            about = {"paired": found.function.__name__, "arguments": found.arguments, **limits}
            size = sum(map(door.size, files))
            pieces = bounded.call(cleaned, files, **about, size=size, what=name, error=CorpusError)
    else:
        pieces = _clean(found, **limits)
    train: list[SentencePair] = []
    held_out: list[SentencePair] = []
    dropped: dict[str, int] = {}
    for held, pairs, reasons in pieces:
        (held_out if held else train).extend(SentencePair(source, target) for source, target in pairs)
        dropped = reasons
    return train, held_out, dropped


def cleaned(
    *files: BinaryIO, paired: str, arguments: dict[str, Any], shortest: int, longest: int, several_lines: bool = False
) -> Iterator[Piece]:
    """Open files of text, cleaned: ``paired`` of ``lines`` makes pairs of them. Raises ``CorpusError``."""
    return _clean(getattr(lines, paired)(*files, **arguments), shortest, longest, several_lines)


def _clean(raw: Pairs, shortest: int, longest: int, several_lines: bool = False) -> Iterator[Piece]:
    """What is left of pairs, in the order of their fingerprints, in pieces."""
    dropped = dict.fromkeys(
        (
            "empty",
            "source equals target",
            "too short",
            "too long",
            "several lines",
            "half characters",
            "duplicate source",
        ),
        0,
    )
    kept: dict[int, tuple[str, str]] = {}
    for found in raw:
        source, target = (unicodedata.normalize("NFC", side).strip() for side in found)
        words = len(source.split())
        reason = None
        if not source or not target:
            reason = "empty"
        elif source == target:
            reason = "source equals target"
        elif _HALF.search(source) or _HALF.search(target):
            reason = "half characters"  # JSON can hold them, no tokenizer takes them
        elif not several_lines and ("\n" in source or "\n" in target):
            reason = "several lines"  # the line break is how an answer ends
        elif words < shortest:
            reason = "too short"
        elif words > longest or len(target.split()) > 2 * longest:
            reason = "too long"
        elif (key := fingerprint(source)) in kept:
            reason = "duplicate source"
        else:
            kept[key] = (source, target)
        if reason:
            dropped[reason] += 1
    ordered = sorted(kept)
    for start in range(0, max(len(ordered), 1), PIECE):
        keys = ordered[start : start + PIECE]
        for held in (False, True):
            yield held, [kept[key] for key in keys if (key % HELD_OUT_ONE_IN == 0) == held], dropped

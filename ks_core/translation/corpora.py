"""Corpora: parallel text, cleaned, and the split that no run may cross.

A corpus is named by a short string, so that a job, a ticket and a link can all carry it:

    pack:fr-FR              an installed JupyterLab language pack (English to French)
    file:pairs.tsv          two tab-separated columns, source and target
    file:pairs.jsonl        one JSON object a line, with named fields
    flores:folder#eng,cat   a folder in Flores layout (``<split>/<code>.<split>`` or ``<code>.<split>``)
    hub:org/name#src,tgt    a dataset on the hub, where a network and ``datasets`` are there

Which pairs are held out is decided by each source sentence alone (a hash of its letters), so a
held-out sentence stays held out in every run, with every seed, in every corpus it turns up in.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ks_core.errors import CorpusError
from ks_core.store import access
from ks_core.translation import parallel_text

#: One pair in this many is held out.
HELD_OUT_ONE_IN = 10

_HALF = re.compile("[\ud800-\udfff]")

LANGUAGES = {
    "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "en": "English", "es": "Spanish",
    "fi": "Finnish", "fr": "French", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch",
    "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian", "zh": "Chinese",
}  # fmt: skip


@dataclass(frozen=True)
class SentencePair:
    """One sentence and its translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Corpus:
    """Cleaned parallel text, split. Both parts are in an order that only their content decides."""

    name: str
    source_language: str
    target_language: str
    train: tuple[SentencePair, ...]
    held_out: tuple[SentencePair, ...]
    #: How many raw pairs were left out, by reason.
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of every pair in order: equal text, equal hash."""
        digest = hashlib.sha256()
        for pair in (*self.train, *self.held_out):
            digest.update(json.dumps([pair.source, pair.target]).encode())
        return digest.hexdigest()


def language_name(code: str) -> str:
    """A language's English name from a code such as ``fr-FR``; the code itself when unknown.

    >>> language_name("fr-FR"), language_name("xx")
    ('French', 'xx')
    """
    return LANGUAGES.get(code.replace("_", "-").split("-")[0].lower(), code)


def fingerprint(source: str) -> int:
    """A number that only the letters and digits of a sentence decide.

    Case, spacing and punctuation do not count, so ``Open file`` and ``open file…`` are held out
    together or trained on together.
    """
    folded = unicodedata.normalize("NFKC", source).casefold()
    letters = "".join(c for c in folded if c.isalnum())
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big")


def is_held_out(source: str) -> bool:
    """Whether a source sentence belongs to the held-out part."""
    return fingerprint(source) % HELD_OUT_ONE_IN == 0


def load(
    name: str,
    *,
    shortest: int = 3,
    longest: int = 16,
    source_field: str = "source",
    target_field: str = "target",
    source_language: str = "",
    target_language: str = "",
) -> Corpus:
    """Read, clean and split a corpus.

    ``shortest`` and ``longest`` bound the source in words (the target in twice ``longest``).
    Languages are names such as ``French``; where the source says them they may be left empty.
    Raises ``CorpusError`` when the corpus is missing, unreadable, or has fewer than two pairs
    left for training or none held out.
    """
    access.check_text(name)
    kind, _, rest = name.partition(":")
    if kind in ("file", "flores"):
        access.check_path(Path(rest.partition("#")[0] if kind == "flores" else rest))
    if kind == "pack":
        raw: Iterable[tuple[str, str]] = parallel_text.pack(rest)
        source_language, target_language = (
            source_language or "English",
            target_language or language_name(rest),
        )
    elif kind == "file":
        raw = parallel_text.file(rest, source_field, target_field)
    elif kind == "flores":
        raw, codes = parallel_text.flores(rest)
        source_language = source_language or language_name(codes[0])
        target_language = target_language or language_name(codes[1])
    elif kind == "hub":
        raw = parallel_text.hub(rest)
    else:
        raise CorpusError(
            f"{name!r} names no corpus. Expected pack:fr-FR, file:pairs.tsv, file:pairs.jsonl, "
            "flores:folder#eng,cat or hub:org/name#source,target."
        )
    if not source_language or not target_language:
        raise CorpusError(
            f"{name} does not say its languages. Name them, for example source language "
            "English and target language French: the prompt needs both."
        )
    return _clean(name, source_language, target_language, raw, shortest, longest)


def _clean(
    name: str,
    source_language: str,
    target_language: str,
    raw: Iterable[tuple[str, str]],
    shortest: int,
    longest: int,
) -> Corpus:
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
    kept: dict[int, SentencePair] = {}
    for found in raw:
        source, target = (side.strip() for side in found)
        words = len(source.split())
        reason = None
        if not source or not target:
            reason = "empty"
        elif source == target:
            reason = "source equals target"
        elif _HALF.search(source) or _HALF.search(target):
            reason = "half characters"  # JSON can hold them, no tokenizer takes them
        elif "\n" in source or "\n" in target:
            reason = "several lines"  # the line break is how an answer ends
        elif words < shortest:
            reason = "too short"
        elif words > longest or len(target.split()) > 2 * longest:
            reason = "too long"
        elif fingerprint(source) in kept:
            reason = "duplicate source"
        if reason:
            dropped[reason] += 1
        else:
            kept[fingerprint(source)] = SentencePair(source, target)
    ordered = [kept[key] for key in sorted(kept)]
    train = tuple(p for p in ordered if not is_held_out(p.source))
    held_out = tuple(p for p in ordered if is_held_out(p.source))
    if len(train) < 2 or not held_out:
        why = ", ".join(f"{n} {r}" for r, n in dropped.items() if n) or "nothing was dropped"
        raise CorpusError(
            f"{name} leaves {len(train)} pairs to train on and {len(held_out)} held out ({why}). "
            "A run needs at least two and one: bring more text, or widen the length limits."
        )
    return Corpus(name, source_language, target_language, train, held_out, {r: n for r, n in dropped.items() if n})

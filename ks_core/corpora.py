"""Parallel text: where it comes from, and the split that no run may cross.

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
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

from ks_core import access
from ks_core.errors import CorpusError

#: Bytes of the largest file that is read. Text that a run can use is far smaller.
LARGEST_FILE = 1 << 30
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


def installed_packs() -> list[str]:
    """Codes of the JupyterLab language packs that are installed here, such as ``fr-FR``."""
    codes = []
    for entry in sorted({Path(p) for p in sys.path}):
        codes += [
            p.name.removeprefix("jupyterlab_language_pack_").replace("_", "-")
            for p in entry.glob("jupyterlab_language_pack_*")
            if (p / "locale").is_dir()
        ]
    return sorted(set(codes))


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
        raw: Iterable[SentencePair] = _pack(rest)
        source_language, target_language = (
            source_language or "English",
            target_language or language_name(rest),
        )
    elif kind == "file":
        raw = _file(_path(rest), source_field, target_field)
    elif kind == "flores":
        raw, codes = _flores(rest)
        source_language = source_language or language_name(codes[0])
        target_language = target_language or language_name(codes[1])
    elif kind == "hub":
        raw = _hub(rest)
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
    raw: Iterable[SentencePair],
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
    for pair in raw:
        source, target = pair.source.strip(), pair.target.strip()
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


def _pack(code: str) -> Iterator[SentencePair]:
    """Pairs of an installed language pack: its JSON catalogues map English to a list of forms."""
    module = "jupyterlab_language_pack_" + code.replace("-", "_")
    # With a dot in it the name would be looked for inside another package, which looking imports.
    spec = util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        have = ", ".join(installed_packs()) or "none"
        raise CorpusError(
            f"The language pack {code} is not installed (installed: {have}). "
            f"Run: pip install jupyterlab-language-pack-{code}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    for path in sorted(root.glob("locale/*/LC_MESSAGES/*.json")):
        catalogue = json.loads(path.read_text(encoding="utf-8"))
        for key, forms in catalogue.items():
            # The empty key is the catalogue's header; a context stands before an EOT character.
            if key and forms and forms[0]:
                yield SentencePair(key.rpartition("\x04")[2], forms[0])


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~name, and there is no such user
        return Path(name)


def _lines(path: Path) -> list[str]:
    """The lines of a text file, ended by a line feed alone: a sentence may hold any other separator of Unicode."""
    reason = ""
    try:
        if not path.exists():
            reason = "it does not exist"
        elif not path.is_file():
            reason = "it is a folder" if path.is_dir() else "it is no file"  # a pipe would be waited for
        elif path.stat().st_size > LARGEST_FILE:
            reason = f"it has {path.stat().st_size:,} bytes, the largest that is read has {LARGEST_FILE:,}"
        else:
            lines = path.read_bytes().decode("utf-8-sig").split("\n")
            return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    raise CorpusError(f"{path} cannot be read: {reason}. Expected UTF-8 text.")


def _file(path: Path, source_field: str, target_field: str) -> Iterator[SentencePair]:
    text = _lines(path)
    if path.suffix == ".jsonl":
        yield from _jsonl(path, text, source_field, target_field)
        return
    if path.suffix not in (".tsv", ".txt"):
        raise CorpusError(f"{path} ends in {path.suffix or 'nothing'}. Expected .tsv (source, tab, target) or .jsonl.")
    for number, line in enumerate(text, 1):
        row = line.split("\t")
        if not line.strip():
            continue
        if len(row) < 2:
            raise CorpusError(f"{path}, line {number}: one column found, two expected (source, tab, target).")
        yield SentencePair(row[0], row[1])


def _jsonl(path: Path, text: list[str], source_field: str, target_field: str) -> Iterator[SentencePair]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise CorpusError(f"{path}, line {number} is not JSON. Expected one object a line.") from None
        if not isinstance(record, dict):
            raise CorpusError(
                f"{path}, line {number} is not an object. Expected "
                f'{{"{source_field}": "...", "{target_field}": "..."}}.'
            )
        for name in (source_field, target_field):
            if not isinstance(record.get(name), str):
                have = ", ".join(map(str, record)) or "none"
                raise CorpusError(
                    f"{path}, line {number} has no text in field {name!r} (fields there: {have}). "
                    "Name the fields that hold source and target."
                )
        yield SentencePair(record[source_field], record[target_field])


def _flores(rest: str) -> tuple[list[SentencePair], tuple[str, str]]:
    folder_name, _, codes = rest.partition("#")
    source, _, target = codes.partition(",")
    folder = _path(folder_name)
    if not re.fullmatch(r"[\w-]+", source) or not re.fullmatch(r"[\w-]+", target):
        raise CorpusError(f"flores:{rest} does not name two languages. Expected flores:folder#eng,cat.")
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder. Expected a Flores folder, with files such as dev/eng.dev.")
    sides = []
    for code in (source, target):
        files = sorted(folder.glob(f"{code}*.dev*")) + sorted(folder.glob(f"*/{code}*.dev*"))
        if not files:
            raise CorpusError(
                f"{folder} holds no file for {code}. Expected {code}.dev, {code}.devtest, or the "
                f"like in it or in its dev and devtest folders."
            )
        sides.append([line for f in files for line in _lines(f)])
    if len(sides[0]) != len(sides[1]):
        raise CorpusError(
            f"{folder}: {source} has {len(sides[0])} lines and {target} {len(sides[1])}. "
            "Both must have the same sentences in the same order."
        )
    return [SentencePair(a, b) for a, b in zip(*sides, strict=True)], (source, target)


def _hub(rest: str) -> Iterator[SentencePair]:
    name, _, fields = rest.partition("#")
    source, _, target = fields.partition(",")
    if util.find_spec("datasets") is None:
        raise CorpusError("Reading a dataset from the hub needs the package datasets. Run: pip install datasets")
    import datasets

    # Older releases ask, or run a dataset's own script when a variable says so. Never here.
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False
    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # the library raises a dozen kinds; the user needs the one sentence
        raise CorpusError(
            f"The dataset {name} could not be had from the hub ({type(error).__name__}). "
            "Check the name and the network, or bring the pairs as a file."
        ) from None
    for row in rows:
        record = row.get("translation", row)
        if not isinstance(record.get(source), str) or not isinstance(record.get(target), str):
            raise CorpusError(
                f"{name} has no text fields {source!r} and {target!r} (fields: {', '.join(record)}). "
                "Name them: hub:org/name#source,target."
            )
        yield SentencePair(record[source], record[target])

"""Vocabularies: what the ids stand for, and how to show it so that a person can read it.

Only the list of pieces is read, never a tokenizer's code. Pieces come in four styles: byte-level BPE
(GPT-2 and its kin write each byte as a printable character, a space as ``Ġ``), SentencePiece (a space is
``▁``, single bytes are ``<0x0A>``), WordPiece (``##ing`` goes on a word), and plain. How they become text
for people is in ``readable``; how a file becomes pieces is here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ks_core.checkpoints import folders
from ks_core.checkpoints.readable import piece_bytes, readable, shown
from ks_core.errors import CheckpointError

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
#: Tokens that older tokenizers add to the file's own, in a file beside it.
ADDED = "added_tokens.json"
MOST_TOKENS = 4_000_000


@dataclass(frozen=True)
class Content:
    """What a vocabulary file holds: pieces by id (``""`` in holes), their style, the special ids, and the ids
    whose piece is the text itself whatever the style (special and added tokens)."""

    pieces: list[str]
    style: str
    special: frozenset[int] = frozenset()
    verbatim: frozenset[int] = frozenset()


@dataclass
class Vocabulary:
    """Pieces by id, the style they are written in, and the special ids; parsed when first asked for."""

    source: Path
    #: Hex SHA-256 of the file: equal files, equal vocabularies. Known without parsing.
    content_hash: str
    known: Content | None = field(default=None, repr=False)

    @cached_property
    def content(self) -> Content:
        """Raises ``CheckpointError`` when the file is no vocabulary."""
        return self.known or _read(self.source)

    @property
    def tokens(self) -> list[str]:
        """The raw piece of every id, ``""`` where there is none."""
        return self.content.pieces

    @property
    def style(self) -> str:
        """``byte-level``, ``sentencepiece``, ``wordpiece`` or ``plain``."""
        return self.content.style

    @property
    def special_ids(self) -> frozenset[int]:
        return self.content.special

    def __len__(self) -> int:
        return len(self.tokens)

    def __bool__(self) -> bool:
        return True  # or asking whether there is one would count its tokens, and so parse the file

    @property
    def is_small(self) -> bool:
        """Whether the tokens are at hand or parsing them costs next to nothing."""
        return self.known is not None or (self.source.is_file() and self.source.stat().st_size < 1 << 15)

    def piece_bytes(self, token_id: int) -> bytes:
        """The bytes of text that a piece stands for."""
        verbatim = token_id in self.content.verbatim
        return piece_bytes(self.tokens[token_id], "plain" if verbatim else self.style)

    def readable(self, token_id: int) -> str:
        """What a person can read: ``␣the``, ``⏎``, ``⟨E2 80⟩``, ``<|im_end|>``, ``(id 7)`` for a hole."""
        if not 0 <= token_id < len(self.tokens) or not self.tokens[token_id]:
            return f"(id {token_id})"
        return readable(self.piece_bytes(token_id))

    def ids_of(self, text: str) -> list[int]:
        """Every id that stands for exactly this text, which may also be written as ``readable`` writes it."""
        wanted = text.encode()
        found = [i for i, token in enumerate(self.tokens) if token and self.piece_bytes(i) == wanted]
        return found or [i for i, shown in enumerate(self.readable_list()) if shown == text]

    def readable_list(self) -> list[str]:
        """``readable`` for every id, made once."""
        return self._readable

    @cached_property
    def _readable(self) -> list[str]:
        found = shown(self.tokens, self.style)
        for token_id in self.content.verbatim:
            if token_id < len(found):
                found[token_id] = self.readable(token_id)
        return found


def find(folder: Path) -> Vocabulary | None:
    """The vocabulary in a folder, not parsed yet; ``None`` when there is none.

    Raises ``CheckpointError`` for a file that is a link out of the folder, cannot be read, or is too large.
    """
    for name in FILES:
        if (folder / name).is_file():
            return of_file(folders.inside(folder, folder / name))
    return None


def of_file(path: Path) -> Vocabulary:
    """The vocabulary in a file, not parsed yet. Raises ``CheckpointError`` when it cannot be read."""
    digest = hashlib.sha256()
    added = folders.inside(path.parent, path.parent / ADDED)
    try:
        for part in (path, added) if _has_added(path) else (path,):
            if part.stat().st_size > folders.LARGEST_VOCABULARY:
                raise CheckpointError(
                    f"{part} has {part.stat().st_size:,} bytes, too many for a vocabulary. Save the tokenizer again."
                )
            digest.update(part.read_bytes())
        return Vocabulary(path, digest.hexdigest())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None


def _has_added(path: Path) -> bool:
    return path.name in ("tokenizer.model", "vocab.json") and (path.parent / ADDED).is_file()


def _read(path: Path) -> Content:
    try:
        if path.suffix == ".model":
            found = _sentencepiece(path)
        elif path.suffix == ".txt":
            # Only a line feed ends a line: a piece may be any other separator that Unicode has.
            content = path.read_bytes()
            if content.count(b"\n") > MOST_TOKENS:
                raise CheckpointError(f"It has more than {MOST_TOKENS:,} lines. Expected a token a line.")
            lines = content.decode("utf-8", errors="replace").split("\n")
            table = {i: line.removesuffix("\r") for i, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
            found = Content(by_id(table), guess_style(list(table.values())))
        else:
            found = _json(path)
        return _with_added(found, path.parent) if _has_added(path) else found
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as e:
        raise CheckpointError(
            f"{path} is no vocabulary that can be read ({type(e).__name__}). "
            "Save the tokenizer again, or remove the file to see ids only."
        ) from None


def guess_style(pieces: list[str]) -> str:
    """The style of a list of pieces, from how it writes a space, or the inside of a word.

    >>> [guess_style(["a", p]) for p in ("Ġthe", "▁the", "##the", "the")]
    ['byte-level', 'sentencepiece', 'wordpiece', 'plain']
    """
    counts = {
        "byte-level": sum(p.startswith("Ġ") for p in pieces),
        "sentencepiece": sum(p.startswith("▁") for p in pieces),
        "wordpiece": sum(p.startswith("##") and len(p) > 2 for p in pieces),
    }
    most = max(counts, key=counts.__getitem__)
    return most if counts[most] else "plain"


def by_id(table: dict[int, str]) -> list[str]:
    """A list of pieces from a table of ids, with ``""`` in the holes. Raises ``CheckpointError``.

    >>> by_id({2: "c", 0: "a"})
    ['a', '', 'c']
    """
    if not table:
        raise CheckpointError("The vocabulary is empty: the tokenizer names no token. Save the tokenizer again.")
    low, high = min(table), max(table)
    if low < 0 or high >= MOST_TOKENS:
        raise CheckpointError(
            f"The vocabulary has ids from {str(low)[:30]} to {str(high)[:30]}. Expected 0 to at most "
            f"{MOST_TOKENS - 1:,}: the tokenizer file is damaged."
        )
    pieces = [""] * (high + 1)
    for token_id, piece in table.items():
        pieces[token_id] = piece
    return pieces


def _json(path: Path) -> Content:
    content = json.loads(path.read_bytes())
    # In a vocab.json "model" may be a token like any other.
    whole = path.name == "tokenizer.json" or ("model" in content and isinstance(content["model"], dict))
    vocab = content["model"]["vocab"] if whole else content
    if isinstance(vocab, dict):
        table = {_id(i): piece for piece, i in vocab.items()}
    elif whole and isinstance(vocab, list):  # a Unigram model lists [piece, score]
        table = {i: _piece(entry[0] if isinstance(entry, list) else None) for i, entry in enumerate(vocab)}
    else:
        raise ValueError("there is no table of tokens")
    style = guess_style(list(table.values()))
    if vocab is content:
        return Content(by_id(table), style)
    # The added tokens are text as it is, the special ones among them too; most added tokens are special.
    added = {_id(entry["id"]): entry for entry in content.get("added_tokens") or []}
    table |= {i: _piece(entry["content"]) for i, entry in added.items()}
    special = frozenset(i for i, entry in added.items() if entry.get("special", True))
    return Content(by_id(table), style, special, frozenset(added))


def _id(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("an id is no whole number")
    return value


def _piece(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a token is no text")
    return value


def _with_added(found: Content, folder: Path) -> Content:
    extra = {_id(i): piece for piece, i in json.loads((folder / ADDED).read_bytes()).items()}
    pieces = by_id({**dict(enumerate(found.pieces)), **extra})
    return Content(pieces, found.style, found.special, found.verbatim | set(extra))


def _sentencepiece(path: Path) -> Content:
    """The pieces of a SentencePiece model, read from its protocol buffer without the library.

    https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto: field 1 of the model is
    a piece, with the fields 1 (the string), 2 (a score) and 3 (its type: 1 normal, 2 unknown, 3 control,
    4 user-defined, 5 unused, 6 byte).
    """
    pieces: list[str] = []
    kinds: list[Any] = []
    for number, value in _fields(memoryview(path.read_bytes())):
        if number == 1 and isinstance(value, memoryview):
            if len(pieces) >= MOST_TOKENS:
                raise CheckpointError(f"It has more than {MOST_TOKENS:,} pieces. Expected a SentencePiece model.")
            entry = dict(_fields(value))
            text, kind = entry.get(1, memoryview(b"")), entry.get(3, 1)
            if isinstance(text, memoryview):
                pieces.append(bytes(text).decode("utf-8", errors="replace"))
                kinds.append(kind)
    if not pieces:
        raise CheckpointError("No piece is named. Expected a SentencePiece model; save the tokenizer again.")
    special = frozenset(i for i, kind in enumerate(kinds) if kind in (2, 3))
    return Content(pieces, "sentencepiece", special, special | {i for i, kind in enumerate(kinds) if kind == 4})


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protocol buffer message: number, and an integer or bytes. ``ValueError`` when it is none."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while shift < 70:
            if at >= len(data):
                raise ValueError("it ends inside a number")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise ValueError("a number has no end")

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError("it is no protocol buffer")
            size = varint()
        if size > len(data) - at:
            raise ValueError("a field passes its end")
        at += size
        yield key >> 3, data[at - size : at]

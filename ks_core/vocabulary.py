"""Vocabularies: what the ids stand for, and how to show it so that a person can read it.

Only the list of pieces is read, never a tokenizer's code. Pieces come in three styles: byte-level BPE
(GPT-2 and its kin write each byte as a printable character, a space as ``Ġ``), SentencePiece (a space is
``▁``, single bytes are ``<0x0A>``), and plain.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from ks_core.errors import CheckpointError

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
MOST_TOKENS = 4_000_000
_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


@dataclass
class Vocabulary:
    """Pieces by id (``""`` where there is none), the style they are written in, and the special ids."""

    source: Path
    #: Hex SHA-256 of the file: equal files, equal vocabularies. Known without parsing.
    content_hash: str
    _pieces: list[str] | None = field(default=None, repr=False)
    _style: str = "plain"
    _special: frozenset[int] = frozenset()

    @property
    def tokens(self) -> list[str]:
        if self._pieces is None:
            self._read()
        assert self._pieces is not None
        return self._pieces

    @property
    def style(self) -> str:
        """``byte-level``, ``sentencepiece`` or ``plain``."""
        _ = self.tokens
        return self._style

    @property
    def special_ids(self) -> frozenset[int]:
        _ = self.tokens
        return self._special

    def __len__(self) -> int:
        return len(self.tokens)

    def __bool__(self) -> bool:
        return True  # or asking whether there is one would count its tokens, and so parse the file

    def piece_bytes(self, token_id: int) -> bytes:
        """The bytes of text that a piece stands for."""
        return _bytes(self.tokens[token_id], "plain" if token_id in self.special_ids else self.style)

    def readable(self, token_id: int) -> str:
        """What a person can read: ``␣the``, ``⏎``, ``⟨E2 80⟩``, ``<|im_end|>``, ``(id 7)`` for a hole."""
        if not 0 <= token_id < len(self.tokens) or not self.tokens[token_id]:
            return f"(id {token_id})"
        return readable(self.piece_bytes(token_id))

    def readable_list(self) -> list[str]:
        """``readable`` for every id, made once."""
        return self._readable

    @cached_property
    def _readable(self) -> list[str]:
        return [self.readable(i) for i in range(len(self.tokens))]

    def _read(self) -> None:
        try:
            if self.source.name == "tokenizer.model":
                pieces, style, special = _sentencepiece(self.source)
            elif self.source.suffix == ".gguf":
                from ks_core.gguf_file import vocabulary

                pieces, style, special = vocabulary(self.source)
            elif self.source.name == "vocab.txt":
                lines = self.source.read_text(encoding="utf-8").splitlines()
                pieces, style, special = lines, "plain", frozenset[int]()
            else:
                pieces, style, special = _json_pieces(self.source)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{self.source} is no vocabulary that can be read ({type(error).__name__}). "
                "Save the tokenizer again, or remove the file to see ids only."
            ) from None
        self._style, self._special, self._pieces = style, special, pieces


def find(folder: Path) -> Vocabulary | None:
    """The vocabulary in a folder, not parsed yet; ``None`` when there is none."""
    for name in FILES:
        if (folder / name).is_file():
            return of_file(folder / name)
    return None


def of_file(path: Path) -> Vocabulary:
    """The vocabulary in a file, not parsed yet. Raises ``CheckpointError`` when it cannot be read."""
    try:
        return Vocabulary(path, hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None


def readable(text: bytes) -> str:
    """Bytes as text that shows everything: what has no sign of its own is written in ⟨hex⟩.

    >>> readable(b" the"), readable(b"\\n\\n"), readable(b"\\xe2\\x80"), readable("café".encode())
    ('␣the', '⏎⏎', '⟨E2 80⟩', 'café')
    """
    if text.isascii() and text.isalnum():
        return text.decode()  # nearly every piece: no need to look at each character
    shown, hexed = [], []
    decoded = text.decode("utf-8", errors="surrogateescape")
    for character in decoded:
        if "\udc80" <= character <= "\udcff":  # a byte that is no part of valid UTF-8
            hexed.append(f"{ord(character) - 0xDC00:02X}")
            continue
        if hexed:
            shown.append(f"⟨{' '.join(hexed)}⟩")
            hexed = []
        shown.append(_SIGNS.get(character) or (character if _has_a_sign(character) else f"⟨U+{ord(character):04X}⟩"))
    if hexed:
        shown.append(f"⟨{' '.join(hexed)}⟩")
    return "".join(shown)


def _has_a_sign(character: str) -> bool:
    """Whether a character shows as itself: no control, format, surrogate, private or unassigned one."""
    if character == "\ufffd":
        return False  # the sign for a broken character: shown by its number, so that none looks broken
    category = unicodedata.category(character)
    return category[0] != "C" and category not in ("Zl", "Zp") and (category != "Zs" or character == " ")


@lru_cache(maxsize=1)
def _byte_of_sign() -> dict[str, int]:
    """GPT-2's table, backwards: printable Latin-1 stands for itself, the other bytes for U+0100 onwards."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(itself)]
    return {**{chr(b): b for b in itself}, **{chr(0x100 + n): b for n, b in enumerate(others)}}


def _bytes(piece: str, style: str) -> bytes:
    if style == "byte-level":
        table = _byte_of_sign()
        if all(c in table for c in piece):
            return bytes(table[c] for c in piece)
    elif style == "sentencepiece":
        if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece):
            return bytes([int(match[1], 16)])
        piece = piece.replace("▁", " ")
    return piece.encode("utf-8", errors="replace")


def guess_style(pieces: list[str]) -> str:
    """The style of a list of pieces, from how it writes a space.

    >>> guess_style(["a", "Ġthe"]), guess_style(["a", "▁the"]), guess_style(["a", "b"])
    ('byte-level', 'sentencepiece', 'plain')
    """
    byte_level = sum(p.startswith("Ġ") for p in pieces)
    sentencepiece = sum(p.startswith("▁") for p in pieces)
    if not byte_level and not sentencepiece:
        return "plain"
    return "byte-level" if byte_level > sentencepiece else "sentencepiece"


def by_id(table: dict[int, str]) -> list[str]:
    """A list of pieces from a table of ids, with ``""`` in the holes."""
    if not table:
        raise CheckpointError("The vocabulary is empty: the tokenizer names no token. Save the tokenizer again.")
    if min(table) < 0 or max(table) >= MOST_TOKENS:
        raise CheckpointError(
            f"The vocabulary has ids from {min(table)} to {max(table)}. Expected 0 to at most "
            f"{MOST_TOKENS - 1:,}: the tokenizer file is damaged."
        )
    pieces = [""] * (max(table) + 1)
    for token_id, piece in table.items():
        pieces[token_id] = piece
    return pieces


def _json_pieces(path: Path) -> tuple[list[str], str, frozenset[int]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "vocab.json":
        pieces = by_id({int(i): str(p) for p, i in content.items()})
        return pieces, guess_style(pieces), frozenset()
    vocab = content["model"]["vocab"]
    if isinstance(vocab, dict):
        table = {int(i): str(piece) for piece, i in vocab.items()}
    else:  # a Unigram model lists [piece, score]
        table = {i: str(entry[0]) for i, entry in enumerate(vocab)}
    style = guess_style(list(table.values()))
    special = set()
    for added in content.get("added_tokens") or []:
        table[int(added["id"])] = str(added["content"])
        special.add(int(added["id"]))  # written as it is, whatever the style
    return by_id(table), style, frozenset(special)


def _sentencepiece(path: Path) -> tuple[list[str], str, frozenset[int]]:
    import sentencepiece

    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        raise CheckpointError(f"{path} is no SentencePiece model. Save the tokenizer again.") from None
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    special = frozenset(i for i in range(len(pieces)) if model.is_control(i) or model.is_unknown(i))
    return pieces, "sentencepiece", special

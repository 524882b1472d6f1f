"""Pieces of a vocabulary as text that shows everything and breaks nothing.

A space is ``␣``, a line feed ``⏎``; bytes that are no valid UTF-8 are ``⟨E2 80⟩``, characters without a sign of
their own (controls, marks of direction, joiners, fillers) are ``⟨U+200B⟩``.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
#: Characters that Python counts as printable and a screen shows as nothing, or as a broken one (U+FFFD):
#: fillers, variation selectors, the grapheme joiner, the empty Braille cell.
_UNSEEN = re.compile(
    "[\ufffd\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def readable(text: bytes) -> str:
    """Bytes as text that shows everything: what has no sign of its own is written in ⟨hex⟩.

    >>> readable(b" the"), readable(b"\\n\\n"), readable(b"\\xe2\\x80"), readable("café".encode())
    ('␣the', '⏎⏎', '⟨E2 80⟩', 'café')
    """
    decoded = text.decode("utf-8", errors="surrogateescape")
    if decoded[:1] >= "\u0300" and unicodedata.category(decoded[0])[0] == "M":
        decoded = "◌" + decoded  # a mark by itself would go onto whatever stands before it
    if decoded.isprintable() and not _UNSEEN.search(decoded):
        return decoded.replace(" ", "␣")  # nearly every piece: no need to look at each character
    out: list[str] = []
    hexed: list[str] = []
    for character in decoded:
        if "\udc80" <= character <= "\udcff":  # a byte that is no part of valid UTF-8
            hexed.append(f"{ord(character) - 0xDC00:02X}")
            continue
        if hexed:
            out.append(f"⟨{' '.join(hexed)}⟩")
            hexed = []
        sign = _SIGNS.get(character)
        if sign is None:
            seen = character.isprintable() and not _UNSEEN.match(character)
            sign = character if seen else f"⟨U+{ord(character):04X}⟩"
        out.append(sign)
    if hexed:
        out.append(f"⟨{' '.join(hexed)}⟩")
    return "".join(out)


def shown(pieces: list[str], style: str) -> list[str]:
    """``readable`` of every piece, ``(id 7)`` for an empty one. A quarter of a million take under a second.

    >>> shown(["Ġthe", "", "âĢ"], "byte-level")
    ['␣the', '(id 1)', '⟨E2 80⟩']
    """
    # Most pieces are ASCII letters after a sign for a space: one pass over them, without going through bytes.
    if style == "byte-level":
        plain = re.compile("[Ġ!-~]+").fullmatch
        space = "Ġ"
    else:
        plain = re.compile("[▁!-;=-~]+" if style == "sentencepiece" else "[ !-~]+").fullmatch
        space = "▁" if style == "sentencepiece" else " "
    return [
        piece.replace(space, "␣") if plain(piece) else readable(piece_bytes(piece, style)) if piece else f"(id {i})"
        for i, piece in enumerate(pieces)
    ]


def piece_bytes(piece: str, style: str) -> bytes:
    """The bytes of text that a piece of a style stands for.

    >>> piece_bytes("Ġé", "plain").decode(), piece_bytes("ĠÃ©", "byte-level").decode(), piece_bytes("<0x0A>", "sentencepiece")
    ('Ġé', ' é', b'\\n')
    """
    if style == "byte-level":
        table, signs = _latin_of_sign()
        if signs.fullmatch(piece):
            return piece.translate(table).encode("latin-1")
    elif style == "sentencepiece":
        if match := _BYTE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        piece = piece.replace("▁", " ")
    # Half a surrogate pair, which JSON can hold, comes out as bytes that are no UTF-8.
    return piece.encode("utf-8", errors="surrogatepass")


def signs(text: bytes) -> str:
    """Bytes as byte-level BPE writes them.

    >>> signs(b" the"), piece_bytes(signs(bytes(range(256))), "byte-level") == bytes(range(256))
    ('Ġthe', True)
    """
    return text.decode("latin-1").translate(_sign_of_latin())


@lru_cache(maxsize=1)
def _sign_of_latin() -> dict[int, int]:
    return {byte: sign for sign, byte in _latin_of_sign()[0].items()}


@lru_cache(maxsize=1)
def _latin_of_sign() -> tuple[dict[int, int], re.Pattern[str]]:
    """GPT-2's table, backwards: printable Latin-1 stands for itself, the other bytes for U+0100 onwards."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(itself)]
    table = {**{b: b for b in itself}, **{0x100 + n: b for n, b in enumerate(others)}}
    return table, re.compile(f"[{re.escape(''.join(map(chr, table)))}]*")

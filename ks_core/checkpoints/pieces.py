"""The pieces of a vocabulary, read from a tokenizer's file: what the ids stand for, and in which style.

Only the list of pieces is read, never a tokenizer's code. The styles are those of ``vocabulary``. What a file may hold is
bounded before it is taken apart: in memory a megabyte of it can take twenty.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ks_core import values
from ks_core.checkpoints.readable import signs
from ks_core.errors import CheckpointError

#: Bounds on a file: its bytes (a SentencePiece model holds pieces alone), and the values of JSON. The largest tokenizers in
#: use have 35 MB and 3 million values.
LARGEST, LARGEST_SENTENCEPIECE, MOST_VALUES = 100 << 20, 32 << 20, 8_000_000
#: Bounds on what comes out: tokens, characters of one, characters of all. The largest vocabulary in use has 901,629 tokens.
MOST_TOKENS, LONGEST_PIECE, MOST_CHARACTERS = 1 << 20, 10_000, 16 << 20
#: The first line of a file of tiktoken's: a piece in base64, and its rank.
_RANKED = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
#: The first ids of fairseq, which stand before the pieces of a ``sentencepiece.bpe.model``, and how many of the model's own pieces
#: they replace. By the architecture, where one differs: XLM-R, mBART and NLLB do not.
FAIRSEQ, CAMEMBERT = ("<s>", "<pad>", "</s>", "<unk>"), ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED")
#: Pieces by id (``""`` in holes), their style, the special ids, and the ids whose piece is the text itself: the fields of
#: ``vocabulary.Content``.
Found = tuple[list[str], str, frozenset[int], frozenset[int]]


def read(file: BinaryIO, name: str, kind: str = "") -> Found:
    """What an open vocabulary file holds; ``name`` is how it is called in its folder, ``kind`` the architecture where it is known.

    Raises ``CheckpointError``.
    """
    try:
        if name.endswith((".model", ".tiktoken")):
            first = file.read(4096)
            file.seek(0)
            if name.endswith(".tiktoken") or _RANKED.match(first):
                return _ranks(file)
            return (
                _after_fairseq(_sentencepiece(file), kind)
                if name == "sentencepiece.bpe.model"
                else _sentencepiece(file)
            )
        if name == "tekken.json":
            return _tekken(file)
        return _lines(file) if name.endswith(".txt") else _json(file, name)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as e:
        raise _no_vocabulary(e) from None


def read_with_added(file: BinaryIO, *added: BinaryIO, name: str, kind: str, names: list[str]) -> Found:
    """``read``, and the tokens that older tokenizers add in files beside it, called ``names``. Raises ``CheckpointError``."""
    pieces, style, special, verbatim = read(file, name, kind)
    try:
        extra: dict[int, str] = {}
        for one, called in zip(added, names, strict=True):
            more, controls = _added(_content(one), called)
            extra |= more
            special |= controls
        return by_id({**dict(enumerate(pieces)), **extra}), style, special, verbatim | set(extra)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _no_vocabulary(e) from None


def _added(content: Any, name: str) -> tuple[dict[int, str], frozenset[int]]:
    """Tokens by id, and the special ones: of a table of ids by token, or of a tokenizer's settings, which may have one by id."""
    if name == "added_tokens.json":
        return {_id(i): _piece(piece) for piece, i in content.items()}, frozenset()
    entries = {int(i): entry for i, entry in (content.get("added_tokens_decoder") or {}).items()}
    special = frozenset(i for i, entry in entries.items() if entry.get("special", False))
    return {i: _piece(entry["content"]) for i, entry in entries.items()}, special


def _no_vocabulary(error: Exception) -> CheckpointError:
    return CheckpointError(
        f"It is no vocabulary that can be read ({type(error).__name__}). Save the tokenizer again, or remove the file to see "
        "ids only."
    )


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
    check(pieces)
    return pieces


def check(pieces: list[str]) -> None:
    """Raise ``CheckpointError`` for more text than tokens are."""
    longest, whole = max(map(len, pieces), default=0), sum(map(len, pieces))
    if len(pieces) > MOST_TOKENS or longest > LONGEST_PIECE or whole > MOST_CHARACTERS:
        raise CheckpointError(
            f"The vocabulary has {len(pieces):,} tokens of up to {longest:,} characters, {whole:,} together. Expected at most "
            f"{MOST_TOKENS:,}, {LONGEST_PIECE:,} and {MOST_CHARACTERS:,}: the tokenizer file is damaged."
        )


def _lines(file: BinaryIO) -> Found:
    """A token a line. Only a line feed ends a line: a piece may be any other separator that Unicode has."""
    content = file.read(LARGEST)
    if content.count(b"\n") > MOST_TOKENS:
        raise CheckpointError(f"It has more than {MOST_TOKENS:,} lines. Expected a token a line.")
    lines = content.decode("utf-8", errors="replace").split("\n")
    pieces = by_id({i: line.removesuffix("\r") for i, line in enumerate(lines[:-1] if lines[-1] == "" else lines)})
    return pieces, guess_style(pieces), frozenset(), frozenset()


def _content(file: BinaryIO) -> Any:
    try:
        return values.parsed(file.read(LARGEST), MOST_VALUES)
    except values.TooMany as found:
        raise CheckpointError(
            f"It holds about {found} values. Expected at most {MOST_VALUES:,} in a tokenizer."
        ) from None


def _json(file: BinaryIO, name: str) -> Found:
    content = _content(file)
    # In a vocab.json "model" may be a token like any other.
    whole = name == "tokenizer.json" or ("model" in content and isinstance(content["model"], dict))
    vocab = content["model"]["vocab"] if whole else content
    if isinstance(vocab, dict):
        table = {_id(i): piece for piece, i in vocab.items()}
    elif whole and isinstance(vocab, list):  # a Unigram model lists [piece, score]
        table = {i: _piece(entry[0] if isinstance(entry, list) else None) for i, entry in enumerate(vocab)}
    else:
        raise ValueError("there is no table of tokens")
    style = guess_style(list(table.values()))
    if vocab is content:
        return by_id(table), style, frozenset(), frozenset()
    # The added tokens are text as it is, the special ones among them too; most added tokens are special.
    added = {_id(entry["id"]): entry for entry in content.get("added_tokens") or []}
    table |= {i: _piece(entry["content"]) for i, entry in added.items()}
    special = frozenset(i for i, entry in added.items() if entry.get("special", True))
    return by_id(table), style, special, frozenset(added)


def _id(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("an id is no whole number")
    return value


def _piece(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a token is no text")
    return value


def _sentencepiece(file: BinaryIO) -> Found:
    """The pieces of a SentencePiece model, read from its protocol buffer without the library.

    https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto: field 1 of the model is
    a piece, with the fields 1 (the string), 2 (a score) and 3 (its type: 1 normal, 2 unknown, 3 control,
    4 user-defined, 5 unused, 6 byte).
    """
    pieces: list[str] = []
    kinds: list[Any] = []
    for number, value in _fields(memoryview(file.read(LARGEST_SENTENCEPIECE))):
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
    check(pieces)
    special = frozenset(i for i, kind in enumerate(kinds) if kind in (2, 3))
    return pieces, "sentencepiece", special, special | {i for i, kind in enumerate(kinds) if kind == 4}


def _after_fairseq(found: Found, kind: str) -> Found:
    """Pieces as the models number them that fairseq trained: four ids of its own, then the model's pieces but for its first three."""
    pieces, style, special, verbatim = found
    if len(pieces) < 3:
        raise ValueError("it has no unknown, beginning and end")
    first, left_out = (CAMEMBERT, 1) if kind == "camembert" else (FAIRSEQ, 3)
    own, offset = frozenset(range(len(first))), len(first) - left_out
    listed = [*first, *pieces[left_out:]]
    check(listed)
    special, verbatim = (own | {i + offset for i in ids if i >= left_out} for ids in (special, verbatim))
    return listed, style, special, verbatim


def _ranks(file: BinaryIO) -> Found:
    """A file of tiktoken's: a line is a piece's bytes in base64, and its rank, which is its id. Special tokens stand in no file."""
    content = file.read(LARGEST)
    if content.count(b"\n") > MOST_TOKENS:
        raise CheckpointError(f"It has more than {MOST_TOKENS:,} lines. Expected a token a line.")
    table = {}
    for line in content.split(b"\n"):
        if line:
            piece, rank = line.split()
            table[int(rank)] = signs(base64.b64decode(piece, validate=True))
    return by_id(table), "byte-level", frozenset(), frozenset()


def _tekken(file: BinaryIO) -> Found:
    """Mistral's tekken.json: first the special tokens, then pieces as bytes in base64, as many as the settings say."""
    content = _content(file)
    settings, specials = content["config"], content.get("special_tokens") or []
    reserved, size = _id(settings["default_num_special_tokens"]), _id(settings["default_vocab_size"])
    if not 0 <= reserved <= size <= MOST_TOKENS:
        raise ValueError("its settings say no size of a vocabulary")
    table = {i: f"<SPECIAL_{i}>" for i in range(reserved)} | dict(enumerate(("<unk>", "<s>", "</s>")[:reserved]))
    table |= {_id(entry["rank"]): _piece(entry["token_str"]) for entry in specials}
    for entry in content["vocab"]:
        if (rank := _id(entry["rank"]) + reserved) < size:
            table[rank] = signs(base64.b64decode(_piece(entry["token_bytes"]), validate=True))
    controls = frozenset(range(reserved))
    return by_id(table), "byte-level", controls, controls


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

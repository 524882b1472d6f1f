"""Vocabularies: what the ids stand for, and how to show it so that a person can read it.

Only the list of pieces is read, never a tokenizer's code. Pieces come in four styles: byte-level BPE
(GPT-2 and its kin write each byte as a printable character, a space as ``Ġ``), SentencePiece (a space is
``▁``, single bytes are ``<0x0A>``), WordPiece (``##ing`` goes on a word), and plain. How they become text
for people is in ``readable``; how a file becomes pieces is in ``pieces``.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ks_core.checkpoints import folders, pieces
from ks_core.checkpoints.readable import piece_bytes, readable, shown
from ks_core.errors import CheckpointError
from ks_core.jobs import bounded
from ks_core.store import door

#: The files that hold one, in the order in which they are looked for. The ids of a model with a ``vocab.json`` are those in it,
#: whatever SentencePiece model lies beside.
FILES = (
    "tokenizer.json", "tekken.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "spm.model",
)  # fmt: skip
#: How the files of tiktoken end, whatever they are called.
RANKS = ".tiktoken"
#: Tokens that older tokenizers add to the file's own, in files beside it.
ADDED = ("added_tokens.json", "tokenizer_config.json")
#: Files that name their added tokens themselves, or number them by rules of their own.
COMPLETE = ("tokenizer.json", "tekken.json")
#: Of how many texts the ids are remembered.
FOUND = 1000


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
        known = self._found.get(text)
        if known is None:
            wanted = text.encode()
            known = [i for i, token in enumerate(self.tokens) if token and self.piece_bytes(i) == wanted]
            known = known or [i for i, shown in enumerate(self.readable_list()) if shown == text]
            if len(self._found) >= FOUND:  # what visitors ask for has no end
                self._found.clear()
            self._found[text] = known
        return list(known)

    @cached_property
    def _found(self) -> dict[str, list[int]]:
        """The ids of texts that were asked for, as all tokens have to be looked at for one."""
        return {}

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
        if folders.has(folder, name):
            return of_file(folders.inside(folder, folder / name))
    ranks = sorted(folder.glob("*" + RANKS)) if folder.is_dir() else []
    return of_file(folders.inside(folder, ranks[0])) if ranks else None


def of_file(path: Path) -> Vocabulary:
    """The vocabulary in a file, not parsed yet. Raises ``CheckpointError`` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        for part in (path, *_added(path)):
            with door.open_file(part) as file:
                most = pieces.LARGEST_SENTENCEPIECE if part.suffix == ".model" else pieces.LARGEST
                if door.size(file) > most:
                    raise CheckpointError(
                        f"{part} has {door.size(file):,} bytes. Expected at most {most:,} for a vocabulary. Save the tokenizer "
                        "again."
                    )
                while block := file.read(1 << 20):
                    digest.update(block)
        return Vocabulary(path, digest.hexdigest())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None


def _added(path: Path) -> list[Path]:
    """The files beside a vocabulary's that add tokens to it. Raises ``CheckpointError`` for a link out of the folder."""
    names = () if path.name in COMPLETE or path.suffix == RANKS else ADDED
    return [folders.inside(path.parent, path.parent / name) for name in names if folders.has(path.parent, name)]


def _read(path: Path) -> Content:
    added = _added(path)
    said = folders.read_json(path.parent, "config.json") if path.name == "sentencepiece.bpe.model" else None
    kind = str(said.get("model_type")) if isinstance(said, dict) else ""
    with contextlib.ExitStack() as opened:
        try:
            files = [opened.enter_context(door.open_file(part)) for part in (path, *added)]
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
        asked: dict[str, Any] = {"name": path.name, "kind": kind}
        if added:
            asked["names"] = [part.name for part in added]
        function, size = pieces.read_with_added if added else pieces.read, sum(map(door.size, files))
        try:
            found = bounded.call(function, files, size=size, what="It", error=CheckpointError, **asked)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    return Content(*found)

"""GGUF: a file, the parts of one, or a folder with one in it. It brings its vocabulary with it."""

from __future__ import annotations

import re
from pathlib import Path

from ks_core.checkpoints import folders, gguf_file, hashes
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source
from ks_core.errors import CheckpointError

#: How llama.cpp names the parts of a model that it splits, and the part of one that sees.
PART, TOWER = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf"), "mmproj"


def is_mine(source: Source) -> bool:
    """Whether it is a .gguf file, or a folder with one, in parts or not, and no other weights."""
    path = source.path
    if path.is_dir():
        # Where a link to other weights is lost, these were not what the folder is about.
        return not folders.lost_link(path) and len({_whole(file) for file in _files(path)}) == 1
    return path.suffix == ".gguf" and path.is_file()


def read(source: Source, onward: Onward) -> Checkpoint:
    """Raises ``CheckpointError`` for a file that is none, is cut short, lacks a part, or is quantized in a way not known here."""
    path = source.path
    if path.is_dir():
        path = folders.inside(path, _files(path)[0])
    parts = _parts(path)
    if source.choice not in ("", gguf_file.EMBEDDING):
        raise CheckpointError(
            f"{path} has no embedding {source.choice[:80]!r}. Expected {gguf_file.EMBEDDING}, the one of a GGUF file."
        )
    stamps = {part: hashes.stamp(part) for part in parts}
    for part in parts:
        folders.refuse_empty(part)
    headers = [gguf_file.open_gguf(part) for part in parts]
    holding = next((header for header in headers if gguf_file.EMBEDDING in header.tensors), headers[0])
    matrix, stored = gguf_file.embedding(holding)
    return Checkpoint(
        source.given,
        source.label,
        "GGUF file" if len(parts) == 1 else f"GGUF in {len(parts)} parts",
        parts[0],
        gguf_file.EMBEDDING,
        stored,
        matrix,
        tied=not any("output.weight" in header.tensors for header in headers),
        vocabulary=next(filter(None, map(gguf_file.vocabulary, headers)), None),
        file=holding.path,
        stamp=stamps[holding.path],
    )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.gguf") if not file.name.startswith(TOWER))


def _whole(file: Path) -> str:
    """The name of the model that a file is, or is a part of."""
    named = PART.fullmatch(file.name)
    return f"{named[1]} of {named[3]}" if named else file.name


def _parts(path: Path) -> list[Path]:
    """All parts of the model that a file is a part of, in order. Raises ``CheckpointError``, which names those that are missing."""
    named = PART.fullmatch(path.name)
    if not named:
        return [path]
    count = int(named[3])
    if not 1 <= int(named[2]) <= count <= folders.MOST_SHARDS:
        raise CheckpointError(
            f"{path} says that it is part {int(named[2])} of {count}, which cannot be. Download it again."
        )
    parts = [path.with_name(f"{named[1]}-{n:05}-of-{named[3]}.gguf") for n in range(1, count + 1)]
    missing = [part.name for part in parts if not folders.has(path.parent, part.name)]
    if missing:
        raise CheckpointError(
            f"{path} is part {int(named[2])} of {count}, and there is no {folders.listed(missing)}. Put all parts into one folder."
        )
    return [folders.inside(path.parent, part) for part in parts]


READER = Reader(
    "gguf", "GGUF", "A .gguf file, any part of one, or a folder with one in it.", is_mine=is_mine, read=read
)

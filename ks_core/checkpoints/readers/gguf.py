"""GGUF: a file, or a folder with one such file in it. It brings its vocabulary with it."""

from __future__ import annotations

from pathlib import Path

from ks_core.checkpoints import folders, gguf_file, hashes
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source


def is_mine(source: Source) -> bool:
    """Whether it is a .gguf file, or a folder with one and no other weights."""
    path = source.path
    if path.is_dir():
        # Where a link to other weights is lost, these were not what the folder is about.
        return not folders.lost_link(path) and len(_files(path)) == 1
    return path.suffix == ".gguf" and path.is_file()


def read(source: Source, onward: Onward) -> Checkpoint:
    """Raises ``CheckpointError`` for a file that is none, is cut short, or is quantized in a way not known here."""
    path = source.path
    if path.is_dir():
        path = folders.inside(path, _files(path)[0])
    stamp = hashes.stamp(path)
    folders.refuse_empty(path)
    header = gguf_file.open_gguf(path)
    matrix, stored = gguf_file.embedding(header)
    return Checkpoint(
        source.name,
        source.label,
        "GGUF file",
        path,
        gguf_file.EMBEDDING,
        stored,
        matrix,
        tied="output.weight" not in header.tensors,
        vocabulary=gguf_file.vocabulary(header),
        file=path,
        stamp=stamp,
    )


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.gguf"))


READER = Reader("gguf", "GGUF", "A .gguf file, or a folder with one in it.", is_mine=is_mine, read=read)

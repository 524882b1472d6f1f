"""Opening a checkpoint: whatever it is, out comes its embedding matrix, its vocabulary and a content hash.

    folder          saved by transformers: one or many safetensors shards, or PyTorch .bin
    file            .safetensors, .gguf, .bin or .pt
    adapter         a peft adapter (or a ticket) on a base; ``base=`` names another base than it does
    hub id          org/name or org/name@revision
    demo name       demo:base, demo:en-fr

Only the embedding is read, through a memory map; the rest of the model stays on disk. Nothing a checkpoint
brings is run, and no link or path in it may lead out of its folder (see ``folders`` and ``torch_file``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ks_core.checkpoints import adapters, folders, hashes, safetensors_file, vocabulary
from ks_core.checkpoints.folders import INDEXES
from ks_core.checkpoints.matrices import Matrix
from ks_core.checkpoints.vocabulary import Vocabulary
from ks_core.errors import CheckpointError
from ks_core.store import access

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
#: Adapters on adapters on … that are followed.
DEEPEST = 4


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    ``source`` as it was given; ``label`` short, ``kind`` in words, for people; ``path`` the file or folder;
    ``tensor`` the embedding's name there and ``stored`` its format (``F32``, ``BF16``, ``Q8_0`` …); ``matrix``
    (V, d); ``tied`` whether the output layer is the same matrix (None: not known); ``base`` and ``changed_ids``
    (int64) for an adapter.
    """

    source: str
    label: str
    kind: str
    path: Path
    tensor: str
    stored: str
    matrix: Matrix = field(repr=False)
    tied: bool | None = None
    base: Checkpoint | None = None
    changed_ids: np.ndarray | None = field(default=None, repr=False)
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    #: The file that the matrix is mapped from, and its stamp from before it was mapped.
    file: Path | None = None
    stamp: str | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def dtype(self) -> str:
        return self.matrix.dtype

    @cached_property
    def content_hash(self) -> str:
        """Hex SHA-256 of the matrix's content. Where the file lies does not matter.

        Raises ``CheckpointError`` when the file has changed since it was opened.
        """
        if self.base is not None and isinstance(self.matrix, adapters.OverlaidMatrix | adapters.LowRankMatrix):
            under = self.base.content_hash
            if self.matrix.base is not self.base.matrix:  # the adapter brings the matrix that it changes
                under = hashes.of_matrix(self.matrix.base, self.file, f"{self.tensor} below", opened=self.stamp)
            if isinstance(self.matrix, adapters.OverlaidMatrix):
                return hashes.combine(under, self.matrix.ids, self.matrix.rows)
            return hashes.combine(under, *self.matrix.parts)
        return hashes.of_matrix(self.matrix, self.file, self.tensor, opened=self.stamp)


def open_checkpoint(source: str, *, base: str | None = None) -> Checkpoint:
    """Open a source. ``base`` names the base of an adapter when it is not the one the adapter names.

    Raises ``CheckpointError`` with one sentence for everything that can be wrong with it.
    """
    source = source.strip()
    if not source:
        raise CheckpointError("No checkpoint is named. Expected a folder, a file, a hub id, or demo:base.")
    access.check_source(source)
    try:
        return _open(source, base, ())
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else source
        raise CheckpointError(
            f"{named[:300]} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from None


def weight_files(checkpoint: Checkpoint) -> list[Path]:
    """Every safetensors file of a checkpoint: the one it was opened from, or all shards of its index."""
    index = checkpoint.path / INDEXES[0][1]
    if checkpoint.path.is_dir() and index.is_file():
        shards = folders.shards(checkpoint.path, index.name)
        folders.present(checkpoint.path, shards)
        return sorted(set(shards.values()))
    return [checkpoint.file] if checkpoint.file and checkpoint.file.suffix == ".safetensors" else []


def _open(source: str, base: str | None, above: tuple[Path, ...]) -> Checkpoint:
    """``above`` are the adapters that led here, the outermost first."""
    if source == "demo" or source.startswith("demo:"):
        from ks_core.checkpoints import demo

        path, label = Path(demo.resolve(source)), source
    else:
        try:
            path = Path(source).expanduser()
        except RuntimeError:  # ~name, and there is no such user
            path = Path(source)
        label = path.name or source
        # Before anything is said of it: outside the roots nobody learns what is there.
        if "\0" not in source and not (HUB_ID.fullmatch(source) and not path.exists()):
            access.check_path(path)
        if "\0" in source or not path.exists():
            if HUB_ID.fullmatch(source) and not source.startswith("."):
                from ks_core.checkpoints.hub import download

                path, label = download(source), source
            else:
                raise CheckpointError(
                    f"{source[:300]} does not exist. Expected a folder, a file, a hub id such as org/name, "
                    "or demo:base; check the spelling."
                )
    if path.is_file():
        return _file(source, label, path)
    if not path.is_dir():
        raise CheckpointError(f"{source} is neither a file nor a folder. Expected a checkpoint.")
    if adapters.is_adapter(path):
        return _adapter(source, label, path, base, above)
    return _folder(source, label, path)


def _file(source: str, label: str, path: Path) -> Checkpoint:
    stamp = hashes.stamp(path)
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes). Download or save it again.")
    tied: bool | None = None
    matrix: Matrix
    if path.suffix == ".gguf":
        from ks_core.checkpoints import gguf_file

        header = gguf_file.open_gguf(path)
        matrix, stored = gguf_file.embedding(header)
        kind, name, tied = "GGUF file", gguf_file.EMBEDDING, "output.weight" not in header.tensors
        words = gguf_file.vocabulary(header)
    elif path.suffix in (".safetensors", ".bin", ".pt", ".pth"):
        kind = "safetensors file" if path.suffix == ".safetensors" else "PyTorch file"
        name, matrix, stored, names = _embedding(path)
        # The file may be one shard of several: only an output layer that is there says something.
        complete = path.name in (single for single, _ in INDEXES)
        tied = folders.tied(path.parent if complete else path, names)
        words = vocabulary.find(path.parent)
    else:
        raise CheckpointError(
            f"{path} ends in {path.suffix or 'nothing'}. Expected .safetensors, .gguf, .bin or .pt, "
            "or a folder that transformers saved."
        )
    return _checked(
        Checkpoint(source, label, kind, path, name, stored, matrix, tied=tied, vocabulary=words, file=path, stamp=stamp)
    )


def _folder(source: str, label: str, path: Path) -> Checkpoint:
    for single, index in INDEXES:
        if (path / index).is_file():
            shards = folders.shards(path, index)
            if path.resolve().parent.name != "snapshots":  # of a hub model only the shard that is needed is fetched
                folders.present(path, shards)
            name = folders.embedding_name(path / index, list(shards))
            file, names = shards[name], list(shards)
            folders.present(path, {name: file})
            kind = f"transformers folder, {len(set(shards.values()))} shards"
        elif (path / single).is_file():
            file, name, names, kind = folders.inside(path, path / single), "", [], "transformers folder"
        else:
            continue
        stamp = hashes.stamp(file)
        if file.stat().st_size == 0:
            raise CheckpointError(f"{file} is empty (0 bytes). Download or save it again.")
        name, matrix, stored, here = _embedding(file, name)
        tied, words = folders.tied(path, names or here), vocabulary.find(path)
        return _checked(
            Checkpoint(
                source, label, kind, path, name, stored, matrix, tied=tied, vocabulary=words, file=file, stamp=stamp
            )
        )
    lost = [path / name for pair in INDEXES for name in pair if (path / name).is_symlink()]
    if lost:
        raise CheckpointError(f"{lost[0]} is a link to nothing, or to itself. Put the file itself there.")
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return _file(source, label, folders.inside(path, ggufs[0]))
    raise CheckpointError(
        f"{path} holds no checkpoint (there is: {folders.listed(sorted(p.name for p in path.iterdir())) or 'nothing'}). "
        "Expected model.safetensors, its index and shards, pytorch_model.bin, one .gguf, or a peft adapter."
    )


def _embedding(file: Path, name: str = "") -> tuple[str, Matrix, str, list[str]]:
    """Name, matrix and stored format of a weight file's embedding, and the names of all its tensors."""
    if file.suffix != ".safetensors":
        from ks_core.checkpoints import torch_file

        name, matrix, names = torch_file.matrix(file, name)
        formats = {dtype: stored for stored, dtype in safetensors_file.DTYPES.items()}
        return name, matrix, formats[matrix.dtype], names
    found = safetensors_file.tensors(file)
    name = name or folders.embedding_name(file, list(found))
    if name not in found:
        raise CheckpointError(f"{file} lacks {name}, which the index places there. Download it again.")
    return name, safetensors_file.matrix(file, found[name]), found[name].stored, list(found)


def _adapter(source: str, label: str, path: Path, base: str | None, above: tuple[Path, ...]) -> Checkpoint:
    above = (*above, path.resolve())
    if len(set(above)) < len(above) or len(above) > DEEPEST:
        raise CheckpointError("It is an adapter on an adapter on an adapter … Merge them first.")
    below = base or adapters.base_of(path)
    try:
        under = _open(below, None, above)
    except CheckpointError as error:
        if len(above) > 1:
            raise
        raise CheckpointError(f"{label} is an adapter on {below[:300]}, which could not be opened. {error}") from None
    file = folders.inside(path, path / adapters.WEIGHTS)
    stamp = hashes.stamp(file)
    matrix, changed = adapters.lay_over(path, under.matrix)
    checkpoint = Checkpoint(
        source,
        label,
        f"{'ticket' if (path / 'ticket.json').is_file() else 'peft adapter'} on {under.label}",
        path,
        under.tensor,
        "F32",
        matrix,
        tied=under.tied,
        base=under,
        changed_ids=changed,
        vocabulary=vocabulary.find(path) or under.vocabulary,
        file=file,
        stamp=stamp,
    )
    return _checked(checkpoint)


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    rows, width = checkpoint.shape
    if rows == 0 or width == 0:
        raise CheckpointError(
            f"{checkpoint.source} has an embedding of {rows} x {width}: the vocabulary is empty. "
            "Expected at least one row; save the checkpoint again."
        )
    return checkpoint

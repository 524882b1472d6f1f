"""Weights as transformers saves them. safetensors and PyTorch are the same in this: one file, or a folder with one file
or an index of several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ks_core.checkpoints import folders, hashes, safetensors_file, torch_file, vocabulary
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import Matrix
from ks_core.checkpoints.readers import nearby, scaled
from ks_core.checkpoints.readers.reader import Onward, Source


@dataclass(frozen=True)
class Weights:
    """One of the two formats: what people call it, how its files end, what the single file and the index are called."""

    title: str
    endings: tuple[str, ...]
    single: str
    index: str

    def is_mine(self, source: Source) -> bool:
        """Whether it is a file that ends so, or a folder with the single file or the index."""
        path = source.path
        if path.is_dir():
            return folders.has(path, self.index) or folders.has(path, self.single)
        return path.suffix in self.endings and path.is_file()

    def read(self, source: Source, onward: Onward) -> Checkpoint:
        """Raises ``CheckpointError`` for what is damaged, lacks a shard, or holds not exactly one embedding."""
        path = source.path
        whole = path.is_dir()
        said = folders.says_tied(path if whole else path.parent)
        if whole:
            file, name, names, kind = self._within(path, source.choice, said)
        else:
            nearby.refuse_rank(path)
            file, name, names, kind = path, "", [], f"{self.title} file"
        stamp = hashes.stamp(file)
        folders.refuse_empty(file)
        name, matrix, stored, here = _embedding(file, name, source.choice, said)
        folder = path if whole else path.parent
        # A single file may be one shard of several: only an output layer that is there says something then.
        complete = whole or path.name == self.single
        others = [n for n in names or here if n != name]  # of a tied model the output layer may be all that is stored
        tied = folders.tied(folder if complete else path, others)
        words = vocabulary.find(folder)
        return Checkpoint(
            source.given, source.label, kind, path, name, stored, matrix,
            tied=tied, vocabulary=words, file=file, stamp=stamp, notes=folders.unread(path, self._read(path)) if whole else (),
        )  # fmt: skip

    def _read(self, folder: Path) -> str:
        """Which is read of the single file and the index, by name. transformers takes the file, where both are there."""
        return self.single if folders.has(folder, self.single) else self.index

    def _within(self, folder: Path, choice: str, tied: bool) -> tuple[Path, str, list[str], str]:
        """The file of a folder that holds the embedding, and its kind; the embedding's name and those of all tensors
        where an index says them."""
        if self._read(folder) == self.single:
            return folders.inside(folder, folder / self.single), "", [], "transformers folder"
        shards = folders.shards(folder, self.index)
        if folder.resolve().parent.name != "snapshots":  # of a hub model only the shard that is needed is fetched
            folders.present(folder, shards, self.index)
        name = folders.embedding_name(folder / self.index, list(shards), choice, tied)
        folders.present(folder, {name: shards[name]})
        return shards[name], name, list(shards), f"transformers folder, {len(set(shards.values()))} shards"


def _embedding(file: Path, name: str, choice: str, tied: bool) -> tuple[str, Matrix, str, list[str]]:
    """By the file's own ending, not by its index's: an index may name files of the other format."""
    if file.suffix != ".safetensors":
        return torch_file.embedding(file, name, choice, tied)
    tensor, there = safetensors_file.embedding(file, name, choice, tied)
    if matrix := scaled.embedding(file, tensor, there):
        return tensor.name, matrix, matrix.storage, list(there)
    return tensor.name, safetensors_file.matrix(file, tensor), tensor.stored, list(there)

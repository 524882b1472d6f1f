"""An opened checkpoint: what every reader returns, and what the rest of the program works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ks_core.checkpoints import folders, hashes
from ks_core.checkpoints.adapted.sums import LowRankMatrix
from ks_core.checkpoints.matrices import Matrix, OverlaidMatrix
from ks_core.checkpoints.vocabulary import Vocabulary
from ks_core.errors import CheckpointError, visible


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. One without a single row cannot be made: that raises ``CheckpointError``.

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
    #: What a person should know of how it was read, in sentences.
    notes: tuple[str, ...] = ()
    #: For an adapter that changes no row of the embedding: what it tunes, in a few words.
    elsewhere: str = ""
    #: For an adapter that lies on the base it was given with: which base it names itself.
    instead_of: str = ""

    def __post_init__(self) -> None:
        # It stands in lines of a terminal, in signatures, figures and reports; a folder may be called anything.
        object.__setattr__(self, "label", visible(self.label))
        rows, width = self.shape
        if rows == 0 or width == 0:
            raise CheckpointError(
                f"{self.source} has an embedding of {rows} x {width}: the vocabulary is empty. "
                "Expected at least one row; save the checkpoint again."
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def dtype(self) -> str:
        return self.matrix.dtype

    @property
    def facts(self) -> dict[str, str]:
        """What a signature has to say of how it was opened: fields, mostly none."""
        return {"laid_on": f"the given base, instead of {self.instead_of}"} if self.instead_of else {}

    @cached_property
    def content_hash(self) -> str:
        """Hex SHA-256 of the matrix's content. Where the file lies does not matter.

        Raises ``CheckpointError`` when the file has changed since it was opened.
        """
        if self.base is not None and self.matrix is self.base.matrix:
            return self.base.content_hash
        if self.base is not None and isinstance(self.matrix, OverlaidMatrix | LowRankMatrix):
            under = self.base.content_hash
            if self.matrix.base is not self.base.matrix:  # the adapter brings the matrix that it changes
                under = hashes.of_matrix(self.matrix.base, self.file, f"{self.tensor} below", opened=self.stamp)
            if isinstance(self.matrix, OverlaidMatrix):
                return hashes.combine(under, self.matrix.ids, self.matrix.rows)
            return hashes.combine(under, *self.matrix.parts)
        return hashes.of_matrix(self.matrix, self.file, self.tensor, opened=self.stamp)

    @property
    def is_hashed(self) -> bool:
        """Whether ``content_hash`` is known without reading the matrix: of an adapter, whether its base's is."""
        if "content_hash" in self.__dict__:
            return True
        return self.base.is_hashed if self.base is not None else hashes.remembered(self.stamp, self.tensor)

    def weight_files(self) -> list[Path]:
        """Every safetensors file of it: the one it was opened from, or all shards of the index that led to it. Raises
        ``CheckpointError`` for a shard that is missing."""
        single, index = folders.SAFETENSORS
        if self.path.is_dir() and not folders.has(self.path, single) and folders.has(self.path, index):
            shards = folders.shards(self.path, index)
            folders.present(self.path, shards)
            return sorted(set(shards.values()))
        return [self.file] if self.file and self.file.suffix == ".safetensors" else []

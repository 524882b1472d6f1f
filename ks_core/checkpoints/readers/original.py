"""Models as their makers gave them out: Meta's ``consolidated.00.pth`` and its further parts, Mistral's ``consolidated.safetensors``.

Meta's parts are what each of several GPUs held. Of the embedding every part has some of the columns (Llama 1 and 2) or some of
the rows (Llama 3). Which, and how many parts there have to be, follows from the width of a row, which ``params.json`` says, and
the norms, which every part has whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ks_core.checkpoints import folders, hashes, safetensors_file, torch_file, vocabulary
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import Matrix, StackedMatrix
from ks_core.checkpoints.readers.reader import Onward, Reader, Source
from ks_core.checkpoints.readers.weights import Weights
from ks_core.errors import CheckpointError

PART = re.compile(r"consolidated\.(\d\d)\.(?:pth|pt|safetensors)")
MISTRAL = Weights("safetensors", (), "consolidated.safetensors", "consolidated.safetensors.index.json")
#: Vectors that every part has whole, as long as a row is wide.
NORMS = ("attention_norm.weight", "ffn_norm.weight")


@dataclass(frozen=True)
class JoinedMatrix:
    """Matrices side by side: an embedding whose columns are split over several files. All have the same rows and dtype."""

    parts: tuple[Matrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    @property
    def dtype(self) -> str:
        return self.parts[0].dtype

    def block(self, start: int, stop: int) -> np.ndarray:
        return np.concatenate([part.block(start, stop) for part in self.parts], axis=1)


def is_mine(source: Source) -> bool:
    """Whether it is one of Meta's parts, or a folder with such files and none that transformers saved."""
    path = source.path
    if not path.is_dir():
        return bool(PART.fullmatch(path.name)) and path.is_file()
    saved = any(folders.has(path, name) for pair in folders.INDEXES for name in pair) or folders.lost_link(path)
    return not saved and (MISTRAL.is_mine(source) or bool(_numbered(path)))


def read(source: Source, onward: Onward) -> Checkpoint:
    """The whole embedding, whichever part was named. Raises ``CheckpointError`` where a part is missing, which it names, and
    where nothing says how the parts fit."""
    path = source.path
    if path.is_dir() and MISTRAL.is_mine(source):
        return replace(MISTRAL.read(source, onward), kind="original folder")
    folder = path if path.is_dir() else path.parent
    numbered = _numbered(folder)
    files = [numbered[n] for n in sorted(numbered)]
    _refuse_missing(folder, numbered, max(numbered) + 1)
    stamps = [hashes.stamp(file) for file in files]
    for file in files:
        folders.refuse_empty(file)
    found = [_embedding(file, source.choice) for file in files]
    name, first, stored, names = found[0]
    for file, (other, part, as_stored, _) in zip(files, found, strict=True):
        if (other, part.shape, as_stored) != (name, first.shape, stored):
            raise CheckpointError(
                f"{file} has {other} of {part.shape[0]} x {part.shape[1]} in {as_stored}, {files[0].name} has {name} of "
                f"{first.shape[0]} x {first.shape[1]} in {stored}. Expected equal parts of one model."
            )
    matrix = _joined(folder, numbered, tuple(matrix for _, matrix, _, _ in found))
    one = len(files) == 1
    return Checkpoint(
        source.given, source.label, "original folder" if one else f"original folder, {len(files)} parts", path if one else folder,
        name, stored, matrix, tied=folders.tied(folder, names), vocabulary=vocabulary.find(folder),
        file=files[0] if one else None, stamp=stamps[0] if one else None,
    )  # fmt: skip


def _numbered(folder: Path) -> dict[int, Path]:
    """Meta's parts in a folder by their numbers."""
    named = ((PART.fullmatch(file.name), file) for file in sorted(folder.glob("consolidated.*")))
    return {int(match[1]): folders.inside(folder, file) for match, file in named if match}


def _refuse_missing(folder: Path, numbered: dict[int, Path], count: int) -> None:
    """Raise ``CheckpointError`` unless there are ``count`` parts."""
    some = next(iter(numbered.values()))
    missing = [f"consolidated.{n:02}{some.suffix}" for n in range(count) if n not in numbered]
    if missing:
        raise CheckpointError(
            f"{folder} holds {len(numbered)} of {count} parts of a model, and there is no {folders.listed(missing)}. Each has a part "
            "of every row or some of the rows: put all of them into the folder."
        )


def _embedding(file: Path, choice: str) -> tuple[str, Matrix, str, list[str]]:
    if file.suffix != ".safetensors":
        return torch_file.embedding(file, choice=choice)
    tensor, names = safetensors_file.embedding(file, choice=choice)
    return tensor.name, safetensors_file.matrix(file, tensor), tensor.stored, list(names)


def _joined(folder: Path, numbered: dict[int, Path], parts: tuple[Matrix, ...]) -> Matrix:
    """The whole embedding. Raises ``CheckpointError`` where a part is missing, or nothing says how the parts fit."""
    (rows, width), count = parts[0].shape, len(parts)
    shapes = _shapes(next(iter(numbered.values())))
    said = folders.read_json(folder, "params.json")
    settings = said if isinstance(said, dict) else {}
    dim = _positive(settings.get("dim")) or _width(shapes)
    if dim is None:
        if count == 1:
            return parts[0]
        output = next((s for n, s in shapes.items() if n.endswith("output.weight") and len(s) == 2), (0, 0))
        dim = output[1] if output[1] in (width, width * count) else None
    if dim is None:
        raise CheckpointError(
            f"{folder} holds {count} parts, and nothing says whether each has some of the rows or a part of every row. Put the "
            "params.json of the model beside them."
        )
    if width == dim:
        # Llama 3: rows are split. So are the projections, which tells of further parts.
        heads, each = (_positive(settings.get(name)) for name in ("n_heads", "head_dim"))
        whole = heads * each if heads and each else dim
        queries = next((s[0] for n, s in shapes.items() if n.endswith("attention.wq.weight") and s), 0)
        split = whole // queries if queries and whole % queries == 0 else 1
        tokens = _positive(settings.get("vocab_size")) or 0
        _refuse_missing(folder, numbered, max(count, split, -(-tokens // rows) if rows else 0))
        return parts[0] if count == 1 or rows == tokens else StackedMatrix(parts)
    if width and dim % width == 0:
        _refuse_missing(folder, numbered, dim // width)
    if width * count != dim:
        raise CheckpointError(
            f"{folder} holds {count} parts with {width} values of a row each, and a row should have {dim}. They are of different models."
        )
    return JoinedMatrix(parts)


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix != ".safetensors":
        return torch_file.shapes(file)
    return {name: tensor.shape for name, tensor in safetensors_file.tensors(file).items()}


def _width(shapes: dict[str, tuple[int, ...]]) -> int | None:
    """How wide a row is, as the norms say it."""
    return next((s[0] for n, s in shapes.items() if len(s) == 1 and (n == "norm.weight" or n.endswith(NORMS))), None)


def _positive(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


READER = Reader(
    "original", "Original", "A folder with consolidated.00.pth and its parts, or consolidated.safetensors; or any of the parts.",
    is_mine=is_mine, read=read,
)  # fmt: skip

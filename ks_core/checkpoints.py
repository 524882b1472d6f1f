"""Opening a checkpoint: whatever it is, out comes its embedding matrix, its vocabulary and a content hash.

    folder          saved by transformers: one or many safetensors shards, or PyTorch .bin
    file            .safetensors, .gguf, .bin or .pt
    adapter         a peft adapter (or a ticket) on a base; ``base=`` names another base than it does
    hub id          org/name or org/name@revision
    demo name       demo:base, demo:en-fr

Only the embedding is read, through a memory map; the rest of the model stays on disk. Nothing a checkpoint
brings is run: PyTorch files are read with ``weights_only=True``, and no path in an index may leave its folder.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ks_core import adapters, hashes, safetensors_file, vocabulary
from ks_core.errors import CheckpointError
from ks_core.matrices import ArrayMatrix, Matrix
from ks_core.vocabulary import Vocabulary

#: How input embeddings are called, by the end of the tensor's name. The first that fits is taken.
EMBEDDING_NAMES = (
    "model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight", "wte.weight",
    "gpt_neox.embed_in.weight", "embeddings.word_embeddings.weight", "transformer.word_embeddings.weight",
    "word_embeddings.weight", "tok_embeddings.weight", "backbone.embeddings.weight", "shared.weight",
    "token_embd.weight",
)  # fmt: skip
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
INDEXES = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    ``source`` as it was given; ``label`` short, ``kind`` in words, for people; ``path`` the file or folder;
    ``tensor`` the embedding's name there and ``stored`` its format; ``matrix`` (V, d); ``tied`` whether the
    output layer is the same matrix (None: not known); ``base`` and ``changed_ids`` (int64) for an adapter.
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
    #: The file that the matrix is mapped from; with its stamp the hash is remembered.
    file: Path | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def dtype(self) -> str:
        return self.matrix.dtype

    @cached_property
    def content_hash(self) -> str:
        """Hex SHA-256 of the matrix's content. Where the file lies does not matter."""
        if self.base is not None and isinstance(self.matrix, adapters.OverlaidMatrix):
            return hashes.combine(self.base.content_hash, self.matrix.ids, self.matrix.rows)
        if self.base is not None and isinstance(self.matrix, adapters.LowRankMatrix):
            return hashes.combine(self.base.content_hash, self.matrix.left, self.matrix.right * self.matrix.scaling)
        return hashes.of_matrix(self.matrix, self.file, self.tensor)


def open_checkpoint(source: str, *, base: str | None = None) -> Checkpoint:
    """Open a source. ``base`` names the base of an adapter when it is not the one the adapter names.

    Raises ``CheckpointError`` with one sentence for everything that can be wrong with it.
    """
    source = source.strip()
    if not source:
        raise CheckpointError("No checkpoint is named. Expected a folder, a file, a hub id, or demo:base.")
    try:
        return _open(source, base, depth=0)
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}.") from None


def weight_files(checkpoint: Checkpoint) -> list[Path]:
    """Every safetensors file of a checkpoint: the one it was opened from, or all shards of its index."""
    index = checkpoint.path / INDEXES[0][1]
    if checkpoint.path.is_dir() and index.is_file():
        return sorted(set(_shards(checkpoint.path, index.name).values()))
    return [checkpoint.file] if checkpoint.file else []


def _open(source: str, base: str | None, depth: int) -> Checkpoint:
    if depth > 4:
        raise CheckpointError(f"{source} is an adapter on an adapter on an adapter … Merge them first.")
    if source == "demo" or source.startswith("demo:"):
        from ks_core import demo

        path, label = Path(demo.resolve(source)), source
    else:
        path = Path(source).expanduser()
        label = path.name or source
        if not path.exists():
            if HUB_ID.fullmatch(source) and not source.startswith((".", "/")):
                from ks_core.hub import download

                path, label = download(source), source
            else:
                raise CheckpointError(
                    f"{source} does not exist. Expected a folder, a file, a hub id such as org/name, "
                    "or demo:base; check the spelling."
                )
    if path.is_file():
        return _file(source, label, path)
    if adapters.is_adapter(path):
        return _adapter(source, label, path, base, depth)
    return _folder(source, label, path)


def _file(source: str, label: str, path: Path) -> Checkpoint:
    words = vocabulary.find(path.parent)
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes). Download or save it again.")
    if path.suffix == ".safetensors":
        found = safetensors_file.tensors(path)
        name = _embedding_name(path, list(found))
        matrix: Matrix = safetensors_file.matrix(path, found[name])
        return _checked(
            Checkpoint(
                source,
                label,
                "safetensors file",
                path,
                name,
                found[name].stored,
                matrix,
                vocabulary=words,
                file=path,
            )
        )
    if path.suffix == ".gguf":
        from ks_core import gguf_file

        header = gguf_file.open_gguf(path)
        matrix, stored = gguf_file.embedding(header)
        return _checked(
            Checkpoint(
                source,
                label,
                "GGUF file",
                path,
                gguf_file.EMBEDDING,
                stored,
                matrix,
                tied="output.weight" not in header.tensors,
                vocabulary=vocabulary.of_file(path),
                file=path,
            )
        )
    if path.suffix in (".bin", ".pt", ".pth"):
        name, matrix, _names = _torch_matrix(path)
        return _checked(Checkpoint(source, label, "PyTorch file", path, name, matrix.dtype, matrix, vocabulary=words))
    raise CheckpointError(
        f"{path} ends in {path.suffix or 'nothing'}. Expected .safetensors, .gguf, .bin or .pt, "
        "or a folder that transformers saved."
    )


def _folder(source: str, label: str, path: Path) -> Checkpoint:
    words = vocabulary.find(path)
    for single, index in INDEXES:
        if (path / index).is_file():
            shards = _shards(path, index)
            name = _embedding_name(path / index, list(shards))
            file = shards[name]
            names = list(shards)
        elif (path / single).is_file():
            file = path / single
            name, names = "", []
        else:
            continue
        if file.suffix == ".safetensors":
            found = safetensors_file.tensors(file)
            names = names or list(found)
            name = name or _embedding_name(file, names)
            if name not in found:
                raise CheckpointError(f"{file} lacks {name}, which the index places there. Download it again.")
            matrix: Matrix = safetensors_file.matrix(file, found[name])
            stored = found[name].stored
            kept: Path | None = file
        else:
            name, matrix, here = _torch_matrix(file, name)
            stored, kept, names = matrix.dtype, None, names or here
        kind = (
            f"transformers folder, {len(set(shards.values()))} shards"
            if (path / index).is_file()
            else "transformers folder"
        )
        return _checked(
            Checkpoint(
                source,
                label,
                kind,
                path,
                name,
                stored,
                matrix,
                tied=_tied(path, names),
                vocabulary=words,
                file=kept,
            )
        )
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return _file(source, label, ggufs[0])
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
    raise CheckpointError(
        f"{path} holds no checkpoint (there is: {inside}). Expected model.safetensors, its index and "
        "shards, pytorch_model.bin, one .gguf, or a peft adapter."
    )


def _adapter(source: str, label: str, path: Path, base: str | None, depth: int) -> Checkpoint:
    below = base or adapters.base_of(path)
    try:
        under = _open(below, None, depth + 1)
    except CheckpointError as error:
        raise CheckpointError(f"{label} is an adapter on {below}, which could not be opened. {error}") from None
    matrix, changed = adapters.lay_over(path, under.matrix)
    return Checkpoint(
        source,
        label,
        f"peft adapter on {under.label}",
        path,
        under.tensor,
        "F32",
        matrix,
        tied=under.tied,
        base=under,
        changed_ids=changed,
        vocabulary=under.vocabulary,
    )


def _shards(folder: Path, index: str) -> dict[str, Path]:
    """The file of every tensor that an index names; each has to lie in the folder and be there."""
    try:
        table = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
        names = {str(tensor): str(file) for tensor, file in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{folder / index} is no index of shards. Download it again.") from None
    files = {}
    for file in set(names.values()):
        # A bare name cannot leave the folder; a link is followed, as the hub's own cache is made of links.
        if Path(file).name != file or file in ("", ".", ".."):
            raise CheckpointError(
                f"{folder / index} points to {file!r}, outside its folder. It is damaged or made to "
                "deceive; do not use it."
            )
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder} lacks the shard {file} that its index names. Download it again.")
        files[file] = _inside(folder, folder / file)
    return {tensor: files[file] for tensor, file in names.items()}


def _inside(folder: Path, file: Path) -> Path:
    """The file, when it or what it links to lies in the folder or in the hub cache that the folder is part of."""
    real, home = file.resolve(), folder.resolve()
    roots = [home]
    if home.parent.name == "snapshots":
        roots.append(home.parent.parent / "blobs")
    if not any(real.is_relative_to(root) for root in roots):
        raise CheckpointError(f"{file} is a link that leads out of its folder. Copy the file there instead.")
    return file


def _embedding_name(where: Path, names: list[str]) -> str:
    for ending in EMBEDDING_NAMES:
        fitting = [n for n in names if n == ending or n.endswith("." + ending)]
        # A multimodal model may also have a vision tower with embeddings; the language model's are meant.
        fitting = [n for n in fitting if "vision" not in n] or fitting
        if len(fitting) == 1:
            return fitting[0]
        if len(fitting) > 1:
            raise CheckpointError(
                f"{where} has several embeddings: {', '.join(fitting[:4])}. Expected one; save the "
                "language model by itself."
            )
    similar = [n for n in names if "emb" in n.lower()] or names
    raise CheckpointError(
        f"{where} holds no input embedding under a known name (there is: "
        f"{', '.join(similar[:4]) or 'no tensor'}). Expected a name such as model.embed_tokens.weight."
    )


def _tied(folder: Path, names: list[str]) -> bool | None:
    """Whether input and output share a matrix: said by the config, and contradicted by a stored output layer."""
    if any(n.endswith(("lm_head.weight", "embed_out.weight", "output.weight")) for n in names):
        return False
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    found = said.get("tie_word_embeddings") if isinstance(said, dict) else None
    return found if isinstance(found, bool) else (True if names else None)


def _torch_matrix(path: Path, name: str = "") -> tuple[str, Matrix, list[str]]:
    """The embedding of a PyTorch file, read so that nothing in it is run."""
    import torch

    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds here, and each means that the file is not to be read
        if "nsupported" in str(error) or "Weights only" in str(error):
            raise CheckpointError(
                f"{path} contains more than weights, and loading it could run code. Expected a file "
                "of tensors only; save it as safetensors."
            ) from None
        raise CheckpointError(
            f"{path} is no PyTorch file that can be read ({type(error).__name__}). Save it as safetensors."
        ) from None
    while (
        isinstance(state, dict)
        and set(state) & {"state_dict", "model"}
        and isinstance(state.get("state_dict", state.get("model")), dict)
    ):
        state = state.get("state_dict", state.get("model"))
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no table of tensors. Expected a state dict; save it as safetensors.")
    names = [n for n, value in state.items() if isinstance(n, str) and isinstance(value, torch.Tensor)]
    name = name or _embedding_name(path, names)
    tensor = state.get(name)
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 2 or not tensor.is_floating_point():
        raise CheckpointError(f"{path} has no two-dimensional float tensor {name}. Save it again.")
    if tensor.dtype == torch.bfloat16:
        return (
            name,
            ArrayMatrix(tensor.contiguous().view(torch.int16).numpy().view(np.uint16), "bfloat16"),
            names,
        )
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        raise CheckpointError(f"{name} in {path} is stored as {tensor.dtype}. Convert the checkpoint to a float type.")
    return name, ArrayMatrix(tensor.contiguous().numpy()), names


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    rows, width = checkpoint.shape
    if rows == 0 or width == 0:
        raise CheckpointError(
            f"{checkpoint.source} has an embedding of {rows} x {width}: the vocabulary is empty. "
            "Expected at least one row; save the checkpoint again."
        )
    return checkpoint

"""What may be read in a checkpoint's folder: its links, its JSON files, its index of shards, its embedding's name.

Folders come from strangers. A link must not lead out of the folder, or opening a checkpoint would show any
file of the machine; a file that is read whole must have a bound; a shard is a bare file name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ks_core.errors import CheckpointError
from ks_core.jobs import bounded
from ks_core.store import door

#: How input embeddings are called, by the end of the tensor's name. The first that fits is taken; ``shared``
#: stands first because an encoder-decoder may store it again under the names of its two halves.
EMBEDDING_NAMES = (
    "shared.weight", "model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight", "wte.weight",
    "gpt_neox.embed_in.weight", "embeddings.word_embeddings.weight", "transformer.word_embeddings.weight",
    "word_embeddings.weight", "word_embedding.weight", "tok_embeddings.weight", "tokens_embed.weight",
    "backbone.embeddings.weight", "backbone.embedding.weight", "rwkv.embeddings.weight", "token_embd.weight",
)  # fmt: skip
#: Parts of a multimodal model that have embeddings too; the language model's are meant.
OTHER_TOWERS = ("vision", "visual", "audio")
#: How transformers calls a file of weights, and the index that stands in its place when there are several.
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PYTORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")
#: The same in the order in which they are looked for.
INDEXES = (SAFETENSORS, PYTORCH)
#: Files that an index may name. The largest checkpoints in use have 200.
MOST_SHARDS = 10_000


def inside(folder: Path, file: Path) -> Path:
    """The file, when it or what it links to lies in the folder or in the hub cache that the folder is part of.

    Raises ``CheckpointError`` for a link that leads elsewhere, whether there is anything or not.
    """
    if not _stays(folder, file):
        raise CheckpointError(f"{file} is a link that leads out of its folder. Copy the file there instead.")
    return file


def _stays(folder: Path, file: Path) -> bool:
    try:
        real, home = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    except ValueError:  # a zero, or half a character: there is no such file
        return True
    roots = [home]
    if home.parent.name == "snapshots":  # the hub's cache: each file of a snapshot is a link to a blob
        roots.append(home.parent.parent / "blobs")
    return any(real.is_relative_to(root) for root in roots)


def has(folder: Path, name: str) -> bool:
    """Whether a folder holds a file of this name.

    A link that leads out of the folder counts as one, and nobody looks where it leads: ``inside`` refuses it when the file
    is to be read. So the answer says nothing of what lies outside.
    """
    return (folder / name).is_file() if _stays(folder, folder / name) else True


def read_json(folder: Path, name: str) -> Any:
    """The content of a JSON file in a folder; ``None`` when there is no such file.

    Raises ``CheckpointError`` when it is too large, no JSON, or a link out of the folder; ``AccessError`` for a folder
    that is not to be opened.
    """
    door.end(folder)
    if not has(folder, name):
        return None
    return bounded.read_json(inside(folder, folder / name), CheckpointError)


def shards(folder: Path, index: str) -> dict[str, Path]:
    """The file of every tensor that an index names: tensor -> path in the folder, which may be missing.

    Raises ``CheckpointError`` for a file that is no index, and for one that points out of the folder.
    """
    table = read_json(folder, index)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise CheckpointError(f"{folder / index} is no index of shards. Download it again.")
    files = {}
    if len(set(names.values())) > MOST_SHARDS:
        raise CheckpointError(
            f"{folder / index} names {len(set(names.values())):,} files. Expected at most {MOST_SHARDS:,}: it is damaged."
        )
    for file in set(names.values()):
        # A bare name cannot leave the folder, whatever the system's separators are.
        if Path(file).name != file or file in ("", ".", "..") or "\\" in file or not file.isprintable():
            raise CheckpointError(
                f"{folder / index} points to {listed([file])!r}, outside its folder. It is damaged or made to "
                "deceive; do not use it."
            )
        files[file] = inside(folder, folder / file)
    return {tensor: files[file] for tensor, file in names.items()}


def lost_link(folder: Path) -> Path | None:
    """A link that stands where transformers puts weights and leads to no file; ``None`` when there is none."""
    places = [folder / name for pair in INDEXES for name in pair]
    return next((place for place in places if place.is_symlink() and not place.is_file()), None)


def refuse_empty(file: Path) -> None:
    """Raises ``CheckpointError`` for a file of no bytes, which is what a download that failed leaves behind."""
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file} is empty (0 bytes). Download or save it again.")


def present(folder: Path, files: dict[str, Path]) -> None:
    """Check that every shard is there. Raises ``CheckpointError`` naming the first that is not."""
    for file in sorted(set(files.values())):
        if not file.is_file():
            raise CheckpointError(f"{folder} lacks the shard {file.name} that its index names. Download it again.")


def embedding_name(where: Path, names: list[str]) -> str:
    """The one name among a checkpoint's tensors that is its input embedding.

    >>> embedding_name(Path("m"), ["lm_head.weight", "model.embed_tokens.weight"])
    'model.embed_tokens.weight'

    Raises ``CheckpointError``, which lists the candidates, when there is none or more than one.
    """
    for ending in EMBEDDING_NAMES:
        fitting = [n for n in names if n == ending or n.endswith("." + ending)]
        fitting = [n for n in fitting if not any(tower in n for tower in OTHER_TOWERS)] or fitting
        if len(fitting) == 1:
            return fitting[0]
        if len(fitting) > 1:
            raise CheckpointError(
                f"{where} has several embeddings: {listed(fitting)}. Expected one; save the language model by itself."
            )
    similar = [n for n in names if "emb" in n.lower()] or names
    raise CheckpointError(
        f"{where} holds no input embedding under a known name (there is: {listed(similar) or 'no tensor'}). "
        "Expected a name such as model.embed_tokens.weight."
    )


def listed(names: list[str], most: int = 4) -> str:
    """The first names, each cut where it gets long.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, and 1 more'
    """
    more = f", and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(n if len(n) <= 80 else n[:79] + "…" for n in names[:most]) + more


def tied(folder: Path, names: list[str]) -> bool | None:
    """Whether input and output share a matrix: a stored output layer says no, else the config says.

    ``names`` are all tensors of the checkpoint. ``None`` when nothing says it.
    """
    if any(n.endswith(("lm_head.weight", "embed_out.weight", "output.weight")) for n in names):
        return False
    try:
        said = read_json(folder, "config.json")
    except CheckpointError:
        return None  # the rows can be compared all the same
    if not isinstance(said, dict):
        return None
    found = said.get("tie_word_embeddings")
    # transformers leaves the setting out where it is the default, and then no output layer is stored.
    return found if isinstance(found, bool) else True

"""What may be read in a checkpoint's folder: its links, its JSON files, its index of shards, its embedding's name.

Folders come from strangers. A link must not lead out of the folder, or opening a checkpoint would show any
file of the machine; a file that is read whole must have a bound; a shard is a bare file name.
"""

from __future__ import annotations

import os
import re
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
    "embed_in.weight", "input_embedding.weight", "token_embedding.weight", "transformer.w.weight", "embeddings.weight", "embedding.weight", "embed.weight",
    "emb.weight",
)  # fmt: skip
#: The same, of names that say so little that they count only as they stand: CTRL without its head, model2vec.
BARE_NAMES = ("w.weight", "embeddings")
#: What stands in names of embeddings that are not of tokens.
OF_PLACES = ("pos", "type", "segment", "norm", "rot", "lang")
#: How output layers are called, by the end of the name.
HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
#: What peft puts into a name while an adapter is not merged.
_AROUND = re.compile(r"\.(?:token_adapter\.base_layer|base_layer|modules_to_save\.\w+)(?=\.weight$)")
#: What it puts beside an embedding that it changes.
_OVER = ("lora_embedding_A", "lora_embedding_B", "trainable_tokens_delta")
#: Parts of a multimodal model that have embeddings too; the language model's are meant.
OTHER_TOWERS = ("vision", "visual", "audio")
#: How transformers calls a file of weights, and the index that stands in its place when there are several.
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PYTORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")
#: The same in the order in which transformers looks for them: of each the single file first, so that an index which an earlier
#: saving left beside it counts for nothing.
INDEXES = (SAFETENSORS, PYTORCH)
#: How peft calls an adapter's weights.
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
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
    """Whether a path leads to nothing outside the folder, and the cache that it is part of."""
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


def unread(folder: Path, read: str) -> tuple[str, ...]:
    """A sentence on the weights in a folder that were not read beside ``read``; nothing where there are no others.

    Only names are looked at: an index of shards, weights in another format.
    """
    names = other_weights(folder, read)
    if not names:
        return ()
    return (f"{folder.name or folder} holds {read} and also {listed(names)}: {read} was read, as transformers does.",)


def other_weights(folder: Path, read: str) -> list[str]:
    """The names in a folder under which there are weights beside ``read``."""
    names = [name for pair in (ADAPTER, *INDEXES) for name in pair if name != read and has(folder, name)]
    return names + sorted(file.name for file in folder.glob("*.gguf") if file.name != read)


def refuse_empty(file: Path) -> None:
    """Raises ``CheckpointError`` for a file of no bytes, which is what a download that failed leaves behind."""
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file} is empty (0 bytes). Download or save it again.")


def present(folder: Path, files: dict[str, Path], index: str = "") -> None:
    """Check that every shard is there. Raises ``CheckpointError`` naming the first that is not, and what there is beside the
    ``index``."""
    for file in sorted(set(files.values())):
        if not file.is_file():
            others = other_weights(folder, index)
            instead = f", or open {listed(others)} by its own path" if others else ""
            raise CheckpointError(
                f"{folder} lacks the shard {file.name} that its index names. Download it again{instead}."
            )


def embedding_name(where: Path, names: list[str], choice: str = "", tied: bool = False) -> str:
    """The one name among a checkpoint's tensors that is its input embedding.

    >>> embedding_name(Path("m"), ["lm_head.weight", "model.embed_tokens.weight"])
    'model.embed_tokens.weight'
    >>> embedding_name(Path("m"), ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"], "decoder")
    'decoder.embed_tokens.weight'

    ``choice`` is the whole name of a tensor, or a part between dots of the name of one of several embeddings. ``tied`` says
    that the output layer is the same matrix, which then may be all that is stored. Raises ``CheckpointError``, which lists the
    candidates and what chooses them, when there is none or more than one.
    """
    if choice in names:
        return choice
    fitting = _candidates(names, choice)
    if len(fitting) == 1:
        return _merged(where, fitting[0], names)
    if fitting:
        raise CheckpointError(
            f"{where} has several embeddings: {listed(fitting)}. Expected one: put "
            f"{' or '.join('::' + part for part in _choices(fitting)[:4])} behind what you gave to choose one."
        )
    if choice:
        there = _candidates(names) or [n for n in names if "emb" in n.lower()] or names
        raise CheckpointError(
            f"{where} has no embedding {listed([choice])!r} (there is: {listed(there) or 'no tensor'}). Expected the name of a "
            "tensor behind the two colons, or a part of it that no other has."
        )
    heads = [n for n in names if n.endswith(HEADS[:2])]
    similar = [n for n in names if "emb" in n.lower()]
    if tied and len(heads) == 1 and all(any(word in n.lower() for word in OF_PLACES) for n in similar):
        return heads[0]
    similar = similar or heads or names
    remedy = (
        "If the two are one matrix, put config.json with tie_word_embeddings beside it."
        if heads
        else "To take another tensor, put :: and its name behind what you gave."
    )
    raise CheckpointError(
        f"{where} holds no input embedding under a known name (there is: {listed(similar) or 'no tensor'}). "
        f"Expected a name such as model.embed_tokens.weight. {remedy}"
    )


def _candidates(names: list[str], choice: str = "") -> list[str]:
    """The names that an input embedding has: those that fit the first ending which any fits."""
    plain = {n: _AROUND.sub("", n) for n in names}
    for ending in (*EMBEDDING_NAMES, *BARE_NAMES):
        fitting = [
            n for n, p in plain.items() if p == ending or (p.endswith("." + ending) and ending not in BARE_NAMES)
        ]
        if choice:
            fitting = [n for n in fitting if choice in n.split(".")]
        else:
            fitting = [n for n in fitting if not any(tower in n for tower in OTHER_TOWERS)] or fitting
        if fitting:
            return fitting
    return []


def _choices(fitting: list[str]) -> list[str]:
    """For each name the first part that no other has, or all of it.

    >>> _choices(["model.encoder.embed.weight", "model.decoder.embed.weight"])
    ['encoder', 'decoder']
    """
    parts = [n.split(".") for n in fitting]
    others = [{p for j, other in enumerate(parts) if j != i for p in other} for i in range(len(parts))]
    return [next((p for p in mine if p not in others[i]), fitting[i]) for i, mine in enumerate(parts)]


def _merged(where: Path, name: str, names: list[str]) -> str:
    """The name, unless an adapter that is not merged changes what it names: in the file stands how, and not how much."""
    stem = name.removesuffix("base_layer.weight")
    over = [n for n in names if stem != name and n.startswith(stem) and any(o in n for o in _OVER)]
    if over:
        raise CheckpointError(
            f"{where} holds an embedding and an adapter's change of it that is not merged ({listed(over)}). Expected the sum: "
            "call merge_and_unload in peft and save it again, or save the adapter by itself with save_pretrained."
        )
    return name


def no_matrix(where: object, name: str, shape: tuple[int, ...]) -> CheckpointError:
    """What is said of a tensor that is no table of rows. ZeRO-3 leaves empty ones where it saved its parts elsewhere."""
    if shape == (0,):
        return CheckpointError(
            f"{name} in {where} is empty: DeepSpeed ZeRO-3 saved it without gathering, and the values lie in its own files. Run "
            "the zero_to_fp32.py that lies beside them, or train with stage3_gather_16bit_weights_on_model_save."
        )
    return CheckpointError(
        f"{name} in {where} has the shape {list(shape)}. An embedding has two dimensions, (tokens, values)."
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
    if any(n.endswith(HEADS) for n in names):
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


def says_tied(folder: Path) -> bool:
    """Whether a folder's settings say outright that input and output share a matrix."""
    try:
        said = read_json(folder, "config.json")
    except CheckpointError:
        return False
    inner = said.get("text_config") if isinstance(said, dict) else None
    return any(isinstance(one, dict) and one.get("tie_word_embeddings") is True for one in (said, inner))


def folders_in(folder: Path, most: int = 500) -> list[Path]:
    """The folders in a folder by their names, but for links that lead out of it and those whose name begins with a dot."""
    door.end(folder)
    found = sorted(p for p in folder.iterdir() if not p.name.startswith("."))[:most]
    return [p for p in found if _stays(folder, p) and p.is_dir()]

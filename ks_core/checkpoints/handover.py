"""What is handed on to transformers and peft, which open whatever a folder holds or names.

They follow links, open the shards that an index names and the files that a setting names, and lay an adapter over a model
that lies beside it. So all of that is looked at before they get the folder. Between this look and theirs whoever may write
there could still exchange a file: a server's roots should be folders that its visitors do not write to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ks_core.checkpoints import adapters, folders, torch_file
from ks_core.errors import CheckpointError
from ks_core.store import door

#: How files end that the libraries open by their names or by a listing, weights aside.
READ = (".json", ".jsonl", ".jinja", ".txt", ".model", ".tiktoken", ".bpe", ".spm", ".vocab", ".py")
#: Where transformers looks for further templates of a chat.
TEMPLATES = "additional_chat_templates"
#: Settings that name files which are opened, by the end of their names. Others only say where something once lay.
MODEL = {"config.json": ("transformers_weights",), "tokenizer_config.json": ("_file", "_files")}
ADAPTER = ("_file", "_path", "megatron_config")
#: Of these the ones that nothing opens any more; old savings left the path of another machine in them.
NOT_OPENED = ("base_model_name_or_path", "special_tokens_map_file", "tokenizer_file")


def check_model(path: Path) -> Path:
    """The folder of a model: the path itself, or where the file lies. All that a library would open in it was looked at.

    Raises ``CheckpointError`` for a link, a shard or a setting that leads out of the folder, and for an adapter beside the
    model, which transformers would lay over it unasked, and for a PyTorch file that asks for more than its tensors;
    ``AccessError`` outside a server's roots.
    """
    folder = path if path.is_dir() else path.parent
    _check_links(folder)
    if adapters.is_adapter(folder):
        raise CheckpointError(
            f"{folder} holds an adapter beside the model ({adapters.CONFIG}), which would be laid over it unasked. Move one of "
            "the two to another folder."
        )
    named = [
        name
        for file, endings in MODEL.items()
        for key, value in _settings(folder, file, endings)
        for name in _bare(folder / file, key, value)
    ]
    shards: set[Path] = set()
    for name in {*(index for _, index in folders.INDEXES), *(n for n in named if n.endswith(".index.json"))}:
        if folders.has(folder, name):
            shards |= set(folders.shards(folder, name).values())
    if not any(folders.has(folder, name) for name in folders.SAFETENSORS):
        shards.add(folder / folders.PYTORCH[0])
    for file in sorted(shards):
        if file.suffix != ".safetensors" and file.is_file():  # torch would make room for whatever a pickle asks
            torch_file.check(file)
    return folder


def check_adapter(folder: Path) -> Path:
    """The folder of an adapter, all that peft would open in it looked at.

    Raises ``CheckpointError`` for a link that leads out of the folder, and for a setting that names anything else to be
    opened or imported; ``AccessError`` outside a server's roots.
    """
    _check_links(folder)
    for key, value in _settings(folder, adapters.CONFIG, ADAPTER):
        raise CheckpointError(
            f"{folder / adapters.CONFIG} has {folders.listed([key])} = {folders.listed([str(value)])!r}, for which peft would open "
            "or import what it names. Remove the setting, or merge the adapter where it was trained."
        )
    return folder


def _check_links(folder: Path) -> None:
    """Raise ``CheckpointError`` for a file that a library reads and to which a link leads from elsewhere."""
    door.end(folder)
    weights = {name for pair in folders.INDEXES for name in pair} | {adapters.WEIGHTS, "adapter_model.bin"}
    for name in _names(folder):
        if name.endswith(READ) or name in weights:
            door.end(folders.inside(folder, folder / name))
    templates = folders.inside(folder, folder / TEMPLATES)
    if templates.is_dir():
        for name in _names(templates):
            folders.inside(folder, templates / name)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}. Check its permissions.") from None


def _bare(file: Path, key: str, value: Any) -> list[str]:
    """The files that a setting names, beside the file that it stands in. Raises ``CheckpointError`` for one that is elsewhere."""
    names = [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
    for name in names:
        if Path(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise CheckpointError(
                f"{file} names {folders.listed([name])!r} as {folders.listed([key])}, outside its folder. Put the file beside it and "
                "name it alone, or remove the setting."
            )
        folders.inside(file.parent, file.parent / name)
    return names


def _settings(folder: Path, file: str, endings: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every setting of a JSON file whose name ends so and that says something, at any depth."""
    waiting = [folders.read_json(folder, file)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if not isinstance(one, dict):
            continue
        for key, value in one.items():
            if value and key.endswith(endings) and key not in NOT_OPENED:
                yield key, value
            else:
                waiting.append(value)

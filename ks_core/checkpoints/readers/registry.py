"""The list of readers, and the one walk through it.

Readers are tried in this order: first those that find where a source lies, then those of what may lie there. A new format is a
file beside these and its line at the end; a new kind of name stands before ``local_path``, which takes whatever is not found
yet. Where none knows a folder, the one checkpoint in it is meant (``nearby``).
"""

from __future__ import annotations

from pathlib import Path

from ks_core.checkpoints import folders
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import check_shape
from ks_core.checkpoints.readers import (
    adapter,
    demo_name,
    gguf,
    hub_id,
    local_path,
    lone_file,
    nearby,
    original,
    pytorch,
    safetensors,
)
from ks_core.checkpoints.readers.reader import Source
from ks_core.errors import CheckpointError
from ks_core.registry import Registry
from ks_core.store import access, door

READERS = Registry("reader", [
    demo_name.READER,
    hub_id.READER,
    local_path.READER,
    adapter.READER,
    original.READER,
    safetensors.READER,
    pytorch.READER,
    gguf.READER,
    lone_file.READER,
], error=CheckpointError)  # fmt: skip
#: Files that stand for the folder in which they lie.
STANDING = ("config.json", "adapter_config.json", *(index for _, index in folders.INDEXES))


def read(source: Source) -> Checkpoint:
    """Have the first reader that knows a source open it; what it leads to comes here again.

    Raises ``CheckpointError`` for a source that no reader knows, ``AccessError`` for one that a read-only server does not
    show, whatever named it, and whatever the reader raises.
    """
    if not source.found:
        access.check_source(source.given)
    for reader in READERS.values():
        if reader.is_mine(source):
            found = reader.read(source, read)
            check_shape(found.label, *found.shape)
            return found
    path = source.path
    if path.is_file() and path.name in STANDING and door.allows(path.parent) and _knows(path.parent):
        return read(source.at(path.parent, path.absolute().parent.name))
    if path.is_dir() and not folders.lost_link(path):
        below = nearby.below(path, _knows)
        if len(below) == 1:
            return read(source.at(below[0], nearby.label(path, below[0])))
        if below:
            raise nearby.several(path, below)
    raise _unknown(source)


def _knows(folder: Path) -> bool:
    """Whether a folder is a checkpoint for any reader."""
    return any(reader.is_mine(Source(str(folder)).at(folder, folder.name)) for reader in READERS.values())


def _unknown(source: Source) -> CheckpointError:
    """What is to be said of a place in which no reader finds its own."""
    path = source.path
    if not path.is_file() and not path.is_dir():
        return CheckpointError(f"{source.name} is neither a file nor a folder. Expected a checkpoint.")
    if said := nearby.parts(path):
        return CheckpointError(said)
    if path.is_file():
        folders.refuse_empty(path)
        return CheckpointError(
            f"{path} ends in {path.suffix or 'nothing'}. Expected .safetensors, .gguf, .bin or .pt, "
            f"or a folder that transformers saved.{nearby.above(path, _knows)}"
        )
    if lost := folders.lost_link(path):
        return CheckpointError(f"{lost} is a link to nothing, or to itself. Put the file itself there.")
    there = folders.listed(sorted(p.name for p in path.iterdir()))
    return CheckpointError(
        f"{path} holds no checkpoint (there is: {there or 'nothing'}). "
        "Expected model.safetensors, its index and shards, pytorch_model.bin, one .gguf, or a peft adapter."
        f"{nearby.above(path, _knows)}"
    )

"""The list of readers, and the one walk through it.

Readers are tried in this order: first those that find where a source lies, then those of what may lie there. A new
format is a file beside these and its line at the end; a new kind of name stands before ``local_path``, which takes
whatever is not found yet.
"""

from __future__ import annotations

from ks_core.checkpoints import folders
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.matrices import check_shape
from ks_core.checkpoints.readers import adapter, demo_name, gguf, hub_id, local_path, pytorch, safetensors
from ks_core.checkpoints.readers.reader import Source
from ks_core.errors import CheckpointError
from ks_core.registry import Registry
from ks_core.store import access

READERS = Registry("reader", [
    demo_name.READER,
    hub_id.READER,
    local_path.READER,
    adapter.READER,
    safetensors.READER,
    pytorch.READER,
    gguf.READER,
], error=CheckpointError)  # fmt: skip


def read(source: Source) -> Checkpoint:
    """Have the first reader that knows a source open it; what it leads to comes here again.

    Raises ``CheckpointError`` for a source that no reader knows, ``AccessError`` for one that a read-only server does not
    show, whatever named it, and whatever the reader raises.
    """
    if not source.found:
        access.check_source(source.name)
    for reader in READERS.values():
        if reader.is_mine(source):
            found = reader.read(source, read)
            check_shape(found.label, *found.shape)
            return found
    raise _unknown(source)


def _unknown(source: Source) -> CheckpointError:
    """What is to be said of a place in which no reader finds its own."""
    path = source.path
    if path.is_file():
        folders.refuse_empty(path)
        return CheckpointError(
            f"{path} ends in {path.suffix or 'nothing'}. Expected .safetensors, .gguf, .bin or .pt, "
            "or a folder that transformers saved."
        )
    if not path.is_dir():
        return CheckpointError(f"{source.name} is neither a file nor a folder. Expected a checkpoint.")
    if lost := folders.lost_link(path):
        return CheckpointError(f"{lost} is a link to nothing, or to itself. Put the file itself there.")
    there = folders.listed(sorted(p.name for p in path.iterdir()))
    return CheckpointError(
        f"{path} holds no checkpoint (there is: {there or 'nothing'}). "
        "Expected model.safetensors, its index and shards, pytorch_model.bin, one .gguf, or a peft adapter."
    )

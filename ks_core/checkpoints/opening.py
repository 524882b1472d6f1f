"""Opening a checkpoint: whatever it is, out comes its embedding matrix, its vocabulary and a content hash.

    folder          saved by transformers: one or many safetensors shards, or PyTorch .bin
    file            .safetensors, .gguf, .bin, .pt, .pth or .ckpt
    parts           of a GGUF or of Meta's consolidated.00.pth: any of them, or their folder
    adapter         a peft adapter (or a ticket) on a base; ``base=`` names another base than it does, ``beside=`` one for
                    where its own is not here
    hub id          org/name or org/name@revision
    demo name       demo:base, demo:en-fr

``::`` and a name behind any of these chooses one of several embeddings (``BASE::encoder``), or any tensor by its name.

For each there is a reader, and the first that knows a source opens it (``readers/registry.py``). Only the embedding is
read, through a memory map; the rest of the model stays on disk. Nothing a checkpoint brings is run, and no link or path
in it may lead out of its folder (see ``folders`` and ``torch_file``).
"""

from __future__ import annotations

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Source
from ks_core.checkpoints.readers.registry import read
from ks_core.errors import CheckpointError


def open_checkpoint(source: str, *, base: str | None = None, beside: str | None = None) -> Checkpoint:
    """Open a source. ``base`` names the base of an adapter when it is not the one the adapter names; ``beside`` the base with
    which it is compared, on which an adapter lies whose own base is not here.

    Raises ``CheckpointError`` with one sentence for everything that can be wrong with it, and ``AccessError`` for what this
    server does not open.
    """
    source = source.strip()
    if not source:
        raise CheckpointError("No checkpoint is named. Expected a folder, a file, a hub id, or demo:base.")
    try:
        return read(Source.of(source, base, beside=(beside or "").strip()))
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else source
        raise CheckpointError(
            f"{named[:300]} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from None

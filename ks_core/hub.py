"""Checkpoints from the Hugging Face hub: only the files that the embedding and its tokenizer need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ks_core.errors import CheckpointError

SMALL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "ticket.json",
)


def download(source: str) -> Path:
    """The local snapshot folder of ``org/name`` or ``org/name@revision``, with the embedding's shard in it.

    Files that are already in the hub's cache are not fetched again. Raises ``CheckpointError`` when the
    repository cannot be had.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    name, _, revision = source.partition("@")
    options: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    try:
        folder = Path(snapshot_download(**options, allow_patterns=list(SMALL)))
        if (folder / "adapter_config.json").is_file():
            return folder
        try:
            index = Path(hf_hub_download(**options, filename="model.safetensors.index.json"))
            table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            from ks_core.checkpoints import _embedding_name

            hf_hub_download(**options, filename=table[_embedding_name(index, list(table))])
        except EntryNotFoundError:
            hf_hub_download(**options, filename="model.safetensors")
        return folder
    except CheckpointError:
        raise
    except Exception as error:  # the library and what it stands on raise dozens of kinds; a person needs one sentence
        raise CheckpointError(
            f"{source} could not be had from the hub ({type(error).__name__}). It is no folder here "
            "either: check the name and the network, or download the checkpoint and name its "
            "folder."
        ) from None

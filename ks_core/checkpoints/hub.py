"""Checkpoints from the Hugging Face hub: only the files that the embedding and its tokenizer need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ks_core.checkpoints import folders
from ks_core.errors import CheckpointError

ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "adapter_config.json", "adapter_model.safetensors", "ticket.json",
)  # fmt: skip
#: What the library's errors mean, by the beginning of their names.
REASONS = {
    "Gated": "its owner asks for an agreement: accept it on the hub and log in",
    "Revision": "there is no such revision",
    "Repository": "there is no such model, or it is private",
    "HFValidation": "this is no name that the hub allows",
    "LocalEntry": "there is no network, or the hub does not answer",
    "Offline": "there is no network, or the hub does not answer",
    "Connect": "there is no network, or the hub does not answer",
}


def is_id(source: str) -> bool:
    """Whether a source reads as ``org/name`` or ``org/name@revision``, and nothing here has that path."""
    return bool(ID.fullmatch(source)) and not Path(source).exists()


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
        for single, index in folders.INDEXES:
            try:
                hf_hub_download(**options, filename=index)
                table = folders.shards(folder, index)
                hf_hub_download(**options, filename=table[folders.embedding_name(folder / index, list(table))].name)
                return folder
            except EntryNotFoundError:
                pass  # not in several shards
            try:
                hf_hub_download(**options, filename=single)
                return folder
            except EntryNotFoundError:
                if single == folders.INDEXES[-1][0]:
                    raise
    except CheckpointError:
        raise
    except Exception as error:
        raise _told(source, error) from None
    raise AssertionError("each way returned or raised")


def download_whole(source: str) -> Path:
    """The snapshot folder with every shard in it, for what needs the whole model. Raises ``CheckpointError``."""
    from huggingface_hub import hf_hub_download

    folder = download(source)
    name, _, revision = source.partition("@")
    index = next((index for _, index in folders.INDEXES if (folder / index).is_file()), None)
    try:
        for shard in sorted({path.name for path in folders.shards(folder, index).values()}) if index else ():
            hf_hub_download(repo_id=name, revision=revision or None, filename=shard)
    except CheckpointError:
        raise
    except Exception as error:
        raise _told(source, error) from None
    return folder


def _told(source: str, error: Exception) -> CheckpointError:
    """The library and what it stands on raise dozens of kinds; a person needs one sentence."""
    kind = type(error).__name__
    reason = next((words for start, words in REASONS.items() if kind.startswith(start)), kind)
    return CheckpointError(
        f"{source} could not be had from the hub ({reason}). It is no folder here either: check the name "
        "and the network, or download the checkpoint and name its folder."
    )

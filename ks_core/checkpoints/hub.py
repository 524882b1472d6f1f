"""Checkpoints from the Hugging Face hub: only the files that the embedding and its tokenizer need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ks_core.checkpoints import folders
from ks_core.errors import CheckpointError
from ks_core.store import access, door
from ks_core.values import REPOSITORY, without_choice

ID = re.compile(rf"{REPOSITORY}(?:@\w(?:[\w./-]*\w)?)?")
#: What would be an id, were its revision not a path: the hub's cache keeps a file for each revision under its name.
_ASTRAY = re.compile(rf"{REPOSITORY}@(?:/.*|.*(?:\.\.|//|/\./).*)", re.DOTALL)
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "adapter_config.json", "adapter_model.safetensors", "ticket.json",
    "spiece.model", "sentencepiece.bpe.model", "spm.model", "tekken.json", "*.tiktoken",
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
    """Whether a source reads as ``org/name`` or ``org/name@revision``, and is not the path of something here that may be
    opened. What lies outside a server's roots has no part in it.

    >>> is_id("org/name@main"), is_id("./name"), is_id("org/name@../x")
    (True, False, False)
    """
    if not ID.fullmatch(source) or leads_astray(source):
        return False
    return not (access.is_inside(Path(source)) and Path(source).exists())


def leads_astray(source: str) -> bool:
    """Whether a source reads as an id whose revision is a path; ``download`` refuses it."""
    return bool(_ASTRAY.fullmatch(source))


def cache() -> Path:
    """Where the hub's library keeps what it fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


door.OWN.append(cache)


def is_here(source: str) -> bool:
    """Whether anything of an id was fetched before, so that it may open without the hub."""
    return (cache() / f"models--{source.partition('@')[0].replace('/', '--')}").is_dir()


def download(source: str, choice: str = "") -> Path:
    """The local snapshot folder of ``org/name`` or ``org/name@revision``, with the embedding's shard in it.

    ``choice`` is that of ``folders.embedding_name``. Files that are already in the hub's cache are not fetched again. Raises ``CheckpointError`` when the
    repository cannot be had, and before anything is looked for where the revision is none.
    """
    if leads_astray(source):
        raise CheckpointError(
            f"{source[:300]} names a revision that cannot be: it holds .., // or a leading /. Expected a branch, a tag or a "
            "commit, as in org/name@main; a path on this machine begins with ./ or /."
        )
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    name, _, revision = source.partition("@")
    options: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    try:
        folder = _snapshot(snapshot_download(**options, allow_patterns=list(SMALL)))
        if folders.has(folder, "adapter_config.json"):
            return folder
        for single, index in folders.INDEXES:
            try:
                hf_hub_download(**options, filename=single)
                return folder
            except EntryNotFoundError:
                pass  # in several shards, or not at all
            try:
                hf_hub_download(**options, filename=index)
                table = folders.shards(folder, index)
                hf_hub_download(
                    **options,
                    filename=table[
                        folders.embedding_name(folder / index, list(table), choice, folders.says_tied(folder))
                    ].name,
                )
                return folder
            except EntryNotFoundError:
                if index == folders.INDEXES[-1][1]:
                    raise
    except CheckpointError:
        raise
    except Exception as error:
        raise _told(source, error) from None
    raise AssertionError("each way returned or raised")


def download_whole(source: str) -> Path:
    """The snapshot folder with every shard in it, for what needs the whole model. Raises ``CheckpointError``."""
    from huggingface_hub import hf_hub_download

    source, choice = without_choice(source)
    folder = download(source, choice)
    name, _, revision = source.partition("@")
    there = [name for pair in folders.INDEXES for name in pair if folders.has(folder, name)]
    index = there[0] if there and there[0].endswith(".json") else None
    try:
        for shard in sorted({path.name for path in folders.shards(folder, index).values()}) if index else ():
            hf_hub_download(repo_id=name, revision=revision or None, filename=shard)
    except CheckpointError:
        raise
    except Exception as error:
        raise _told(source, error) from None
    return folder


def _snapshot(found: str) -> Path:
    """The folder that the library fetched into. Raises ``CheckpointError`` for one that is no snapshot in its cache: which one
    it is stands in a file there, and in what the hub answered."""
    folder = Path(found)
    if folder.parent.name != "snapshots" or not folder.resolve().is_relative_to(cache().resolve()):
        raise CheckpointError(f"The hub's cache at {cache()} is damaged: a revision leads out of it. Remove it.")
    return folder


def _told(source: str, error: Exception) -> CheckpointError:
    """The library and what it stands on raise dozens of kinds; a person needs one sentence."""
    kind = type(error).__name__
    reason = next((words for start, words in REASONS.items() if kind.startswith(start)), kind)
    return CheckpointError(
        f"{source} could not be had from the hub ({reason}). Nor is it a folder that is opened here: check the "
        "name and the network, or download the checkpoint and name its folder."
    )

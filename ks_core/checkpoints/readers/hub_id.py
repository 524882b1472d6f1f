"""Ids of the Hugging Face hub: ``org/name`` and ``org/name@revision``."""

from __future__ import annotations

from ks_core.checkpoints import hub
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source


def is_mine(source: Source) -> bool:
    """Whether it reads as an id, and nothing here that may be opened is called so."""
    return not source.found and (hub.is_id(source.name) or hub.leads_astray(source.name))


def read(source: Source, onward: Onward) -> Checkpoint:
    """The snapshot's folder, opened. Raises ``CheckpointError`` when the hub does not give it."""
    return onward(source.at(hub.download(source.name, source.choice), source.name))


READER = Reader(
    "hub", "Hugging Face hub", "A model or an adapter on the hub, by its id; what is needed of it is downloaded.",
    is_mine=is_mine, read=read,
)  # fmt: skip

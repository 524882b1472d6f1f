"""The demo's names: ``demo:base``, ``demo:en-fr``, and ``demo`` alone."""

from __future__ import annotations

from pathlib import Path

from ks_core.checkpoints import demo
from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source


def is_mine(source: Source) -> bool:
    """Whether it is a name of the demo's."""
    return not source.found and demo.is_name(source.name)


def read(source: Source, onward: Onward) -> Checkpoint:
    """The demo's folder, opened. Raises ``CheckpointError`` for a name there is not, and before the base is prepared."""
    return onward(source.at(Path(demo.resolve(source.name)), source.name))


READER = Reader(
    "demo", "Demo", "A model that comes with the program, by its name, such as demo:en-fr.", is_mine=is_mine, read=read
)

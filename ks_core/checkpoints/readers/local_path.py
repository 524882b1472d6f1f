"""Paths on this machine: whatever is not found by a name."""

from __future__ import annotations

from pathlib import Path

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.checkpoints.readers.reader import Onward, Reader, Source
from ks_core.errors import CheckpointError
from ks_core.store import access, door


def is_mine(source: Source) -> bool:
    """Whatever is not found yet."""
    return not source.found


def read(source: Source, onward: Onward) -> Checkpoint:
    """What lies there, opened. Raises ``AccessError`` outside the roots, ``CheckpointError`` where there is nothing."""
    name = source.name
    try:
        path = Path(name).expanduser()
    except (RuntimeError, ValueError):  # ~name, and there is no such user, or no user could be called so
        path = Path(name)
    # Before anything is said of it: outside the roots nobody learns what is there.
    access.check_path(path, name)
    if "\0" in name or not path.exists():
        raise CheckpointError(
            f"{name[:300]} does not exist. Expected a folder, a file, a hub id such as org/name, "
            "or demo:base; check the spelling."
        )
    door.end(path)  # what is prepared may be a link to elsewhere by now
    return onward(source.at(path, path.name or name))


READER = Reader("path", "Path", "A file or a folder on this machine.", is_mine=is_mine, read=read)

"""Where this program keeps what it makes: one folder, the workspace.

``KS_LOTTERY_HOME`` names it; otherwise it is ``ks-lottery`` in the user's cache folder
(``XDG_CACHE_HOME`` or ``~/.cache``). Everything in it can be made again, except the runs of
fine-tuning, which are the user's own work and live under ``jobs``.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

#: Bytes of the largest JSON file that is read. A long run with its translations has some megabytes.
LARGEST_JSON = 256 << 20
#: What the user's settings take from new files' permissions. It can only be read by setting it.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def home() -> Path:
    """The workspace folder. It is not created by asking for it."""
    named = os.environ.get("KS_LOTTERY_HOME")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "ks-lottery"


def folder(name: str) -> Path:
    """A folder of the workspace (``cache``, ``models``, ``jobs``), created when missing."""
    path = home() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file of the workspace; ``None`` for one that is missing, damaged, or no file.

    A folder of runs can come from someone else, so a pipe is not waited for and no size is believed.
    """
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_JSON:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write ``data`` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file in the same folder, which then takes the name in one step.
    ``durable`` waits until they are on the disk, which costs milliseconds and outlives a power cut.
    Raises ``OSError`` when the disk is full or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_UMASK)  # mkstemp makes files that only their owner reads
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False)
    write_atomically(path, text.encode() + b"\n", durable=durable)

"""Results on disk, found again by what they were computed from.

An entry's name is a hash of everything that decides its content: the kind of result, the content
hashes of what went in, the parameters, and the version of the code that computes it. So a copied
checkpoint finds its results again, and a changed one does not.

    >>> cache = Cache(folder)
    >>> cache.store("scan", {"base": "ab", "tuned": "cd"}, {"counts": counts}, {"seconds": 0.2})
    >>> entry = cache.load("scan", {"base": "ab", "tuned": "cd"})

One file holds one entry: a safetensors file whose header carries the key, a JSON note and a checksum.
Files are written under another name and renamed, so several processes can share a cache; a file that
is damaged is removed and counts as absent. Past ``limit`` bytes, what was not read longest leaves first.

A read-only server (``access``) reads its cache and writes nothing into it, not even when something was read. What it computes for a
visitor it keeps in memory until it ends, ``MEMORY`` bytes of it. What the workspace's cache has not may be shipped (``shipped``); such an
entry says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.errors import SettingsError
from ks_core.store import access, shelf, shipped, workspace
from ks_core.store.shipped import Provenance

log = logging.getLogger(__name__)

#: Bytes kept at most, unless ``KS_LOTTERY_CACHE_BYTES`` says otherwise.
DEFAULT_LIMIT = 4 << 30
#: Bytes of results that a read-only process keeps in memory.
MEMORY = 64 << 20
_memory: OrderedDict[Path, bytes] = OrderedDict()
_memory_lock = threading.Lock()
#: Where ``noted`` puts what is read.
_read: ContextVar[list[tuple[Path, dict[str, Any]]] | None] = ContextVar("read", default=None)


def _limit() -> int:
    """Bytes of the setting. Raises ``SettingsError`` for what is no number of them."""
    named = os.environ.get("KS_LOTTERY_CACHE_BYTES", str(DEFAULT_LIMIT))
    if not named.isascii() or not named.isdecimal() or int(named[:20]) < 1:
        raise SettingsError(
            f"KS_LOTTERY_CACHE_BYTES is {named[:80]!r}. Expected a number of bytes, such as 4000000000."
        )
    return int(named[:20])


@dataclass(frozen=True)
class Entry:
    """A result that was found: its arrays by name, its note (plain JSON values), and where it comes from if it is ``shipped``."""

    arrays: dict[str, np.ndarray]
    note: dict[str, Any]
    shipped: Provenance | None = None


@dataclass(frozen=True)
class Stored:
    """What is known of an entry without reading it."""

    kind: str
    path: Path
    bytes: int
    used: float


class Cache:
    """A folder of results. Creating the object touches nothing on disk."""

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self._folder = folder
        self.limit = limit or _limit()

    @property
    def folder(self) -> Path:
        return self._folder or workspace.home() / "cache"

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """The file that holds this result, whether it is there or not."""
        text = json.dumps([kind, key], sort_keys=True, separators=(",", ":"))
        return self.folder / kind / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    def load(self, kind: str, key: Mapping[str, Any]) -> Entry | None:
        """The result for this key, or ``None``. A damaged file is removed on the way."""
        found = self._own(kind, key)
        if found is None and self._folder is None:  # the workspace's cache alone has something below it
            return _shipped(kind, key, self.path(kind, key).name)
        if found is not None and (noting := _read.get()) is not None:
            noting.append((self.path(kind, key), found.note))
        return found

    def _own(self, kind: str, key: Mapping[str, Any]) -> Entry | None:
        """The result for this key that was computed here."""
        path, read_only = self.path(kind, key), access.read_only()
        if read_only and (kept := _recalled(path)):
            return _decode(kept, kind, key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            entry = _decode(data, kind, key)
        except Exception as error:  # whatever a damaged file makes the parser say, it means the same
            if not read_only:
                log.warning("The cached result %s is damaged (%s); it is removed and computed again.", path.name, error)
                path.unlink(missing_ok=True)
            return None
        if not read_only:
            with contextlib.suppress(OSError):
                os.utime(path)  # read just now: leaves last
        return entry

    def store(
        self, kind: str, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]
    ) -> bool:
        """Keep a result. ``False``, with a line in the log, when the disk does not take it.

        A result that cannot be kept is still a result, so this never raises for the disk's sake.
        """
        path, data = self.path(kind, key), _encode(kind, key, arrays, note)
        if access.read_only():
            return _remembered(path, data)
        try:
            # Not waited for: a result that a power cut takes is noticed as damaged and made again.
            workspace.write_atomically(path, data, durable=False)
        except OSError as error:
            log.warning(
                "A result could not be kept in %s (%s). The next look computes it again.",
                self.folder,
                error.strerror,
            )
            return False
        self._trim(keep=path)
        return True

    def entries(self) -> list[Stored]:
        """Every entry, the most recently used first."""
        found = []
        for path in self.folder.glob("*/*.safetensors"):
            try:
                stat = path.stat()
            except OSError:
                continue  # another process removed it meanwhile
            found.append(Stored(path.parent.name, path, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda e: e.used, reverse=True)

    def clear(self, kind: str | None = None) -> int:
        """Remove all entries, or those of one kind. Returns how many there were."""
        chosen = [e for e in self.entries() if kind in (None, e.kind)]
        for entry in chosen:
            entry.path.unlink(missing_ok=True)
        return len(chosen)

    def _trim(self, keep: Path) -> None:
        total = 0
        for entry in self.entries():
            total += entry.bytes
            if total > self.limit and entry.path != keep:
                entry.path.unlink(missing_ok=True)


@contextlib.contextmanager
def noted() -> Iterator[list[tuple[Path, dict[str, Any]]]]:
    """Within it, the file and the note of every entry that is found are put on the list that it gives."""
    found: list[tuple[Path, dict[str, Any]]] = []
    token = _read.set(found)
    try:
        yield found
    finally:
        _read.reset(token)


def _shipped(kind: str, key: Mapping[str, Any], name: str) -> Entry | None:
    """The result for this key that comes with the program; a damaged one counts as absent."""
    found = shipped.stamp(kind, name)
    return shelf.made("a shipped result", (found, kind, key), lambda: _unpacked(kind, key, name)) if found else None


def _unpacked(kind: str, key: Mapping[str, Any], name: str) -> Entry | None:
    """The same, read from its file."""
    found = shipped.cached(kind, name)
    if found is None:
        return None
    try:
        entry = _decode(found[0], kind, key)
    except Exception as error:
        log.warning("The shipped result %s is damaged (%s); it is left out.", name, error)
        return None
    return Entry(entry.arrays, entry.note, found[1])


def _recalled(path: Path) -> bytes | None:
    """The entry of this file that this process keeps in memory."""
    with _memory_lock:
        if path in _memory:
            _memory.move_to_end(path)
        return _memory.get(path)


def _remembered(path: Path, data: bytes) -> bool:
    """Keep an entry in memory in place of its file; whether there is room for it. What was not read longest leaves first."""
    if len(data) > MEMORY:
        return False
    with _memory_lock:
        _memory[path] = data
        _memory.move_to_end(path)
        while sum(map(len, _memory.values())) > MEMORY:
            _memory.popitem(last=False)
    return True


def _encode(kind: str, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(note)
    header = {
        "key": json.dumps([kind, key], sort_keys=True),
        "note": text,
        "checksum": _checksum(plain, text),
    }
    return save(plain, metadata=header)


def _decode(data: bytes, kind: str, key: Mapping[str, Any]) -> Entry:
    from safetensors.numpy import load

    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])["__metadata__"]
    arrays = load(data)
    if header["key"] != json.dumps([kind, key], sort_keys=True):
        raise ValueError("it belongs to another key")
    if header["checksum"] != _checksum(arrays, header["note"]):
        raise ValueError("its checksum does not fit")
    return Entry(arrays, json.loads(header["note"]))


def _checksum(arrays: Mapping[str, np.ndarray], note: str) -> str:
    digest = hashlib.blake2b(note.encode(), digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()

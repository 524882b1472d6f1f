"""Content hashes of matrices: the same numbers, the same hash, wherever the file lies.

Hashed is a tree: SHA-256 of fixed stretches of bytes, several at a time, then SHA-256 of those. What a
file's matrix hashed to is remembered in the workspace under the file's path, size, time and inode, so an
unchanged file is hashed once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ks_core import workspace
from ks_core.matrices import Matrix, blocks

STRETCH = 8 << 20


def of_matrix(matrix: Matrix, file: Path | None = None, name: str = "") -> str:
    """Hex SHA-256 of a matrix: dtype, shape and content. ``file`` and ``name`` say where it is mapped from."""
    stamp = _stamp(file, name) if file else None
    if stamp and (known := _remembered(stamp)):
        return known
    rows, width = matrix.shape
    size = {"float64": 8, "float32": 4}.get(matrix.dtype, 2)

    def stretch(bounds: tuple[int, int]) -> bytes:
        block = np.ascontiguousarray(matrix.block(*bounds))
        return hashlib.sha256(block.view(np.uint8).data).digest()

    whole = hashlib.sha256(f"{matrix.dtype} {rows} {width}".encode())
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashlib lets go of the GIL
        for digest in pool.map(stretch, _stretches(rows, width * size)):
            whole.update(digest)
    if stamp and stamp == _stamp(file, name):  # a file that changed meanwhile is not remembered
        _remember(stamp, whole.hexdigest())
    return whole.hexdigest()


def combine(base: str, *arrays: np.ndarray) -> str:
    """The hash of something made from a base and some arrays."""
    digest = hashlib.sha256(base.encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _stretches(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    return blocks(rows, row_bytes, STRETCH)


def _stamp(file: Path | None, name: str) -> str | None:
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return f"{file.resolve()}|{name}|{found.st_size}|{found.st_mtime_ns}|{found.st_ino}"


def _path(stamp: str) -> Path:
    return workspace.home() / "hashes" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.json"


def _remembered(stamp: str) -> str | None:
    try:
        found = json.loads(_path(stamp).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("hash") if isinstance(found, dict) and found.get("stamp") == stamp else None


def _remember(stamp: str, digest: str) -> None:
    with contextlib.suppress(OSError):  # then it is computed again next time
        workspace.write_json(_path(stamp), {"stamp": stamp, "hash": digest}, durable=False)

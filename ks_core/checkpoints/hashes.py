"""Content hashes of matrices: the same numbers, the same hash, wherever the file lies.

Hashed is a tree: SHA-256 of fixed stretches of bytes, several at a time, then SHA-256 of those. What a
file's matrix hashed to is remembered in the workspace under the file's path, size, time and inode, so an
unchanged file is hashed once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ks_core.checkpoints.matrices import Matrix, blocks
from ks_core.errors import CheckpointError
from ks_core.store import access, stopwatch, workspace

STRETCH = 8 << 20


def of_matrix(matrix: Matrix, file: Path | None = None, name: str = "", opened: str | None = None) -> str:
    """Hex SHA-256 of a matrix: dtype, shape and content. ``file`` and ``name`` say where it is mapped from.

    ``opened`` is the file's stamp from before it was mapped. A file that was replaced since then has another
    content than the map, and one that was written into is half old and half new: both raise ``CheckpointError``.
    """
    before = opened or (stamp(file) if file else None)
    _unchanged(file, before)
    if before and (known := _remembered(before, name)):
        return known
    rows, width = matrix.shape
    size = {"float64": 8, "float32": 4}.get(matrix.dtype, 2)

    def stretch(bounds: tuple[int, int]) -> bytes:
        block = np.ascontiguousarray(matrix.block(*bounds))
        return hashlib.sha256(block.view(np.uint8).data).digest()

    whole = hashlib.sha256(f"{matrix.dtype} {rows} {width}".encode())
    with (
        stopwatch.part("hashing"),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):  # hashlib lets go of the GIL
        for digest in pool.map(stretch, _stretches(rows, width * size)):
            whole.update(digest)
    _unchanged(file, before)
    if before:
        _remember(before, name, whole.hexdigest())
    return whole.hexdigest()


def remembered(stamp: str | None, name: str) -> bool:
    """Whether the hash of this tensor of a file is known, so that ``of_matrix`` need not read it."""
    return stamp is not None and _remembered(stamp, name) is not None


def combine(base: str, *arrays: np.ndarray) -> str:
    """The hash of something made from a base and some arrays."""
    digest = hashlib.sha256(base.encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _stretches(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    return blocks(rows, row_bytes, STRETCH)


def stamp(file: Path) -> str | None:
    """What tells a file from a changed or replaced one; ``None`` when there is no such file.

    Path, size, time of writing, inode, and the time of the inode's last change: tools that copy into a file and
    then put its time of writing back (``rsync --inplace --times``) cannot put that one back.
    """
    try:
        found = file.stat()
    except OSError:
        return None
    return f"{file.resolve()}|{found.st_size}|{found.st_mtime_ns}|{found.st_ctime_ns}|{found.st_ino}"


def _unchanged(file: Path | None, before: str | None) -> None:
    if file is not None and stamp(file) != before:
        raise CheckpointError(f"{file} has changed or gone since it was opened. Open it again.")


def _path(stamp: str, name: str) -> Path:
    return workspace.home() / "hashes" / f"{hashlib.sha256(_text(stamp, name)).hexdigest()[:32]}.json"


def _text(stamp: str, name: str) -> bytes:
    return f"{stamp}|{name}".encode(errors="surrogatepass")


def _remembered(stamp: str, name: str) -> str | None:
    found = workspace.read_json(_path(stamp, name))
    if not isinstance(found, dict) or (found.get("stamp"), found.get("tensor")) != (stamp, name):
        return None
    digest = found.get("hash")
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


def _remember(stamp: str, name: str, digest: str) -> None:
    if access.read_only():
        return
    with contextlib.suppress(OSError, UnicodeError):  # then it is computed again next time
        workspace.write_json(_path(stamp, name), {"stamp": stamp, "tensor": name, "hash": digest}, durable=False)

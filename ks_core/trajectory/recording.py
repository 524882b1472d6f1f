"""The file of a recording: how it is begun, added to, gone on with and read. ``layout`` says what is in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ks_core.errors import SettingsError, TrajectoryError
from ks_core.jobs import bounded
from ks_core.store import door, workspace
from ks_core.trajectory import layout
from ks_core.trajectory.layout import COLUMNS, Record

if TYPE_CHECKING:
    import pyarrow as pa

#: How a recording is called in a folder of checkpoints or of an arm.
FILE = "trajectory.arrow"
#: Bytes of the largest recording that is read.
LARGEST = 2 << 30
#: With these an Arrow stream ends that was closed; one that goes on has none.
_END_BYTES = 8


class Writer:
    """Adds records to a file. Raises ``OSError`` where it cannot be written to."""

    def __init__(self, path: Path, facts: Mapping[str, Any], keep: int = 0) -> None:
        """``keep`` bytes of the file are left as they are, 0 for a new one; ``facts`` is what is said of it."""
        self.path, self.schema = path, layout.schema(facts)
        self._head = _stream(self.schema)[:-_END_BYTES]
        self._file: BinaryIO | None = None
        if keep:
            os.truncate(path, keep)
            self._file = path.open("ab", buffering=0)

    def append(self, record: Record) -> None:
        """Add a record. It is in the file, whole, when this returns."""
        lines, said = layout.batch(record, self.schema)
        added = _stream(self.schema, lines, said)[len(self._head) : -_END_BYTES]
        if self._file is None:  # a new file has a record as soon as it is there: somebody may be looking
            workspace.write_atomically(self.path, self._head + added, durable=False)
            self._file = self.path.open("ab", buffering=0)
        else:
            self._file.write(added)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read(path: Path) -> tuple[dict[str, Any], list[Record], bool]:
    """What is said of a recording, its records, and whether the file ends with a whole one.

    Raises ``TrajectoryError`` for a file that is none or is too large, ``AccessError`` for one that is not to be opened.
    """
    facts, kept, ends = _read(path)
    return facts, [record for record, _ in kept], ends


def before(path: Path, step: int) -> tuple[dict[str, Any], list[Record], int, dict[str, list[tuple[int, float]]]]:
    """Where a training goes on: what is said of a recording, its records up to ``step``, the bytes that these take, and what later
    records say of the loss up to then (a Trainer logs a step's loss when the step is over): ``loss`` and the parts by name."""
    facts, every, _ = _read(path)
    kept = [(record, end) for record, end in every if record.step <= step]
    late: dict[str, list[tuple[int, float]]] = {}
    for record, _ in every[len(kept) :]:
        for name, pairs in {"loss": record.losses, **record.parts}.items():
            late.setdefault(name, []).extend(pair for pair in pairs if pair[0] <= step)
    return facts, [record for record, _ in kept], kept[-1][1] if kept else 0, late


def is_one(path: Path) -> bool:
    """Whether a file is a recording, as far as its beginning tells."""
    try:
        with door.open_file(path) as file:
            return layout.KEY in file.read(4096)
    except OSError:
        return False


def _read(path: Path) -> tuple[dict[str, Any], list[tuple[Record, int]], bool]:
    try:
        with door.open_file(path) as file:
            size = door.size(file)
            if size > LARGEST:
                raise TrajectoryError(
                    f"{path} has {size:,} bytes. Expected at most {LARGEST:,}: record less often (every)."
                )
            facts, *pieces = bounded.call(layout.parse, [file], size=size, what=path, error=TrajectoryError)
    except OSError as error:
        raise TrajectoryError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from None
    if isinstance(facts, str):
        raise TrajectoryError(f"{path} {facts}")
    *records, ends = pieces
    width = facts["width"]
    made = [(_record(said, columns, shifts, width), end) for said, columns, shifts, end in records]
    return facts, made, bool(ends)


def _record(said: dict[str, Any], columns: Sequence[bytes], shifts: tuple[bytes, bytes], width: int) -> Record:
    made = {name: np.frombuffer(c, dtype) for (name, dtype), c in zip(COLUMNS.items(), columns, strict=True)}
    places, values = np.frombuffer(shifts[0], np.int32), np.frombuffer(shifts[1], "<f2").reshape(-1, width)
    losses = [(int(s), float(x)) for s, x in said["losses"]]
    return Record(said["step"], made, losses, said["diverged"], said["parts"], (places, values))


def _stream(schema: pa.Schema, batch: pa.RecordBatch | None = None, said: Mapping[bytes, bytes] | None = None) -> bytes:
    """A whole Arrow stream of one batch or of none."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        if batch is not None:
            writer.write_batch(batch, custom_metadata=said)
    return bytes(sink.getvalue().to_pybytes())


def check_new(path: Path) -> None:
    """Raise ``SettingsError`` where a recording would take the place of a file that is none."""
    if path.is_dir() or (path.exists() and path.stat().st_size and not is_one(path)):
        raise SettingsError(f"{path} exists and is no recording, so it is not written over. Name another file.")

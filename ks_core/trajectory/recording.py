"""The file of a recording: an Arrow stream to which a record is added at a time, readable to its last whole one.

A record is an Arrow record batch, written in one go, so that a training which is killed leaves at most one piece too little at the
end. A record holds the rows that are not as the last one said; whoever reads carries the others on (``ks_core.trajectory.opening``
does). Any Arrow reader opens it: ``pyarrow.ipc.open_stream(file).read_all()``.

Columns, a line for a row that moved:

    step       int32    optimizer steps done
    row        int32    token id
    counts     int32    D * d, exactly; the p-value follows from it and d (``ks_core.ks.exact_pvalue``)
    l2         float64  length of the shift from the start
    cosine     float64  between the row and its start
    touched    int32    optimizer steps so far in which the row had a gradient
    gradient   float32  root mean square of that gradient's values over these steps: the scale that noise has to have to be like it. It is
                        what the optimizer is given: after clipping, and the mean over processes.

A row that never moved has no line: D is 0, the cosine 1. The schema's metadata has one entry, ``ks_lottery``, JSON: ``format`` 1, ``rows``
and ``width`` of the embedding, ``kind`` of training, ``tied``, ``base``, ``every``, ``began`` (the step of the first record) and ``about``. Each batch
has one too, with ``step`` and ``losses``, pairs of step and loss since the last record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ks_core import values
from ks_core.errors import SettingsError, TrajectoryError
from ks_core.jobs import bounded
from ks_core.store import door, workspace

if TYPE_CHECKING:
    import pyarrow as pa

#: How a recording is called in a folder of checkpoints or of an arm.
FILE = "trajectory.arrow"
COLUMNS = {
    "row": "int32",
    "counts": "int32",
    "l2": "float64",
    "cosine": "float64",
    "touched": "int32",
    "gradient": "float32",
}
#: Bytes of the largest recording that is read, of what is said of it or of a record, and the most values in that.
LARGEST, LONGEST_WORDS, MOST_VALUES = 2 << 30, 4 << 20, 200_000
_KEY = b"ks_lottery"
_FORMAT = 1
#: With these an Arrow stream ends that was closed; one that goes on has none.
_END_BYTES = 8


@dataclass
class Record:
    """One record: the rows that are not as the last one said, by name of ``COLUMNS`` (n,) each."""

    step: int
    columns: Mapping[str, np.ndarray]
    losses: Sequence[tuple[int, float]] = field(default_factory=list)
    #: The loss or a row stopped being a number.
    diverged: bool = False


class Writer:
    """Adds records to a file. Raises ``OSError`` where it cannot be written to."""

    def __init__(self, path: Path, facts: Mapping[str, Any], keep: int = 0) -> None:
        """``keep`` bytes of the file are left as they are, 0 for a new one; ``facts`` is what is said of it."""
        self.path, self.schema = path, _schema(facts)
        self._head = _stream(self.schema)[:-_END_BYTES]
        self._file: BinaryIO | None = None
        if keep:
            os.truncate(path, keep)
            self._file = path.open("ab", buffering=0)

    def append(self, record: Record) -> None:
        """Add a record. It is in the file, whole, when this returns."""
        import pyarrow as pa

        size = len(record.columns["row"])
        arrays = [pa.array(np.full(size, record.step, np.int32))]
        arrays += [pa.array(np.ascontiguousarray(record.columns[name], dtype)) for name, dtype in COLUMNS.items()]
        said = {"step": record.step, "losses": [list(pair) for pair in record.losses], "diverged": record.diverged}
        batch = pa.record_batch(arrays, schema=self.schema)
        added = _stream(self.schema, batch, {_KEY: json.dumps(said).encode()})[len(self._head) : -_END_BYTES]
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


def before(path: Path, step: int) -> tuple[dict[str, Any], list[Record], int, list[tuple[int, float]]]:
    """Where a training goes on: what is said of a recording, its records up to ``step``, the bytes that these take, and the losses
    up to then that later records say (a Trainer logs a step's loss when the step is over)."""
    facts, every, _ = _read(path)
    kept = [(record, end) for record, end in every if record.step <= step]
    late = [pair for record, _ in every[len(kept) :] for pair in record.losses if pair[0] <= step]
    return facts, [record for record, _ in kept], kept[-1][1] if kept else 0, late


def is_one(path: Path) -> bool:
    """Whether a file is a recording, as far as its beginning tells."""
    try:
        with door.open_file(path) as file:
            return _KEY in file.read(4096)
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
            facts, *pieces = bounded.call(parse, [file], size=size, what=path, error=TrajectoryError)
    except OSError as error:
        raise TrajectoryError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from None
    if isinstance(facts, str):
        raise TrajectoryError(f"{path} {facts}")
    *records, ends = pieces
    return facts, [(_record(*piece), piece[-1]) for piece in records], bool(ends)


def _record(said: dict[str, Any], columns: Sequence[bytes], end: int) -> Record:
    made = {name: np.frombuffer(c, dtype) for (name, dtype), c in zip(COLUMNS.items(), columns, strict=True)}
    return Record(said["step"], made, [(int(s), float(x)) for s, x in said["losses"]], said["diverged"])


def parse(file: BinaryIO) -> Iterator[Any]:
    """The parts of a recording as plain values: what is said of it, or a sentence why it is none; a triple for each record (what
    is said of it, its columns as bytes, where it ends); and last whether the file ends there."""
    import pyarrow as pa

    wrong = "is no recording of a training. Expected a file that KSLotteryCallback or Recorder wrote, such as trajectory.arrow."
    # From memory: what a file claims of its parts is then never more than what there is of it.
    source = pa.BufferReader(file.read())
    try:
        stream = pa.ipc.open_stream(source)
        facts = _facts(stream.schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        yield wrong
        return
    yield facts
    last = facts["began"]
    while True:
        try:
            batch, told = stream.read_next_batch_with_custom_metadata()
            batch.validate(full=True)
            said = _said(told, last)
            yield said, [_bytes(batch, name, facts) for name in COLUMNS], source.tell()
            last = said["step"]
        except StopIteration:
            yield True
            return
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
            yield False  # what was being written when the training was killed, or what came after it was damaged
            return


def _bytes(batch: pa.RecordBatch, name: str, facts: Mapping[str, Any]) -> bytes:
    column = batch.column(name)
    found = column.to_numpy(zero_copy_only=False)
    if column.null_count or found.dtype != COLUMNS[name] or not np.isfinite(found).all():
        raise ValueError(name)
    most = {"row": facts["rows"] - 1, "counts": facts["width"]}.get(name, np.inf)
    least = -1.5 if name == "cosine" else 0
    if len(found) and not (least <= found.min() and found.max() <= most):
        raise ValueError(name)
    if name == "row" and len(np.unique(found)) < len(found):
        raise ValueError(name)
    return found.tobytes()


def _schema(facts: Mapping[str, Any]) -> pa.Schema:
    import pyarrow as pa

    fields = [("step", pa.int32()), *((name, pa.from_numpy_dtype(dtype)) for name, dtype in COLUMNS.items())]
    return pa.schema(fields, metadata={_KEY: json.dumps({"format": _FORMAT, **facts}).encode()})


def _stream(schema: pa.Schema, batch: pa.RecordBatch | None = None, said: Mapping[bytes, bytes] | None = None) -> bytes:
    """A whole Arrow stream of one batch or of none."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        if batch is not None:
            writer.write_batch(batch, custom_metadata=said)
    return bytes(sink.getvalue().to_pybytes())


def _facts(schema: pa.Schema) -> dict[str, Any]:
    """What a schema says of its recording. Raises ``ValueError`` and its like for one that is none."""
    found = _json((schema.metadata or {})[_KEY])
    same = schema.remove_metadata().equals(_schema({}).remove_metadata())
    whole = all(
        isinstance(found[name], int) and found[name] >= least
        for name, least in (("rows", 1), ("width", 1), ("began", 0))
    )
    if found["format"] != _FORMAT or not same or not whole or found["rows"] > 1 << 24 or found["width"] > 1 << 20:
        raise ValueError
    plain = {name: str(found.get(name, ""))[:500] for name in ("kind", "base", "stored")}
    about = found.get("about")
    return {
        **{name: found[name] for name in ("rows", "width", "began")}, **plain, "tied": bool(found.get("tied")),
        "about": about if isinstance(about, dict) else {},
    }  # fmt: skip


def _said(told: Any, last: int) -> dict[str, Any]:
    """What a batch says of its record. Raises ``ValueError`` and its like for what no recorder writes."""
    found = _json(told[_KEY])
    step = found["step"]
    if not isinstance(step, int) or not last <= step < 1 << 31:
        raise ValueError
    losses = [(int(s), float(x)) for s, x in found["losses"]]
    return {
        "step": step,
        "losses": [(s, x) for s, x in losses if np.isfinite(x)],
        "diverged": bool(found.get("diverged")),
    }


def _json(text: bytes) -> Any:
    if len(text) > LONGEST_WORDS:
        raise ValueError
    return values.parsed(text, MOST_VALUES)


def check_new(path: Path) -> None:
    """Raise ``SettingsError`` where a recording would take the place of a file that is none."""
    if path.is_dir() or (path.exists() and path.stat().st_size and not is_one(path)):
        raise SettingsError(f"{path} exists and is no recording, so it is not written over. Name another file.")

"""What the file of a recording is, and what of it is believed: an Arrow stream of records, readable to its last whole one.

A record is an Arrow record batch, written in one go, so that a training which is killed leaves at most one piece too little at the
end. A record holds the rows that are not as the last one said; whoever reads carries the others on (``ks_core.trajectory.history``
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
    shift      binary   the row less its start, d values of float16; of the rows of largest D alone (``FOLLOWED``), null for the others

A row that never moved has no line: D is 0, the cosine 1. The schema's metadata has one entry, ``ks_lottery``, JSON: ``format`` 2 (1: without ``shift``), ``rows``
and ``width`` of the embedding, ``kind`` of training, ``tied``, ``base``, ``every``, ``began`` (the step of the first record) and ``about``. Each batch
has one too, with ``step`` and ``losses``, pairs of step and loss since the last record; where the loss was known by part (``PARTS``), such pairs of each
part by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ks_core import values

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {
    "row": "int32",
    "counts": "int32",
    "l2": "float64",
    "cosine": "float64",
    "touched": "int32",
    "gradient": "float32",
}
#: What a loss is parted into: the end token's, and that of all other targets, in nats a token of the part.
PARTS = ("content", "end")
#: Rows whose shift is kept in a record at most, and the bytes that these take at most.
FOLLOWED, FOLLOWED_BYTES = 32, 128 << 10
#: Bytes of what is said of a recording or of a record at most, and the most values in that.
LONGEST_WORDS, MOST_VALUES = 4 << 20, 200_000
KEY = b"ks_lottery"
_FORMATS = (1, 2)
#: The ``shifts`` of a record without any.
NO_SHIFTS = (np.zeros(0, np.int32), np.zeros((0, 0), np.float16))


@dataclass
class Record:
    """One record: the rows that are not as the last one said, by name of ``COLUMNS`` (n,) each.

    ``shifts``: places among these rows, int32 (k,), and the shifts of the rows there, float16 (k, d). ``parts`` has pairs of step and
    loss by a name of ``PARTS``, as far as they are known.
    """

    step: int
    columns: Mapping[str, np.ndarray]
    losses: Sequence[tuple[int, float]] = field(default_factory=list)
    #: The loss or a row stopped being a number.
    diverged: bool = False
    parts: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    shifts: tuple[np.ndarray, np.ndarray] = NO_SHIFTS


def schema(facts: Mapping[str, Any]) -> pa.Schema:
    """The Arrow schema of a recording of which ``facts`` is said; its ``format`` is the newest unless they name one."""
    import pyarrow as pa

    told = {"format": _FORMATS[-1], **facts}
    fields = [("step", pa.int32()), *((name, pa.from_numpy_dtype(dtype)) for name, dtype in COLUMNS.items())]
    fields += [] if told["format"] == 1 else [("shift", pa.binary())]
    return pa.schema(fields, metadata={KEY: json.dumps(told).encode()})


def batch(record: Record, made: pa.Schema) -> tuple[pa.RecordBatch, dict[bytes, bytes]]:
    """A record as an Arrow batch of a schema of ``schema``, and what is said of it."""
    import pyarrow as pa

    size = len(record.columns["row"])
    arrays = [pa.array(np.full(size, record.step, np.int32))]
    arrays += [pa.array(np.ascontiguousarray(record.columns[name], dtype)) for name, dtype in COLUMNS.items()]
    if "shift" in made.names:
        held: list[bytes | None] = [None] * size
        for place, shift in zip(*record.shifts, strict=True):
            held[place] = shift.astype("<f2").tobytes()
        arrays.append(pa.array(held, pa.binary()))
    said: dict[str, Any] = {
        "step": record.step,
        "losses": [list(pair) for pair in record.losses],
        "diverged": record.diverged,
    }
    said |= {name: [list(pair) for pair in pairs] for name, pairs in record.parts.items()}
    return pa.record_batch(arrays, schema=made), {KEY: json.dumps(said).encode()}


def parse(file: BinaryIO) -> Iterator[Any]:
    """The parts of a recording as plain values: what is said of it, or a sentence why it is none; four for each record (what is
    said of it, its columns as bytes, its shifts as bytes, where it ends); and last whether the file ends there."""
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
            found, told = stream.read_next_batch_with_custom_metadata()
            found.validate(full=True)
            said = _said(told, last)
            yield said, [_bytes(found, name, facts) for name in COLUMNS], _shifts(found, facts), source.tell()
            last = said["step"]
        except StopIteration:
            yield True
            return
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
            yield False  # what was being written when the training was killed, or what came after it was damaged
            return


def _bytes(lines: pa.RecordBatch, name: str, facts: Mapping[str, Any]) -> bytes:
    column = lines.column(name)
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


def _shifts(lines: pa.RecordBatch, facts: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Which lines of a batch have a shift, int32, and these shifts, float16."""
    if facts["format"] == 1:
        return b"", b""
    column = lines.column("shift")
    places = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).astype(np.int32)
    if len(places) > FOLLOWED:
        raise ValueError("shift")
    held = [value.as_py() for value in column.drop_null()]
    joined = b"".join(held)
    if any(len(value) != 2 * facts["width"] for value in held) or not np.isfinite(np.frombuffer(joined, "<f2")).all():
        raise ValueError("shift")
    return places.tobytes(), joined


def _facts(told: pa.Schema) -> dict[str, Any]:
    """What a schema says of its recording. Raises ``ValueError`` and its like for one that is none."""
    found = _json((told.metadata or {})[KEY])
    known = found["format"] in _FORMATS
    same = known and told.remove_metadata().equals(schema({"format": found["format"]}).remove_metadata())
    whole = all(
        isinstance(found[name], int) and found[name] >= least
        for name, least in (("rows", 1), ("width", 1), ("began", 0))
    )
    if not same or not whole or found["rows"] > 1 << 24 or found["width"] > 1 << 20:
        raise ValueError
    plain = {name: str(found.get(name, ""))[:500] for name in ("kind", "base", "stored")}
    about = found.get("about")
    return {
        **{name: found[name] for name in ("format", "rows", "width", "began")}, **plain, "tied": bool(found.get("tied")),
        "about": about if isinstance(about, dict) else {},
    }  # fmt: skip


def _said(told: Any, last: int) -> dict[str, Any]:
    """What a batch says of its record. Raises ``ValueError`` and its like for what no recorder writes."""
    found = _json(told[KEY])
    step = found["step"]
    if not isinstance(step, int) or not last <= step < 1 << 31:
        raise ValueError
    return {
        "step": step,
        "losses": _pairs(found["losses"]),
        "diverged": bool(found.get("diverged")),
        "parts": {name: _pairs(found[name]) for name in PARTS if name in found},
    }


def _pairs(told: Any) -> list[tuple[int, float]]:
    """Steps and losses, those that are numbers."""
    return [(s, x) for s, x in ((int(s), float(x)) for s, x in told) if np.isfinite(x)]


def _json(text: bytes) -> Any:
    if len(text) > LONGEST_WORDS:
        raise ValueError
    return values.parsed(text, MOST_VALUES)

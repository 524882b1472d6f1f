"""Reading one tensor of a safetensors file as a memory map, with nothing but NumPy.

The layout (https://huggingface.co/docs/safetensors): eight bytes with the length of a header, the header
(JSON: name -> dtype, shape, data_offsets), then the data. Everything in the header is checked before it
is believed, because the file may come from anywhere.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ks_core import values
from ks_core.checkpoints.folders import HEADS, embedding_name, listed, no_matrix
from ks_core.checkpoints.matrices import ArrayMatrix, MappedMatrix
from ks_core.errors import CheckpointError, KSLotteryError
from ks_core.jobs import bounded
from ks_core.store import door

#: The format's own bound on a header: what claims more is something else.
ANY_HEADER = 100_000_000
#: Bytes of the longest header that is read, and its most values: 150 and 10 a tensor. The largest mixtures of experts have 100,000
#: tensors, in many files.
LONGEST_HEADER, MOST_VALUES = 32 << 20, 2_000_000
#: Real tensors have up to 5; multiplying the sizes of a million would take hours.
MOST_DIMENSIONS = 32
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: dtype as the format names it, shape, and its bytes in the file."""

    name: str
    stored: str
    shape: tuple[int, ...]
    start: int
    stop: int


def tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor that the file's header names. Raises ``CheckpointError`` for a file that is none."""
    try:
        with door.open_file(path) as file:
            size = door.size(file)
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or not 2 <= length <= ANY_HEADER:
                raise CheckpointError(
                    f"{path} is no safetensors file ({size:,} bytes, no header). Expected a file "
                    "saved by safetensors; download or save it again."
                )
            if 8 + length > size:
                raise CheckpointError(
                    f"{path} is cut short: its header claims {length:,} bytes, the file has "
                    f"{size:,}. Download it again."
                )
            if length > LONGEST_HEADER:
                raise CheckpointError(
                    f"{path} has a header of {length:,} bytes. Expected at most {LONGEST_HEADER:,}: it is damaged."
                )
            found = bounded.call(
                described, [file], path=str(path), length=length, size=length, what=path, error=CheckpointError
            )
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    return {name: Tensor(name, *about) for name, *about in found}


def described(file: BinaryIO, path: str, length: int) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """The fields of every ``Tensor`` that the header of an open file names.

    ``path`` is what a person calls the file, ``length`` how many bytes its header has. Raises ``CheckpointError``.
    """
    size = door.size(file)
    file.seek(8)
    try:
        header = values.parsed(file.read(length), MOST_VALUES, _no_duplicates)
    except _NamedTwice:
        raise CheckpointError(
            f"{path} names a tensor twice in its header. It is damaged or made to deceive; do not use it."
        ) from None
    except values.TooMany as many:
        raise CheckpointError(
            f"{path} has a header of about {many} values. Expected at most {MOST_VALUES:,}: it is damaged."
        ) from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is no safetensors file: its header is not JSON. Save it again.") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is no safetensors file: its header is no table of tensors.")
    found = [_checked(path, name, entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"]
    spans = sorted((start, stop, name) for name, _, _, start, stop in found if stop > start)
    for (_, end, one), (start, _, other) in itertools.pairwise(spans):
        if start < end:
            raise CheckpointError(f"{path} is damaged: the tensors {listed([one, other])} overlap. Download it again.")
    return found + _second_names(header.get("__metadata__"), {entry[0]: entry for entry in found})


def matrix(path: Path, tensor: Tensor) -> ArrayMatrix:
    """A two-dimensional tensor as a matrix over a memory map. Raises ``CheckpointError`` when it is none."""
    if tensor.stored not in DTYPES:
        raise CheckpointError(
            f"{tensor.name} in {path} is stored as {tensor.stored}. Expected one of "
            f"{', '.join(DTYPES)}: convert the checkpoint first."
        )
    if len(tensor.shape) != 2:
        raise no_matrix(path, tensor.name, tensor.shape)
    dtype = DTYPES[tensor.stored]
    storage = np.dtype("<u2" if dtype == "bfloat16" else dtype).newbyteorder("<")
    if 0 in tensor.shape:
        return ArrayMatrix(np.zeros(tensor.shape, storage), dtype)
    try:
        with door.open_file(path) as file:
            mapped = np.memmap(file, storage, "r", tensor.start, tensor.shape)
    except KSLotteryError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. It may have changed meanwhile; try again.") from None
    return MappedMatrix(mapped, dtype, path)


def embedding(path: Path, name: str = "", choice: str = "", tied: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """The file's embedding, and all its tensors by name but for an output layer that is the embedding under a second name.

    ``name`` is the tensor's name where an index says it; else ``choice`` and ``tied`` are those of ``embedding_name``. Raises
    ``CheckpointError``.
    """
    found = tensors(path)
    name = name or embedding_name(path, list(found), choice, tied)
    if name not in found:
        raise CheckpointError(f"{path} lacks {name}, which the index places there. Download it again.")
    place = found[name].start
    return found[name], {n: t for n, t in found.items() if n == name or t.start != place or not n.endswith(HEADS)}


def _second_names(said: object, known: dict[str, Any]) -> list[Any]:
    """Further names of tensors: ``save_model`` stores one that several modules share once, and notes the names it left out."""
    pairs = said.items() if isinstance(said, dict) else ()
    return [(name, *known[of][1:]) for name, of in pairs if isinstance(of, str) and of in known and name not in known]


def _checked(path: str, name: str, entry: object, data: int, size: int) -> tuple[str, str, tuple[int, ...], int, int]:
    wrong = CheckpointError(
        f"{path} is damaged: its header describes {listed([name])!r} in a way that cannot be. Download or save it again."
    )
    if not isinstance(entry, dict):
        raise wrong
    shape, offsets, stored = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not (
        isinstance(shape, list)
        and len(shape) <= MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
        and isinstance(offsets, list)
        and len(offsets) == 2
        and all(type(n) is int for n in offsets)
        and 0 <= offsets[0] <= offsets[1]
        and isinstance(stored, str)
    ):
        raise wrong
    start, stop = data + offsets[0], data + offsets[1]
    if stop > size:
        raise CheckpointError(
            f"{path} is cut short: {listed([name])} should end at byte {stop:,}, the file has {size:,}. Download it again."
        )
    count = 1
    for n in shape:
        count *= n
    if stored in ITEM_BYTES and stop - start != count * ITEM_BYTES[stored]:
        raise wrong
    return name, stored, tuple(shape), start, stop


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NamedTwice
    return found


class _NamedTwice(Exception):
    """A header that names one thing twice: two readers could take two different tensors from it."""

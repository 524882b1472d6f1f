"""The embedding of a PyTorch file, read so that nothing in the file is run, and without torch.

Such a file is a pickle, which is a program, and beside it the values of the tensors as they lie in memory. The pickle is
only looked at (``pickles``); what it says of shapes and places is held against the file. Then the values are mapped from
where they lie: in an archive of zip, whose members torch does not compress, or in the format before 2020 one behind the
other.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ks_core.checkpoints import pickles
from ks_core.checkpoints.folders import embedding_name, no_matrix
from ks_core.checkpoints.matrices import ArrayMatrix, MappedMatrix, Matrix
from ks_core.checkpoints.pickles import NoPickle, Said
from ks_core.checkpoints.safetensors_file import DTYPES
from ks_core.checkpoints.torch_calls import ITEM_BYTES, Refused, Tensor, reach
from ks_core.errors import CheckpointError
from ks_core.jobs import bounded
from ks_core.store import door

#: Where training scripts put the state dict inside another table. Of several the first is taken: the weights that were trained,
#: before a running mean of them.
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "state",
    "ema", "ema_state_dict", "model_ema",
)  # fmt: skip
#: How safetensors calls the formats of values that are read.
FORMATS = {dtype: stored for stored, dtype in DTYPES.items()}
#: Bytes of the largest table of contents: room for 150,000 members, each of which is a tensor.
LARGEST_CONTENTS = 16 << 20
#: What the format before 2020 begins with, and its version.
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
#: Where storages lie in a file: key -> first byte, bytes.
Places = dict[str, tuple[int, int]]


def embedding(path: Path, name: str = "", choice: str = "", tied: bool = False) -> tuple[str, Matrix, str, list[str]]:
    """Name, matrix and stored format of the file's embedding, and the names of the tensors in the file.

    The format is named as safetensors does. An output layer that is the embedding itself under a second name is left
    out: it is the same tensor. ``name`` is the tensor's name where an index says it; else ``choice`` and ``tied`` are those of
    ``embedding_name``, and a table that holds several state dicts may be chosen from by the key of one. Raises
    ``CheckpointError``.
    """
    with door.open_file(path) as file:
        found = _within_bounds(described, path, file, name=name, choice=choice, tied=tied)
        name, dtype, start, shape, strides, names = found
        stored = np.dtype("<u2" if dtype == "bfloat16" else dtype).newbyteorder("<")
        if 0 in shape:
            return name, ArrayMatrix(np.zeros(shape, stored), dtype), FORMATS[dtype], names
        try:
            flat = np.memmap(file, stored, "r", start, (reach(Tensor(None, dtype, 0, shape, strides)),))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error}. It may have changed meanwhile; try again."
            ) from None
    rows = np.lib.stride_tricks.as_strided(flat, shape, [s * stored.itemsize for s in strides], writeable=False)
    return name, MappedMatrix(rows, dtype, path), FORMATS[dtype], names


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by its name. Raises ``CheckpointError``."""
    with door.open_file(path) as file:
        return _within_bounds(shaped, path, file)


def check(path: Path) -> None:
    """Look through a file that torch is to load. Raises ``CheckpointError`` for one that asks for more than its tensors."""
    with door.open_file(path) as file:
        _within_bounds(checked, path, file)


def _within_bounds(function: Any, path: Path, file: BinaryIO, **arguments: str | bool) -> Any:
    size = min(door.size(file), pickles.LARGEST)
    return bounded.call(function, [file], path=str(path), **arguments, size=size, what=path, error=CheckpointError)


def described(
    file: BinaryIO, path: str, name: str, choice: str = "", tied: bool = False
) -> tuple[str, str, int, tuple[int, ...], tuple[int, ...], list[str]]:
    """The embedding of an open file: its name, dtype, first byte, shape and strides in values; the names of all tensors.

    ``path`` is what a person calls the file. Raises ``CheckpointError``.
    """
    said, places = _read(file, path)
    tensors, choice = _state(said.value, path, choice)
    name = name or embedding_name(Path(path), list(tensors), choice, tied)
    if name not in tensors:
        raise CheckpointError(f"{path} lacks {name}, which the index places there. Download it again.")
    tensor = tensors[name]
    if tensor.storage is None:
        raise CheckpointError(f"{name} in {path} holds no plain values ({tensor.other}). Save it as safetensors.")
    if len(tensor.shape) != 2:
        raise no_matrix(path, name, tensor.shape)
    if tensor.dtype not in FORMATS:
        raise CheckpointError(
            f"{name} in {path} is stored as {tensor.dtype}. Expected bfloat16, float16, float32 or float64: "
            "convert the checkpoint first."
        )
    start, size = places[tensor.storage.key]
    if math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] > size:
        raise CheckpointError(
            f"{path} is damaged: {name} claims the shape {list(tensor.shape)}, more than the file holds. "
            "Download or save it again."
        )
    address = _address(tensor)
    names = [n for n, value in tensors.items() if n == name or _address(value) != address]
    return name, tensor.dtype, start + address[1], tensor.shape, tensor.strides, names


def _state(value: Any, path: str, choice: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of the state dict in a file's value, by name, and what is left to choose where its key was the choice."""
    for _ in range(3):
        if not isinstance(value, dict):
            break
        keys = [w for w in (choice, *WRAPPERS) if isinstance(value.get(w), dict) and _holds_tensors(value[w])]
        if not keys:
            break
        choice = "" if keys[0] == choice else choice
        value = value[keys[0]]
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no table of tensors. Expected a state dict; save it as safetensors.")
    return {n: one for n, one in value.items() if isinstance(n, str) and isinstance(one, Tensor)}, choice


def _holds_tensors(table: dict[Any, Any]) -> bool:
    """Whether tensors lie in a table under names, or in one that it wraps. An optimizer's are numbered."""
    waiting, seen = [table], set[int]()
    while waiting:  # a table may hold itself, and one may be held a thousand times
        one = waiting.pop()
        if id(one) in seen or len(seen) > len(WRAPPERS):
            continue
        seen.add(id(one))
        if any(isinstance(value, Tensor) and isinstance(key, str) for key, value in one.items()):
            return True
        waiting += [one[w] for w in WRAPPERS if isinstance(one.get(w), dict)]
    return False


def shaped(file: BinaryIO, path: str) -> dict[str, tuple[int, ...]]:
    """``shapes`` of an open file."""
    tensors, _ = _state(_read(file, path)[0].value, path, "")
    return {name: tensor.shape for name, tensor in tensors.items()}


def checked(file: BinaryIO, path: str) -> None:
    """``check`` of an open file."""
    _read(file, path)


def _address(tensor: Tensor) -> tuple[str, int]:
    """Where a tensor's values begin: the key of its storage, and the byte in it; an empty key for one without values."""
    if tensor.storage is None:
        return "", 0
    part = tensor.storage
    return part.key, part.start * ITEM_BYTES[part.dtype] + tensor.offset * ITEM_BYTES[tensor.dtype]


def _read(file: BinaryIO, path: str) -> tuple[Said, Places]:
    """What the file's pickle says, and where all storages lie that it names. Raises ``CheckpointError``."""
    size = file.seek(0, 2)
    file.seek(0)
    try:
        said, places = _archive(file, path, size) if file.read(2) == b"PK" else _old(file, path, size)
    except Refused as found:
        raise CheckpointError(
            f"{path} contains more than weights: it {found}. Loading it could run code or take all memory. Expected a file "
            "of tensors only; save it as safetensors."
        ) from None
    except (NoPickle, struct.error, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is no PyTorch file that can be read ({error or type(error).__name__}). Save it as safetensors."
        ) from None
    for storage in said.storages:
        if storage.whole * ITEM_BYTES[storage.dtype] > places.get(storage.key, (0, 0))[1]:
            raise CheckpointError(f"{path} is damaged: it lacks values of its tensors. Download or save it again.")
    return said, places


def _archive(file: BinaryIO, path: str, size: int) -> tuple[Said, Places]:
    """A file as torch writes it since 2020: ``NAME/data.pkl`` and ``NAME/data/KEY`` in an archive."""
    if not zipfile.is_zipfile(file):
        raise CheckpointError(f"{path} is cut short: its table of contents is missing. Download it again.")
    packed = CheckpointError(f"{path} is packed in a way that torch does not write. Do not use it.")
    file.seek(-22, 2)
    end = file.read()
    # The last 22 bytes say where the table of contents is. torch puts no comment behind, in which others would look for them.
    if not end.startswith(b"PK\5\6"):
        raise packed
    (length,) = struct.unpack("<I", end[12:16])
    file.seek(-min(size, 98), 2)
    longer = file.read(76)
    if longer[56:60] == b"PK\6\7":  # an archive of four gigabytes and more says it before
        (length,) = struct.unpack("<Q", longer[40:48])
    if length > LARGEST_CONTENTS:
        raise CheckpointError(
            f"{path} has a table of contents of {length:,} bytes. Expected at most {LARGEST_CONTENTS:,}."
        )
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    # A compressed member could unpack to any size, and of two of a name two programs could take different ones.
    if any(e.compress_type or e.flag_bits & 1 or e.file_size > size for e in entries) or len(
        {e.filename for e in entries}
    ) < len(entries):
        raise packed
    found = {e.filename.partition("/")[2]: e for e in entries if e.filename.startswith(_root(entries))}
    if "constants.pkl" in found:
        raise Refused("is a program (TorchScript)")
    if "data.pkl" not in found:
        raise ValueError("it holds no data.pkl")
    if found["data.pkl"].file_size > pickles.LARGEST:
        raise Refused(f"has a pickle of {found['data.pkl'].file_size:,} bytes")
    if "byteorder" in found and _member(file, found["byteorder"], size) == b"big":
        raise CheckpointError(f"{path} was saved on a machine of another byte order. Save it as safetensors.")
    said = pickles.content(_member(file, found["data.pkl"], size))
    keys = {s.key for s in said.storages}
    named = {key: found[f"data/{key}"] for key in keys if f"data/{key}" in found}
    return said, {key: (_begins(file, entry, size), entry.file_size) for key, entry in named.items()}


def _root(entries: list[zipfile.ZipInfo]) -> str:
    """The folder in which everything lies: that of the first member."""
    return entries[0].filename.partition("/")[0] + "/" if entries else "/"


def _begins(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> int:
    """The first byte of a member's content, behind its own head. Raises ``ValueError`` where there is none."""
    file.seek(entry.header_offset)
    head = file.read(30)
    if len(head) < 30 or not head.startswith(b"PK\3\4"):
        raise ValueError("its table of contents is wrong")
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:]))
    if start + entry.file_size > size:
        raise ValueError("it is cut short")
    return start


def _member(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> bytes:
    file.seek(_begins(file, entry, size))
    return file.read(entry.file_size)


def _old(file: BinaryIO, path: str, size: int) -> tuple[Said, Places]:
    """A file of the format before 2020: five pickles, then the storages in the order of the last."""
    file.seek(0)
    data = file.read(pickles.LARGEST)
    parts = _one_after_another(data)
    if next(parts).value != MAGIC or next(parts).value != VERSION:
        raise NoPickle("it does not begin as one")
    system = next(parts).value
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError(f"{path} was saved on a machine of another byte order. Save it as safetensors.")
    said, order = next(parts), next(parts)
    known = {s.key: s for s in said.storages}
    if not isinstance(order.value, list) or not all(isinstance(key, str) and key in known for key in order.value):
        raise NoPickle("it lists no storages")
    places: Places = {}
    at = order.end
    for key in order.value:
        file.seek(at)
        count = int.from_bytes(file.read(8), "little")
        length = known[key].whole * ITEM_BYTES[known[key].dtype]
        if count != known[key].whole or at + 8 + length > size:
            raise NoPickle("its values are cut short")
        places[key] = (at + 8, length)
        at += 8 + length
    return said, places


def _one_after_another(data: bytes) -> Iterator[Said]:
    """Pickles that lie one behind the other."""
    at = 0
    while True:
        found = pickles.content(data, at)
        yield found
        at = found.end

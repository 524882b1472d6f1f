"""The calls by which torch writes weights into a pickle, over descriptions: what may be called, and with what.

Nothing is made here but tables, tuples and descriptions of storages and tensors. A call that weights do not need, or with
what torch does not give it, is refused: some run code, and some make room for as much as they are told. It knows no pickle
(``pickles``) and no file (``torch_file``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Real tensors have up to 5.
MOST_DIMENSIONS = 32
#: Bytes of a value, by the name of its dtype. Others are known to torch, and not to be read here.
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "complex64": 8, "complex128": 16, "uint16": 2, "uint32": 4, "uint64": 8, "qint8": 1, "quint8": 1, "qint32": 4,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "complex32": 4,
}  # fmt: skip
#: What torch calls the storages of a dtype.
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8", "QUInt8Storage": "quint8", "QInt32Storage": "qint32", "UntypedStorage": "uint8",
}  # fmt: skip


class Refused(Exception):
    """A pickle that asks for more than weights. The message says for what."""


@dataclass(frozen=True)
class Storage:
    """Values in a row that the pickle says lie under ``key``: ``count`` of them from ``start``, of a storage of ``whole``."""

    key: str
    dtype: str
    start: int
    count: int
    whole: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage's values, counted in values: from ``offset``, ``strides`` apart. Where ``other`` is not empty it
    holds no plain values, and says what instead."""

    storage: Storage | None
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    other: str = ""


@dataclass(frozen=True)
class Name:
    """A class or function of torch's, not called."""

    name: str


class Value:
    """Something that no weight is made of, and that is not looked at."""


def is_known(name: str) -> bool:
    """Whether a name may be named, without being called: the dtypes, storages and schemes that torch has names for."""
    return name.rpartition(".")[0] in ("torch", "torch.cuda", "torch.storage", "torch.nn.parameter")


def storage(named: Any) -> Storage:
    """What is stored elsewhere: ``("storage", its kind, key, device, how many values)``, in the old format with the part of
    it that is meant."""
    if not isinstance(named, tuple) or len(named) not in (5, 6) or named[0] != "storage":
        raise Refused("names what is no storage")
    kind, key, count = named[1], named[2], _count(named[4])
    dtype = STORAGES.get(kind.name.rpartition(".")[2]) if isinstance(kind, Name) else None
    if dtype is None or not isinstance(key, str):
        raise ValueError("a storage of no kind")
    part = named[5] if len(named) == 6 else None
    if part is None:
        return Storage(key, dtype, 0, count, count)
    _, start, size = part
    if _count(start) + _count(size) > count:
        raise ValueError("a part that passes the end of its storage")
    return Storage(key, dtype, start, size, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any, dtype: str = "") -> Tensor:
    """A view of a storage. ``rest``: whether it has a gradient, hooks, and notes (a sign that is not yet applied)."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor of no storage")
    found = Tensor(storage, dtype or storage.dtype, _count(offset), _sizes(shape), _sizes(strides))
    if len(found.shape) != len(found.strides):
        raise ValueError("a tensor of other strides than sizes")
    # torch makes a storage longer for a tensor that needs more.
    size = storage.count * ITEM_BYTES[storage.dtype] // ITEM_BYTES[found.dtype]
    if found.offset + reach(found) > size:
        raise Refused(f"has a tensor that needs {found.offset + reach(found):,} values of a storage of {size:,}")
    if len(rest) > 2 and rest[2]:
        return _without_values("values with a note")
    return found


def reach(tensor: Tensor) -> int:
    """How many values of its storage a tensor reaches over from its offset.

    >>> reach(Tensor(None, "float32", 0, (2, 3), (3, 1))), reach(Tensor(None, "float32", 0, (2, 0), (3, 1)))
    (6, 0)
    """
    if 0 in tensor.shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))


def _tensor_v3(*given: Any) -> Tensor:
    """A tensor of a dtype of its own over bytes."""
    storage, offset, shape, strides, gradient, hooks, dtype, *notes = given
    return _tensor(storage, offset, shape, strides, gradient, hooks, *notes, dtype=_dtype(dtype))


def _quantized(*given: Any) -> Tensor:
    found = _tensor(*given[:4])
    if math.prod(found.shape) > found.storage.count if found.storage else 0:
        raise Refused("has a quantized tensor that is larger than its storage")  # torch would make room for all of it
    return _without_values("quantized values")


def _subclass(function: Any, kind: Any, given: Any, state: Any) -> Any:
    """A tensor with notes of its own, made by one of the other calls."""
    if not isinstance(function, Name) or "_rebuild_" not in function.name or not isinstance(given, tuple):
        raise ValueError("a tensor of no kind")
    if function.name == "torch._tensor._rebuild_from_type_v2":
        raise Refused("has a tensor of a tensor")
    return CALLS[function.name](*given)


def _parameter(tensor: Any, *rest: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("a parameter of no tensor")
    return tensor


def _sparse(layout: Any, parts: Any) -> Tensor:
    if not isinstance(parts, tuple) or not all(isinstance(p, Tensor | tuple | bool | None) for p in parts):
        raise ValueError("a sparse tensor of no tensors")
    return _without_values("sparse values")


def put(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Put an entry into a table. Raises ``Refused`` for a key of another kind than weights have."""
    # To find its place a tuple is walked through, however often it holds itself.
    if not isinstance(key, str | bytes | int | float | None):
        raise Refused(f"has a {type(key).__name__} as a key")
    table[key] = value


def _table(entries: Any = ()) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in entries.items() if isinstance(entries, dict) else entries:
        put(found, key, value)
    return found


def _bytes(text: Any, coding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes: as text of one byte a character."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise Refused("has text in a coding of its own")
    return text.encode("latin-1")


def _bytearray(given: Any = b"", *rest: Any) -> bytes:
    """Of bytes, which are as long as they are. Of a number it would be as long as that."""
    if not isinstance(given, bytes) or rest:
        raise Refused("makes room for bytes that it does not hold")
    return given


def _listed(given: Any = ()) -> tuple[Any, ...]:
    """A size, or a set: made from a list or a tuple."""
    if not isinstance(given, list | tuple):
        raise ValueError("a list of nothing")
    return tuple(given)


def _plain(*given: Any) -> Value:
    """A number, a device or a layout, from numbers and text."""
    if not all(isinstance(one, str | int | float) for one in given):
        raise ValueError("a value of no values")
    return Value()


#: Every call that is followed, with what it gives. torch knows some more, by which nobody saves weights, and which make room
#: for as many values as they are told.
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": lambda dtype, *sizes: _without_values("a shape without values"),
    "torch._utils._rebuild_nested_tensor": lambda buffer, *sizes: _without_values("values of several shapes"),
    "torch.serialization._get_layout": _plain,
    "torch.device": _plain,
    "torch.Size": _listed,
    "collections.OrderedDict": _table,
    "collections.Counter": _table,
    "builtins.set": _listed,
    "builtins.complex": _plain,
    "builtins.bytearray": _bytearray,
    "_codecs.encode": _bytes,
}


def _without_values(words: str) -> Tensor:
    return Tensor(None, "", 0, (), (), words)


def _dtype(given: Any) -> str:
    name = given.name.removeprefix("torch.") if isinstance(given, Name) else ""
    if name not in ITEM_BYTES:
        raise ValueError("a dtype of no kind")
    return name


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError("a count that cannot be")
    return value


def _sizes(given: Any) -> tuple[int, ...]:
    if not isinstance(given, tuple) or len(given) > MOST_DIMENSIONS:
        raise ValueError("sizes that cannot be")
    return tuple(_count(size) for size in given)

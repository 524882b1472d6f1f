"""What is compiled ahead: a function for each kind of rows, with the types of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types

from ks_core.ks.kernels.counting.brain import brain_rows
from ks_core.ks.kernels.counting.floats import float_rows, widen_halves

_SIZE = types.int64
_SIZES = (_SIZE,) * 4


def _addresses(*kinds: Any) -> tuple[Any, ...]:
    return tuple(types.CPointer(kind) for kind in kinds)


def _space(count: Any, key: Any, value: Any) -> tuple[Any, ...]:
    """The types of ``Space.arguments``, and of the results behind it."""
    return (*_addresses(types.uint16, count, types.int32, types.int64, types.int64), _SIZE, *_addresses(key, value),
            *_addresses(types.int32, types.float64, types.float64, types.int8))  # fmt: skip


def _floats(value: Any, key: Any, count: Any) -> tuple[Callable[..., None], Any]:
    rows, looks = _addresses(value, value, key, key), _addresses(key, key, value)
    return float_rows, types.void(*rows, *_SIZES, *looks, *_space(count, key, value))


def _brain(count: Any) -> tuple[Callable[..., None], Any]:
    rows, looks = _addresses(types.uint16, types.uint16), _addresses(types.float32, types.uint32)
    return brain_rows, types.void(*rows, *_SIZES, *looks, *_space(count, types.uint16, types.uint16))


#: kind -> the function, and its signature. Long rows are counted in more bits.
ENTRIES: dict[str, tuple[Callable[..., None], Any]] = {
    "float32": _floats(types.float32, types.uint32, types.int16),
    "float32-long": _floats(types.float32, types.uint32, types.int32),
    "float64": _floats(types.float64, types.uint64, types.int16),
    "float64-long": _floats(types.float64, types.uint64, types.int32),
    "bfloat16": _brain(types.int16),
    "bfloat16-long": _brain(types.int32),
    "halves": (widen_halves, types.void(*_addresses(types.uint16, types.float32, types.uint32), _SIZE)),
}

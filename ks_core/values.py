"""Values that come from outside (a link, a form, the command line, a file of a run), checked before they are used.

Each check returns the value, or raises ``SettingsError`` saying what was found and what was expected.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ks_core.errors import SettingsError

#: Seeds as NumPy, torch and transformers all take them.
LARGEST_SEED = 2**32 - 1


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number in bounds.

    >>> whole("k", 18, 1, 100)
    18
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        if least == 1 and isinstance(value, int) and value < 1:
            raise SettingsError(f"{name} is {value}. Expected at least 1.")
        raise SettingsError(f"{name} is {_shown(value)}. Expected a whole number from {least:,} to {most:,}.")
    return int(value)


def number(name: str, value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise SettingsError(f"{name} is {_shown(value)}. Expected a number.")
    return float(value)


def text(name: str, value: Any) -> str:
    """Text that can be written as UTF-8."""
    if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
        raise SettingsError(f"{name} is {_shown(value)}. Expected text.")
    return value


def table(name: str, value: Any) -> Mapping[str, Any]:
    """A table with names as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{name} is {_shown(value)}. Expected a table of settings.")
    return value


def members(name: str, value: Any) -> tuple[Any, ...]:
    """A list, as a tuple."""
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{name} is {_shown(value)}. Expected a list.")
    return tuple(value)


def of_fields(kind: Any, value: Any) -> dict[str, Any]:
    """What a dataclass can be made from: a table of its fields, or of some of them."""
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(table(kind.__name__, value)) - set(known))
    if unknown:
        raise SettingsError(
            f"{kind.__name__} has no field {', '.join(unknown)[:300]}. Expected some of: {', '.join(known)}."
        )
    return dict(value)


def _shown(value: Any) -> str:
    """A value for a message: a number may have a million digits, a table a million entries."""
    try:
        found = repr(value)
    except (ValueError, RecursionError):
        found = f"a {type(value).__name__}"
    return found if len(found) <= 80 else found[:79] + "…"

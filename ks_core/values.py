"""Values that come from outside (a link, a form, the command line, a file of a run), checked before they are used.

Each check returns the value, or raises ``SettingsError`` saying what was found and what was expected.
"""

from __future__ import annotations

import json
import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ks_core.errors import SettingsError, visible

#: Seeds as NumPy, torch and transformers all take them.
LARGEST_SEED = 2**32 - 1
#: ``org/name`` on the Hugging Face hub, as a pattern: neither part begins or ends with a dot, so none is a path.
REPOSITORY = r"\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?"


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


def truth(name: str, value: Any) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {_shown(value)}. Expected true or false.")
    return value


def text(name: str, value: Any) -> str:
    """Text that can be written as UTF-8."""
    if not isinstance(value, str) or not _can_be_written(value):
        raise SettingsError(f"{name} is {_shown(value)}. Expected text.")
    return value


def _can_be_written(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair
        return False
    return True


def is_repository(value: str) -> bool:
    """Whether text reads as the id of a repository on the Hugging Face hub.

    >>> is_repository("org/name"), is_repository("./name"), is_repository("org/../name")
    (True, False, False)
    """
    return bool(re.fullmatch(REPOSITORY, value))


def without_choice(source: str) -> tuple[str, str]:
    """A source's name, and the embedding that is chosen behind it by two colons. A name that holds them itself ends with two more.

    >>> without_choice("org/name::encoder"), without_choice("org/name"), without_choice("a::b::")
    (('org/name', 'encoder'), ('org/name', ''), ('a::b', ''))
    """
    name, colons, choice = source.rpartition("::")
    return (name, choice) if colons else (source, "")


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


class TooMany(ValueError):
    """More values than were to be taken. The message is about how many, as a person writes it."""


def parsed(text: bytes, most: int, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What a JSON text says, where it has at most so many values. ``pairs`` makes a table from its entries, in order.

    In memory a value takes up to 64 bytes and two of the text, so the bytes of a text bound little. How many values there
    can be is seen from its separators before any is made; those inside of strings count too.

    >>> parsed(b'{"a": [1, 2]}', 4)
    {'a': [1, 2]}

    Raises ``TooMany``; ``ValueError`` or ``RecursionError`` for what is no JSON.
    """
    about = 1 + sum(text.count(sign) for sign in (b",", b"[", b"{"))
    if about > most:
        raise TooMany(f"{about:,}")
    return json.loads(text, object_pairs_hook=pairs)


def code_span(value: str) -> str:
    """A value as code in Markdown: its fence is longer than any run of backticks in it, line breaks are ``⏎``, and what a
    screen does not show is ``⟨U+200B⟩``.

    >>> code_span("a`b"), code_span("two\\nlines"), code_span("")
    ('``a`b``', '`two⏎lines`', '')
    """
    text = visible(re.sub(r"\r\n|\r|\n", "⏎", value))
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    # A backtick at an end would belong to the fence; and Markdown takes a space off both ends of what is not all spaces.
    room = " " if text.strip(" ") and (text[0] in "` " or text[-1] in "` ") else ""
    return f"{fence}{room}{text}{room}{fence}" if text else ""


def escaped(value: str) -> str:
    """A sentence as text in Markdown, on one line: what is quoted in it draws no link, no picture, no formula, no list.

    >>> print(escaped("a *b* <i>www.c.d"), escaped("1. x: y"))
    a \\*b\\* \\<i\\>www\\.c.d 1\\. x: y
    """
    text = visible(" ".join(value.split()))
    marked = re.sub(r"[\\`*_~$&<>|{}\[\]#@]|:(?=//)|(?<=www)\.", r"\\\g<0>", text)
    return re.sub(r"^(\d{0,9})([-+=.)])", r"\1\\\2", marked)


def table_cell(text: str) -> str:
    """Markdown, on one line, as a cell of a table: a bar does not end it, and a backslash before one does not free it.

    >>> print(table_cell("a|b"), table_cell("a\\\\|b"))
    a\\|b a\\\\\\|b
    """
    return re.sub(r"(\\*)\|", r"\1\1\\|", visible(text))


def _shown(value: Any) -> str:
    """A value for a message: a number may have a million digits, a table a million entries."""
    try:
        found = repr(value)
    except (ValueError, RecursionError):
        found = f"a {type(value).__name__}"
    return found if len(found) <= 80 else found[:79] + "…"

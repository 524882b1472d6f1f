"""What was made for one visitor and serves all others: results of functions, kept in memory as bytes.

A server draws the same figure for everybody who looks at the same rows with the same settings. So what a function of values gives is made
once and found again by the function's name and the content of all that it was given: another alpha, another token or a checkpoint
that changed is another name, and nothing has to be declared out of date.

    >>> shelf.kept(figures.cdfs, before, after, token)

It holds ``MOST`` bytes at most; what nobody asked for longest leaves first. Every call gets an object of its own, so nobody can change what
others are shown. Not here: what depends on more than its arguments, such as on files. That is kept by ``cache``, or read each time.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

#: Bytes that are held: the pages of the demo, all of them, need about a quarter.
MOST = 64 << 20
#: The part of it that one result may take. What is larger is made each time.
LARGEST = MOST // 8

R = TypeVar("R")


class Shelf:
    """Bytes by name, ``most`` of them in all, for several threads."""

    def __init__(self, most: int = MOST) -> None:
        self.most, self.held = most, 0
        self._lock = threading.Lock()
        self._found: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, name: bytes) -> bytes | None:
        """What lies under a name, which was then asked for last; ``None`` where nothing does."""
        with self._lock:
            found = self._found.get(name)
            if found is not None:
                self._found.move_to_end(name)
            return found

    def put(self, name: bytes, data: bytes) -> None:
        """Lay something down; what was not asked for longest makes room."""
        with self._lock:
            self.held += len(data) - len(self._found.pop(name, b""))
            self._found[name] = data
            while self.held > self.most:
                self.held -= len(self._found.popitem(last=False)[1])

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._found.clear()
            self.held = 0


_shelf = Shelf()


def kept(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """What ``function`` gives for these arguments, made now or found. The function has a name, and depends on nothing else.

    Raises what it raises; then nothing is kept.
    """
    return made("", (function, args, kwargs), lambda: function(*args, **kwargs))


def made(what: str, content: object, make: Callable[[], R]) -> R:
    """What ``make`` gives, made now or found under a name and the content that decides it: for what is made from more than has to be
    looked at, such as the rows of a checkpoint whose hash is known."""
    return pickle.loads(made_bytes(what, content, make))


def made_bytes(what: str, content: object, make: Callable[[], object]) -> bytes:
    """The same, pickled: one object for all who ask, and so what a session may hold on to."""
    name = name_of((what, content))
    found = _shelf.get(name)
    if found is None:
        found = pickle.dumps(make(), protocol=5)
        if len(found) <= LARGEST:
            _shelf.put(name, found)
    return found


def clear() -> None:
    """Let go of everything that is kept."""
    _shelf.clear()


def name_of(asked: object) -> bytes:
    """16 bytes that stand for the content of what is asked: functions, arrays, tables and plain values, and what is made of them.

    Raises ``TypeError``, ``AttributeError`` or ``pickle.PicklingError`` for what has no content, such as open files and functions without
    a name.
    """
    written = io.BytesIO()
    pickler = _Content(written, protocol=5)
    pickler.fast = True  # without it equal values have several forms, by whether they are one object or two
    pickler.dump(asked)
    return hashlib.blake2b(written.getbuffer(), digest_size=16).digest()


class _Content(pickle.Pickler):
    """Writes down what tells values from others."""

    def reducer_override(self, value: Any) -> Any:
        if is_dataclass(value) and not isinstance(
            value, type
        ):  # by its fields: what it worked out besides is no content
            return type(value), tuple(getattr(value, field.name) for field in fields(value))
        return NotImplemented

"""Turns for threads that compute in one process, such as the scripts of a server's visitors.

Python lets one thread at a time go on. With twenty of them at work the one that answers the browsers would wait for twenty others
whenever it is interrupted; with few it goes on at once, and together they are as fast. So each waits for a ``turn``, about in the
order in which they came, and gives it up while something else works for it (``aside``).

    with turns.turn():
        ...
        with turns.aside():
            answer = process.ask(...)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

#: How many compute at once. The interpreter's lock lets one go on anyway, and each more is one more that the browsers' answers wait for.
AT_ONCE = 1
#: Seconds after which one goes on without a turn: those who have one take long.
PATIENCE = 10.0

_free = threading.Semaphore(AT_ONCE)
_own = threading.local()


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Wait for a turn and have it. Within one it does nothing."""
    if _held():
        yield
        return
    _take(PATIENCE)
    try:
        yield
    finally:
        _give()


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Let others have this thread's turn meanwhile. Without one it does nothing.

    Afterwards it goes on at once, in a turn if one is free: what it holds locked may be what those wait for who have the others.
    """
    if not _held():
        yield
        return
    _give()
    try:
        yield
    finally:
        _take(0)


def taken() -> bool:
    """Whether somebody has a turn."""
    free = _free.acquire(blocking=False)
    if free:
        _free.release()
    return not free


def _held() -> bool:
    return getattr(_own, "inside", False)


def _take(patience: float) -> None:
    _own.counted = _free.acquire(timeout=patience)
    _own.inside = True


def _give() -> None:
    _own.inside = False
    if _own.counted:
        _free.release()

"""Reading what comes from outside, with bounds on time and memory.

A server is one process for all its visitors. A parser that takes gigabytes would take it down, and one that computes for
seconds without a pause would leave everybody unanswered. So after ``begin``, which the app's server calls, ``call`` hands
open files to one other process (``reading``), which reads them and sends plain values back. Elsewhere ``call`` only calls:
on a command line nobody waits but the one who named the file.

    call(parse, [file], size=door.size(file), what=path, error=CheckpointError)

What takes longer where nothing is wrong (``work``) has a process of its own, so that it holds up nobody who reads. Nothing is
opened but through ``store.door``, and nothing is known here of what is read: the functions are those of the rooms above. What
they hold in memory is bounded by themselves too (``values.parsed`` for JSON): the process is the second wall, not the first.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ks_core import values
from ks_core.errors import KSLotteryError
from ks_core.jobs import turns
from ks_core.jobs.reading import Exceeded, Limits, Reader
from ks_core.store import door

log = logging.getLogger(__name__)

#: Bytes that are read on the spot: in less time than a process is asked.
SMALL = 32 << 10
#: What a process may take that reads files: the largest tokenizers in use take two seconds and 400 MB; and one that works,
#: which is kept with the libraries that it needs: they take longer to load than most of its work does.
READING, WORKING = Limits(6, 45, 768 << 20, 256 << 20), Limits(60, 300, 1 << 30, 640 << 20)
#: Seconds that a call waits for others.
LONGEST_WAIT = 90
#: Bytes of the largest JSON file that ``read_json`` takes, and its most values: a value takes up to 64 bytes in memory, and
#: the largest ticket in use, of a whole vocabulary, has a million.
LARGEST_JSON, MOST_VALUES = 32 << 20, 2_000_000


def call(
    function: Callable[..., Any],
    files: Sequence[BinaryIO],
    *,
    size: int,
    what: object,
    error: type[KSLotteryError],
    **arguments: Any,
) -> Any:
    """``function(*files, **arguments)``, within the bounds where ``begin`` was called.

    ``function`` stands in a module by its name. It takes and gives plain values (numbers, text, bytes, lists, tuples, sets,
    tables), raises errors for people alone, and what it yields comes as a list. ``size`` is how many bytes it will read at
    about: of several calls that wait, the one with the least goes first. ``what`` is what a person calls it. Raises
    ``error`` when a bound is reached, and what ``function`` raises.
    """
    if not _begun or size <= SMALL:
        found = function(*files, **arguments)
        return list(found) if isinstance(found, Iterator) else found
    return _READING.ask(function, files, arguments, size, what, error)


def work(function: Callable[..., Any], *, what: object, error: type[KSLotteryError], **arguments: Any) -> Any:
    """``call`` for what takes seconds where nothing is wrong, and opens what it needs by itself, through the door."""
    return _WORKING.ask(function, (), arguments, 0, what, error) if _begun else function(**arguments)


def begin() -> None:
    """From now on ``call`` hands on to a process, which is started at once. For the app's server."""
    global _begun
    _begun = True
    _READING.reader = _READING.reader or Reader(READING)


def end() -> None:
    """``call`` only calls again, and the processes are ended."""
    global _begun
    _begun = False
    for line in (_READING, _WORKING):
        if line.reader is not None:
            line.reader.stop()
        line.reader = None


def process() -> int | None:
    """The pid of the process that reads; ``None`` without one."""
    return _READING.reader.pid if _READING.reader else None


def read_json(path: Path, error: type[KSLotteryError]) -> Any:
    """The content of a JSON file from outside; ``None`` where there is no such file.

    Raises ``error`` for one that is too large, no JSON, or holds too many values; ``OSError`` for one that cannot be read,
    ``AccessError`` for one that is not to be opened.
    """
    try:
        file = door.open_file(path)
    except FileNotFoundError:
        return None
    with file:
        size = door.size(file)
        if size > LARGEST_JSON:
            raise error(f"{path} has {size:,} bytes. Expected at most {LARGEST_JSON:,} for such a file: it is damaged.")
        found, why = call(json_content, [file], size=size, what=path, error=error)
    if why:
        raise error(f"{path} {why}")
    return found


def json_content(file: BinaryIO) -> tuple[Any, str]:
    """The content of a JSON file and nothing, or ``None`` and why it cannot be had."""
    try:
        return values.parsed(file.read(LARGEST_JSON), MOST_VALUES), ""
    except values.TooMany as found:
        return None, f"holds about {found} values. Expected at most {MOST_VALUES:,} in such a file: it is damaged."
    except (ValueError, RecursionError):
        return None, "cannot be read as JSON. Download or save it again."


class _Line:
    """A process, and those who wait for it. One call at a time, and of those that wait the one with the least to read: then
    nobody who asks for little waits longer than one call may take, however many ask for much."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.reader: Reader | None = None
        self.waiting: list[tuple[int, int]] = []
        self.busy = False
        self._changed = threading.Condition()
        self._numbers = itertools.count()

    def ask(
        self,
        function: Callable[..., Any],
        files: Sequence[BinaryIO],
        arguments: dict[str, Any],
        size: int,
        what: object,
        error: type[KSLotteryError],
    ) -> Any:
        try:
            with turns.aside(), self.turn(size):
                self.reader = self.reader or Reader(self.limits)
                return self.reader.ask(function, files, arguments)
        except Exceeded as reached:
            log.warning("%s was not read: it %s", what, reached)
            raise error(f"{what} {reached}") from None

    @contextlib.contextmanager
    def turn(self, size: int) -> Iterator[None]:
        """Wait for a turn, and have it. Raises ``Exceeded`` when it does not come in ``LONGEST_WAIT``."""
        with self._changed:
            mine = (size, next(self._numbers))
            heapq.heappush(self.waiting, mine)
            came = self._changed.wait_for(lambda: not self.busy and self.waiting[0] == mine, LONGEST_WAIT)
            self.waiting.remove(mine)
            heapq.heapify(self.waiting)
            self.busy = self.busy or came
            self._changed.notify_all()
        if not came:
            raise Exceeded(f"waited {LONGEST_WAIT} seconds for others that this server reads. Try again in a moment.")
        try:
            yield
        finally:
            with self._changed:
                self.busy = False
                self._changed.notify_all()


_READING, _WORKING = _Line(READING), _Line(WORKING)
_begun = False

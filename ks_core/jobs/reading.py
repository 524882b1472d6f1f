"""The process that reads for ``bounded``: how it is asked (``Reader``), and what runs in it (``serve``).

It is given open files and the name of a function, and answers with what that gives. The system ends it at its bounds
(``Limits``), whoever else looks at it; then another takes its place. It ends with the process that started it, whose end of
the line is then closed.

What is said both ways are plain values (``marshal``, which makes nothing else), each after its length. A list that is made
piece by piece is sent so: between the pieces others in the server get their turn.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import marshal
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ks_core import errors
from ks_core.errors import KSLotteryError
from ks_core.places import ROOT

log = logging.getLogger(__name__)

#: Bytes of the longest piece of an answer, and of a whole one.
LONGEST_PIECE, LONGEST_ANSWER = 64 << 20, 256 << 20
MOST_FILES = 64

_LENGTH = struct.Struct("!Q")
#: What a message is: a piece of a list, the end of that list, an answer, an error, or that its memory was not enough.
_PIECE, _LIST, _ANSWER, _ERROR, _MEMORY = b"p", b"l", b"a", b"e", b"m"
#: What is said last: that it waits for the next call, or that it ends.
_STAYS, _LEAVES = b"+", b"-"


@dataclass(frozen=True)
class Limits:
    """For one call: ``seconds`` of computing, ``patience`` seconds on the clock. For the process: ``memory``, bytes that it may
    take beyond what it takes at its start; one that holds more than ``kept`` bytes after a call is not kept."""

    seconds: float
    patience: float
    memory: int
    kept: int


class Exceeded(Exception):
    """A bound was reached. The message goes on from the name of what was read; ``bound`` is which, in words: empty where the
    process failed or was ended otherwise."""

    def __init__(self, message: str, bound: str = "") -> None:
        super().__init__(message)
        self.bound = bound


class Failed(Exceeded):
    """The program itself failed. What happened is in the log."""


class Reader:
    """The process, seen from the one that started it. Asked by one thread at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process is there: nobody ended it."""
        return self._process.poll() is None

    def ask(
        self,
        function: Callable[..., Any],
        files: Sequence[BinaryIO],
        arguments: dict[str, Any],
        heard: Callable[[Any], None] | None = None,
    ) -> Any:
        """``function(*files, **arguments)``. With ``heard`` it is given what ``function`` yields as it comes, and the answer is
        empty. Raises ``Exceeded``, and the errors for people that ``function`` raises."""
        if not self.runs:  # somebody ended it
            self._renew()
        request = marshal.dumps(
            (
                function.__module__,
                function.__qualname__,
                arguments,
                self.limits.seconds,
                self.limits.patience,
                self.limits.kept,
            )
        )
        # The process ends itself before; this is for a machine that stands still.
        self._line.settimeout(self.limits.patience + 15)
        try:
            socket.send_fds(self._line, [_LENGTH.pack(len(request))], [file.fileno() for file in files])
            self._line.sendall(request)
            kind, said = self._answer(heard)
            stays = _exactly(self._line, 1) == _STAYS
        except (EOFError, OSError):
            raise self._exceeded(self._renew()) from None
        except BaseException:
            self._renew()  # the rest of the answer must not be taken for the next one's
            raise
        if not stays:
            self._renew()
        if kind == _MEMORY:
            raise self._exceeded(None)
        if kind == _ERROR:
            name, message = said
            if not name:
                log.error("a file could not be read:\n%s", message)
                raise Failed("cannot be read: the program failed at it. What happened is in the server's log.")
            raise getattr(errors, name)(message)
        return said

    def stop(self) -> int | None:
        """End the process. Gives its exit code when it had ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # where it broke off, it is ending at this moment
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._line.close()
        return ended

    def _answer(self, heard: Callable[[Any], None] | None) -> tuple[bytes, Any]:
        pieces: list[Any] = []
        whole = 0
        while True:
            kind = _exactly(self._line, 1)
            (length,) = _LENGTH.unpack(_exactly(self._line, _LENGTH.size))
            whole += length
            if length > LONGEST_PIECE or whole > LONGEST_ANSWER:
                raise Exceeded(
                    f"holds more than a page shows ({max(whole, LONGEST_PIECE) >> 20:,} MB). Use the command line for it."
                )
            said = marshal.loads(_exactly(self._line, length))
            if kind != _PIECE:
                return kind, pieces if kind == _LIST else said
            if heard is None:
                pieces.append(said)
            else:
                whole = 0  # nothing of it is kept here
                heard(said)

    def _start(self) -> None:
        self._line, there = socket.socketpair()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ks_core.jobs.reading", str(self.limits.memory)],
                stdin=there.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                start_new_session=True,  # a Ctrl-C in the terminal is for the server, with which it ends anyhow
                # NumPy's threads would each take memory in advance.
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    def _exceeded(self, ended: int | None) -> Exceeded:
        """Why there was no answer, by the process's exit code; ``None``: it said itself that its memory was not enough."""
        if ended == -signal.SIGPROF:
            bound = f"{self.limits.seconds} seconds of computing"
        elif ended == -signal.SIGALRM:
            bound = f"{self.limits.patience} seconds"
        elif ended is None:
            bound = f"{self.limits.memory >> 20:,} MB of memory"
        else:  # the system had no more of it, or somebody ended it
            bound = ""
        return Exceeded(
            f"takes more than {bound or 'the machine has'} to read, which this server gives to no file. Expected less of it, or "
            "something sound; the command line reads without this bound.",
            bound,
        )

    def _renew(self) -> int | None:
        ended = self.stop()
        self._start()
        return ended


def _exactly(line: socket.socket, length: int) -> bytes:
    """So many bytes. Raises ``EOFError`` when the line ends before, ``OSError`` when they do not come."""
    found = bytearray()
    while len(found) < length:
        piece = line.recv(min(length - len(found), 1 << 20))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def serve(memory: int) -> None:
    """The process itself: answers what comes through the socket that is its standard input, until that is closed.

    ``memory`` are the bytes that it may take beyond what it takes now.
    """
    line = socket.socket(fileno=os.dup(0))
    os.nice(5)  # the server answers first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # where the system has no such bound, time alone is bounded
        # Of what it holds for itself: programs and files that are mapped do not count.
        resource.setrlimit(resource.RLIMIT_DATA, (_taken(_DATA) + memory,) * 2)
    with contextlib.suppress(BrokenPipeError):  # who asked has gone, and so this ends too
        _answer_all(line)


def _answer_all(line: socket.socket) -> None:
    while True:
        head, descriptors, _, _ = socket.recv_fds(line, _LENGTH.size, MOST_FILES)
        if not head:
            return
        (length,) = _LENGTH.unpack(head + _exactly(line, _LENGTH.size - len(head)))
        module, name, arguments, seconds, patience, kept = marshal.loads(_exactly(line, length))
        # By their default actions these signals end the process.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, patience)
        enough = _carry_out(line, module, name, descriptors, arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not enough or _taken(_RESIDENT) > kept:
            line.sendall(_LEAVES)
            return
        line.sendall(_STAYS)


def _carry_out(line: socket.socket, module: str, name: str, descriptors: list[int], arguments: dict[str, Any]) -> bool:
    """Call, and say what came of it. Whether the memory was enough."""
    try:
        with contextlib.ExitStack() as opened:
            files = [opened.enter_context(os.fdopen(descriptor, "rb")) for descriptor in descriptors]
            found = getattr(importlib.import_module(module), name)(*files, **arguments)
            if not isinstance(found, Iterator):
                _say(line, _ANSWER, found)
                return True
            for piece in found:
                _say(line, _PIECE, piece)
            _say(line, _LIST, None)
            return True
    except MemoryError:
        pass  # said below, when what was held is let go of
    except KSLotteryError as error:
        _say(line, _ERROR, (type(error).__name__, str(error)))
        return True
    except Exception:
        _say(line, _ERROR, ("", traceback.format_exc()))
        return True
    _say(line, _MEMORY, None)
    return False


def _say(line: socket.socket, kind: bytes, value: Any) -> None:
    data = marshal.dumps(value)
    line.sendall(kind + _LENGTH.pack(len(data)))
    line.sendall(data)


#: What the system says of a process in ``statm``, by its place: what it holds in memory, and what it has asked for by itself.
_RESIDENT, _DATA = 1, 5


def _taken(field: int) -> int:
    """Bytes that this process takes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[field]) * resource.getpagesize()
    except OSError:
        return 0


if __name__ == "__main__":
    from ks_core.jobs.reading import serve as run  # the module by its name, so that there is one of it

    run(int(sys.argv[1]))

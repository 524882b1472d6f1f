"""The one door: a file is opened here whenever its path came from outside.

It came from outside when somebody typed it, when a link of the app carried it, or when it stood in a file that one of these
led to: an adapter's base, a shard, a corpus. Whatever it came through, it is followed to its end, and opened only where

- there are no roots, or the end lies in one of them (``access``), among the workspace's runs, or in a place that the
  program fills itself (``OWN``: the demo, the hub's cache);
- and, on a read-only server, in such a place, or where a prepared study lies.

A link that ends in a place of ``OWN`` counts as what it is: only a path that itself lies there is taken for the program's own.

Opened is the end, never the link, and only a plain file: no pipe is waited for. Then the system is asked where the open
file lies, so that a link that is changed meanwhile opens nothing. What is refused is refused in the same words whether
there is anything or not. It does not read formats, and it does not know what a checkpoint is.

``tests/hostile/test_door.py`` finds code that opens a file by another way.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ks_core.errors import AccessError
from ks_core.store import access

#: Functions that give the folders which the program itself fills. Whoever fills one puts it here.
OWN: list[Callable[[], Path]] = []


def end(path: Path) -> Path:
    """Where a path leads, links followed, whether there is anything or not.

    Raises ``AccessError`` where nothing may be opened, and ``OSError`` for what can be no path.
    """
    try:
        place = Path(os.path.realpath(path))
    except ValueError:  # a zero, or half a character
        raise OSError(errno.EINVAL, "it is no path", str(path)) from None
    _check(path, place)
    return place


def allows(path: Path) -> bool:
    """Whether a file there would be opened, if there is one."""
    try:
        end(path)
    except (AccessError, OSError):
        return False
    return True


def open_file(path: Path) -> BinaryIO:
    """A plain file, opened for reading as bytes.

    Raises ``AccessError`` where nothing may be opened; ``OSError`` with the path as given for a file that is not there,
    cannot be read, or is a folder, a pipe or a device.
    """
    place = end(path)
    # Neither a link that took the end's place meanwhile is followed, nor a pipe waited for.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(place, flags)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        _check(path, _lies(descriptor, place))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path) -> bytes:
    """All of a plain file. Raises what ``open_file`` raises."""
    with open_file(path) as file:
        return file.read()


def size(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def name_of(file: BinaryIO, path: Path) -> str:
    """A name by which a library opens this very file, while it is open: for libraries that take no open file.

    ``path`` is what it was opened from. Where the system has no names for open files, it is the end of that path.
    """
    name = f"/proc/self/fd/{file.fileno()}"
    return name if os.path.exists(name) else str(end(path))


def files_below(folder: Path) -> Iterator[Path]:
    """Every plain file under a folder, in the order of their names; not those to which a link out of the folder leads."""
    home = end(folder)
    for path in sorted(folder.rglob("*")):
        if Path(os.path.realpath(path)).is_relative_to(home) and path.is_file():
            yield path


def _check(path: Path, place: Path) -> None:
    """Raise ``AccessError`` unless what lies at ``place``, to which ``path`` leads, may be opened."""
    roots, read_only = access.roots(), access.read_only()
    if (roots is None and not read_only) or place.is_relative_to(access.runs()) or _is_own(path, place):
        return
    if roots is not None and not any(place.is_relative_to(root) for root in roots):
        raise access.outside(str(path))
    if read_only and not any(place.is_relative_to(folder) for folder in access.shown()):
        raise access.not_shown(str(path))


def _is_own(path: Path, place: Path) -> bool:
    """Whether a path lies in a place that the program fills, and ends there too."""
    given = Path(os.path.abspath(path))
    folders = (make() for make in OWN)
    return any(given.is_relative_to(os.path.abspath(f)) and place.is_relative_to(f.resolve()) for f in folders)


def _lies(descriptor: int, place: Path) -> Path:
    """Where an open file lies, as the system says it; elsewhere, where its path leads now."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return Path(os.path.realpath(place))

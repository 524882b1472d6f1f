"""Parallel text in files, line by line: which files are read, and how pairs are made of their lines.

Files come from strangers, and a line may be a gigabyte long. So everything here has a bound, and nothing is held but the line
that is looked at. The functions that make pairs take open files and plain values: they may run in another process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ks_core import values
from ks_core.errors import CorpusError
from ks_core.store import door

#: Source and target, as they are found.
Pairs = Iterator[tuple[str, str]]

#: Bounds on a file of text: its bytes, its lines, the bytes of a line, the values of a line of JSON. Text that a run can use
#: is far smaller.
LARGEST_FILE, MOST_LINES, LONGEST_LINE, MOST_VALUES = 1 << 30, 2_000_000, 1 << 20, 200_000


@dataclass(frozen=True)
class Files:
    """Text in files that are still to be opened: ``function``, one of this file's, makes pairs of them when they are.

    It is called with the open files in their order, and with ``arguments``, which are plain values: it may run in another
    process (``jobs.bounded``).
    """

    paths: tuple[Path, ...]
    function: Callable[..., Pairs]
    arguments: dict[str, Any]


def opened(path: Path) -> BinaryIO:
    """A file of text, open. Raises ``CorpusError`` where there is none, or none of a size that is read."""
    try:
        found = door.open_file(path)
    except FileNotFoundError:
        reason = "it does not exist"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        size = door.size(found)
        if size <= LARGEST_FILE:
            return found
        found.close()
        reason = f"it has {size:,} bytes, the largest that is read has {LARGEST_FILE:,}"
    raise CorpusError(f"{path} cannot be read: {reason}. Expected UTF-8 text.")


def _lines(files: Iterable[BinaryIO], paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The lines of text files, ended by a line feed alone (a sentence may hold any other separator of Unicode), each after
    what a person calls it. Raises ``CorpusError`` for too many, one that is too long, or none of UTF-8."""
    whole = 0
    for file, path in zip(files, paths, strict=True):
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                break
            whole += 1
            if whole > MOST_LINES:
                raise CorpusError(
                    f"{path} brings more than {MOST_LINES:,} lines. Take a part of them: a run needs far fewer."
                )
            where = f"{path}, line {number}"
            if len(line) > LONGEST_LINE:
                raise CorpusError(f"{where} has more than {LONGEST_LINE:,} bytes. Expected a pair of sentences a line.")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise CorpusError(f"{path} cannot be read: it is not UTF-8 text. Expected UTF-8 text.") from None
            yield where, text.removesuffix("\n").removesuffix("\r")


def columns(text: BinaryIO, path: str) -> Pairs:
    """The first two columns of each line. Raises ``CorpusError`` for a line of one."""
    for where, line in _lines([text], [path]):
        row = line.split("\t", 2)
        if not line.strip():
            continue
        if len(row) < 2:
            raise CorpusError(f"{where}: one column found, two expected (source, tab, target).")
        yield row[0], row[1]


def records(text: BinaryIO, path: str, source_field: str, target_field: str) -> Pairs:
    """Two fields of the JSON object in each line. Raises ``CorpusError`` for a line without them."""
    for where, line in _lines([text], [path]):
        if not line.strip():
            continue
        try:
            record = values.parsed(line.encode(), MOST_VALUES)
        except values.TooMany as found:
            raise CorpusError(f"{where} holds about {found} values. Expected a pair of sentences a line.") from None
        except (ValueError, RecursionError):
            raise CorpusError(f"{where} is not JSON. Expected one object a line.") from None
        if not isinstance(record, dict):
            raise CorpusError(
                f'{where} is not an object. Expected {{"{source_field}": "...", "{target_field}": "..."}}.'
            )
        for name in (source_field, target_field):
            if not isinstance(record.get(name), str):
                have = ", ".join(map(str, record)) or "none"
                raise CorpusError(
                    f"{where} has no text in field {name!r} (fields there: {have}). "
                    "Name the fields that hold source and target."
                )
        yield record[source_field], record[target_field]


def side_by_side(*text: BinaryIO, folder: str, codes: list[str], paths: list[str], first: int) -> Pairs:
    """The lines of the ``first`` files beside those of the others. Raises ``CorpusError`` where one side has more."""
    left, right = (_lines(text[part], paths[part]) for part in (slice(first), slice(first, None)))
    for number, (one, other) in enumerate(itertools.zip_longest(left, right)):
        if one is None or other is None:
            more = number + 1 + sum(1 for _ in (right if one is None else left))
            counts = (number, more) if one is None else (more, number)
            raise CorpusError(
                f"{folder}: {codes[0]} has {counts[0]} lines and {codes[1]} {counts[1]}. "
                "Both must have the same sentences in the same order."
            )
        yield one[1], other[1]

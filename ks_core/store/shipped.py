"""Results that come with the program: a second layer below the workspace, which is only read.

What the demo's pages show takes most of an hour to make, so it was made once and lies in ``assets/demo/evidence``, in the workspace's own
order, found by the same keys. The workspace goes before it. Keys name checkpoints by content, so a changed checkpoint finds
nothing here; jobs, which are known by what was asked, are shown only while every checkpoint that they were made from is as it was.
A result that another version of a library would name otherwise is not found either, and is made like any other.

    evidence.json                 when, how long and on what each part was made, and from which checkpoints
    cache/<kind>/<key>.safetensors.gz
    audits/<key>/<panel>.json
    jobs/<job>/request.json ...

It is for looking: the app shows it (``show``), with ``Provenance`` beside it. Jobs, commands and the functions for Python compute, and
see nothing of it. ``KS_LOTTERY_SHIPPED=0`` has the app show only what was made in its workspace.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ks_core import places
from ks_core.store import workspace

#: Where it lies, and the file that tells of it.
FOLDER, MANIFEST = places.ASSETS / "demo" / "evidence", "evidence.json"
SETTING = "KS_LOTTERY_SHIPPED"

#: Whether checkpoints, a content by source, are as they were. Until somebody shows what is shipped, nothing is.
Check = Callable[[Mapping[str, str]], bool]
_check: Check | None = None
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@dataclass(frozen=True)
class Provenance:
    """Where a shipped result comes from: when it was ``made`` (Unix time), how many ``seconds`` that took (``None``: not noted) on
    how many ``cores``, and by which version of this ``program``."""

    made: float
    seconds: float | None
    cores: int
    program: str

    @property
    def date(self) -> str:
        """The day that it was made on.

        >>> Provenance(0.0, 90.0, 2, "1.0").date
        '1 January 1970'
        """
        day = time.gmtime(self.made)
        return f"{day.tm_mday} {time.strftime('%B %Y', day)}"

    @property
    def took(self) -> str:
        """How long it took; empty where that was not noted.

        >>> Provenance(0.0, 90.0, 2, "1.0").took
        'in 2 minutes'
        """
        if self.seconds is None:
            return ""
        minutes = round(self.seconds / 60)
        return "in under a minute" if minutes < 1 else "in a minute" if minutes == 1 else f"in {minutes:,} minutes"

    @property
    def where(self) -> str:
        """On what it was made, and by what."""
        return f"on {self.cores} {'core' if self.cores == 1 else 'cores'} of CPU, by version {self.program}"

    @property
    def sentence(self) -> str:
        """All of it, for a person."""
        return f"{SHIPPED}: made on {self.date}{f' {self.took}' if self.took else ''} {self.where}."


#: How every sentence about it begins.
SHIPPED = "Shipped with the demo, not computed here"


def sentence(parts: Mapping[str, Provenance | None]) -> str:
    """What of several results, by what they are called, is shipped, and when, how long and on what it was made; empty where none is.

    >>> sentence({"the ledger": Provenance(0.0, 150.0, 2, "1.0"), "the controls": None})
    'Shipped with the demo, not computed here: the ledger, made on 1 January 1970 in 2 minutes on 2 cores of CPU, by version 1.0.'
    """
    grouped: dict[Provenance, list[str]] = {}
    for name, found in parts.items():
        if found:
            grouped.setdefault(found, []).append(name)
    if not grouped:
        return ""
    last = max(grouped, key=lambda found: found.made)
    same = all((found.date, found.where) == (last.date, last.where) for found in grouped)
    if len(grouped) > 1 and same:
        told = [f"{', '.join(names)}{f' ({found.took})' if found.took else ''}" for found, names in grouped.items()]
        return f"{SHIPPED}: {'; '.join(told)}. Made on {last.date} {last.where}."
    told = [
        f"{', '.join(names)}, made on {found.date}{f' {found.took}' if found.took else ''} {found.where}"
        for found, names in grouped.items()
    ]
    return f"{SHIPPED}: {'; '.join(told)}."


def show(check: Check) -> None:
    """Have this process show what is shipped, as long as ``check`` says that its checkpoints are as they were."""
    global _check
    _check = check


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Within it only the workspace is looked at: what would be made anew."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def folder() -> Path | None:
    """Where shipped results are looked for; ``None`` where they are not to be shown, or none are there."""
    if _check is None or _hidden.get() or os.environ.get(SETTING, "").strip().lower() in ("0", "no", "false", "off"):
        return None
    return FOLDER if (FOLDER / MANIFEST).is_file() else None


def cached(kind: str, name: str) -> tuple[bytes, Provenance] | None:
    """The bytes of a cache's entry, as the cache wrote them, and where they come from."""
    home = folder()
    if home is None:
        return None
    try:
        data = gzip.decompress((home / cache_part(kind, name)).read_bytes())
    except (OSError, EOFError, ValueError):  # not there, or damaged: it is made like any other
        return None
    found = _of(home, cache_part(kind, name))
    return (data, found) if found else None


def stamp(kind: str, name: str) -> str:
    """What tells an entry of the cache, and what the manifest says of it, from a changed one; empty where there is none."""
    home = folder()
    if home is None:
        return ""
    try:
        seen = [(home / part).stat() for part in (cache_part(kind, name), MANIFEST)]
    except OSError:
        return ""
    return " ".join([str(home), *(f"{one.st_size} {one.st_mtime_ns} {one.st_ino}" for one in seen)])


def cache_part(kind: str, name: str) -> str:
    """What the entry of a cache's file is called here."""
    return f"cache/{kind}/{name}.gz"


def read_json(*part: str) -> tuple[Any, Provenance] | None:
    """The content of a shipped JSON file, and where the part comes from that its folder is."""
    home = folder()
    value = workspace.read_json(home.joinpath(*part)) if home else None
    found = _of(home, "/".join(part[:-1])) if home and value is not None else None
    return (value, found) if found else None


def jobs() -> list[Path]:
    """The folders of the shipped jobs, that which the manifest names last first, as it is looked at first; none where a checkpoint that
    they were made from is another one."""
    home = folder()
    if home is None or _check is None or not _check(_manifest(home).get("contents", {})):
        return []
    return [home / name for name in reversed(_manifest(home).get("parts", {})) if name.startswith("jobs/")]


def provenance(place: Path) -> Provenance | None:
    """Where a folder comes from that is shipped; ``None`` for one of the workspace."""
    home = folder()
    return _of(home, place.relative_to(home).as_posix()) if home and place.is_relative_to(home) else None


def _of(home: Path, part: str) -> Provenance | None:
    told = _manifest(home)
    own = told.get("parts", {}).get(part)
    return Provenance(own["made"], own["seconds"], told["cores"], told["program"]) if own else None


def _manifest(home: Path) -> dict[str, Any]:
    return _read(home / MANIFEST, (home / MANIFEST).stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, written: int) -> dict[str, Any]:
    """The manifest, read once as it was ``written``; empty where it is damaged."""
    found = workspace.read_json(path)
    return found if isinstance(found, dict) else {}

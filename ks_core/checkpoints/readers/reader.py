"""What a reader is, and what it is asked about.

A reader says whether a source is its own, and opens it. One that only finds out where a source lies (the demo's names,
the hub's ids, paths) hands on what it found; so does an adapter with its base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ks_core.checkpoints.checkpoint import Checkpoint
from ks_core.registry import Entry
from ks_core.values import without_choice


@dataclass(frozen=True)
class Source:
    """What is to be opened, as far as it is known.

    ``name`` without the embedding that is chosen behind it (``choice``: ``BASE::encoder``); ``base`` the base for an adapter,
    where another one is wanted than it names; ``above`` the folders of the adapters that led here, the outermost first.
    ``path``, the file or folder, and ``label``, short and for people, are known once it is ``found``; no format's reader is
    asked before. ``beside`` is the base with which it is compared, for an adapter whose own is not here.
    """

    name: str
    base: str | None = None
    above: tuple[Path, ...] = ()
    path: Path = Path()
    label: str = ""
    found: bool = False
    choice: str = ""
    beside: str = ""

    @classmethod
    def of(cls, given: str, base: str | None = None, above: tuple[Path, ...] = (), beside: str = "") -> Source:
        """A source as somebody writes it."""
        name, choice = without_choice(given)
        return cls(name, base, above, choice=choice, beside=beside)

    @property
    def given(self) -> str:
        """The source as it was given."""
        return f"{self.name}::{self.choice}" if self.choice or "::" in self.name else self.name

    def at(self, path: Path, label: str) -> Source:
        """The same, found in this place."""
        return replace(self, path=path, label=label, found=True)


#: Opens a source with whatever reader fits; raises ``CheckpointError``, or ``AccessError`` for what must not be read.
Onward = Callable[[Source], Checkpoint]


@dataclass(frozen=True, kw_only=True)
class Reader(Entry):
    """A kind of source.

    ``is_mine(source)`` says whether the reader knows it, by its name or by the names of files, and changes nothing.
    ``read(source, onward)`` opens it and raises ``CheckpointError`` with one sentence for everything that can be wrong
    with it; ``onward`` opens what it leads to.
    """

    is_mine: Callable[[Source], bool]
    read: Callable[[Source, Onward], Checkpoint]

"""Lists that people add to: selection rules, extraction rules, prompts, corpora, arms, panels of the audit, kinds of jobs.

Each is a ``Registry`` of entries, declared where its entries are defined; an entry says its name, its title, what it
is, where it comes from, and the function that does it. Adding one is writing its function and its line in that list;
from outside the program it is ``RULES.add(Rule(...))``.

    >>> colours = Registry("colour", [Entry("red", "Red", "What stops.")])
    >>> colours.find("red").title
    'Red'
    >>> colours.find("green")
    Traceback (most recent call last):
    ks_core.errors.SettingsError: 'green' is no colour. Expected one of: red.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ks_core.errors import KSLotteryError, SettingsError


@dataclass(frozen=True)
class Entry:
    """What every entry says of itself; a registry's own entries add ``function`` and what else they need.

    ``name`` is what the command line, links and saved files call it, so it never changes; ``title`` what a page calls
    it; ``about`` is a sentence; ``source`` names a paper or program (empty: this program's own).
    """

    name: str
    title: str
    about: str
    source: str = ""


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E], Generic[E]):
    """Entries by name, in the order of their list."""

    def __init__(self, what: str, entries: Iterable[E] = (), *, error: type[KSLotteryError] = SettingsError) -> None:
        #: What an entry is called in an error ("extraction rule"), and the error that a wrong name raises.
        self.what, self.error = what, error
        self._entries: dict[str, E] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: E) -> E:
        """Put an entry on the list. Raises ``SettingsError`` for a name that is taken."""
        if entry.name in self._entries:
            raise SettingsError(f"There is a {self.what} {entry.name!r} already. Choose another name.")
        self._entries[entry.name] = entry
        return entry

    def drop(self, name: str) -> None:
        """Take an entry off the list again, if it is on it."""
        self._entries.pop(name, None)

    def find(self, name: Any) -> E:
        """The entry of a name. Raises ``error`` (``SettingsError``) with the names there are."""
        if not isinstance(name, str) or name not in self._entries:
            raise self.error(f"{str(name)[:80]!r} is no {self.what}. Expected one of: {', '.join(self._entries)}.")
        return self._entries[name]

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def named(function: str) -> Callable[..., Any]:
    """The function behind ``module:function``, imported now: what an entry names because it is costly to load."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)

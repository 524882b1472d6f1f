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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ks_core.errors import SettingsError


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

    def __init__(self, what: str, entries: Iterable[E] = ()) -> None:
        #: What an entry is called in an error: "extraction rule".
        self.what = what
        self._entries: dict[str, E] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: E) -> E:
        """Put an entry on the list. Raises ``SettingsError`` for a name that is taken."""
        if entry.name in self._entries:
            raise SettingsError(f"There is a {self.what} {entry.name!r} already. Choose another name.")
        self._entries[entry.name] = entry
        return entry

    def find(self, name: Any) -> E:
        """The entry of a name. Raises ``SettingsError`` that lists the names there are."""
        if not isinstance(name, str) or name not in self._entries:
            raise SettingsError(f"{str(name)[:80]!r} is no {self.what}. Expected one of: {', '.join(self._entries)}.")
        return self._entries[name]

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

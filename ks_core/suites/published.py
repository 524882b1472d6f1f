"""What was published: the results of the paper and of its replication that are known, as data (``assets/paper.json``).

A row is a question; its results are the answers of one source or the other, with who quotes whom. Where no figure is known there is none, and
words say so. Nothing here is computed but what ``derived`` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ks_core import values
from ks_core.errors import SettingsError
from ks_core.places import ASSETS

#: Where results come from, and what can be measured of a suite: a score or gain of answers, a share of another arm's gain, the end token's share
#: of a gain, the share of answers that end; ``published``: counted in the published tickets; ``none``: not by a suite.
SOURCES = ("paper", "replication")
KINDS = ("score", "gain", "share", "stopping", "stops", "published", "none")
#: Kinds that are of an arm, and such as are of another one too.
OF_ARM, OF_ANOTHER = ("score", "gain", "share", "stopping", "stops"), ("share",)


@dataclass(frozen=True)
class Result:
    """One figure of one source. ``value`` in ``unit`` (``None``: not known), ``to`` the other end where a range is given; ``low`` and ``high`` its 95%
    interval; ``about``: given as about so much. ``second_hand``: quoted by another. ``rule`` cut the answers; ``where`` it stands; ``derived``
    from which other figures; ``words`` beside it."""

    id: str
    source: str
    second_hand: bool
    value: float | None
    unit: str
    to: float | None = None
    low: float | None = None
    high: float | None = None
    about: bool = False
    rule: str = ""
    where: str = ""
    derived: str = ""
    words: str = ""

    def __post_init__(self) -> None:
        values.text("A result's id", self.id)
        if self.source not in SOURCES:
            raise SettingsError(f"{self.id}: the source is {self.source!r}. Expected one of: {', '.join(SOURCES)}.")
        for name in ("second_hand", "about"):
            values.truth(f"{self.id}: {name}", getattr(self, name))
        for name in ("value", "to", "low", "high"):
            if getattr(self, name) is not None:
                values.number(f"{self.id}: {name}", getattr(self, name))
        if self.value is None and not self.words:
            raise SettingsError(f"{self.id} has neither a value nor words. Expected one of them.")

    @property
    def text(self) -> str:
        """The figure for a person, without who says it.

        >>> Result("a", "paper", True, 29.0, "spBLEU", about=True).text, Result("b", "replication", False, 96, "%", to=100).text
        ('about 29 spBLEU', '96 to 100%')
        """
        if self.value is None:
            return "not known"
        unit = self.unit if self.unit == "%" else f" {self.unit}"
        span = f" to {self.to:g}" if self.to is not None else ""
        bounds = f" [{self.low:g}, {self.high:g}]" if self.low is not None and self.high is not None else ""
        rule = f" ({self.rule.replace('_', ' ')})" if self.rule else ""
        return f"{'about ' if self.about else ''}{self.value:g}{span}{unit}{bounds}{rule}"

    @property
    def sentence(self) -> str:
        """The figure with what has to stand beside it wherever it is repeated: that it is second hand, derived, and other words.

        >>> Result("a", "paper", True, 29.0, "spBLEU", about=True).sentence
        'about 29 spBLEU (second hand)'
        """
        marks = [
            *(["second hand"] if self.second_hand else []),
            *([f"derived: {self.derived}"] if self.derived else []),
        ]
        beside = f" ({', '.join(marks)})" if marks else ""
        known = f"{self.text}{beside}" if self.value is not None else ""
        return f"{known}{'. ' if known and self.words else ''}{self.words}"

    def nearest(self, value: float) -> float | None:
        """What of it a measured value is laid beside: the figure, of a range the nearest of its values; ``None`` where none is known."""
        if self.value is None or self.to is None:
            return self.value
        return min(max(value, self.value), self.to)


@dataclass(frozen=True)
class Row:
    """A question and what was answered. ``measure`` says how a suite answers it (``KINDS``); ``suite`` the preset that asks it, ``command`` another
    command that does; ``differs`` what to know of protocols; ``against``: what is known speaks against the claim."""

    id: str
    title: str
    model: str
    measure: Mapping[str, Any]
    results: tuple[Result, ...] = field(repr=False)
    suite: str = ""
    command: str = ""
    differs: str = ""
    against: bool = False

    def __post_init__(self) -> None:
        kind = self.measure.get("kind")
        if kind not in KINDS:
            raise SettingsError(f"{self.id}: {kind!r} is no kind of measure. Expected one of: {', '.join(KINDS)}.")
        if (kind in OF_ARM and not self.measure.get("arm")) or (kind in OF_ANOTHER and not self.measure.get("of")):
            raise SettingsError(f"{self.id}: a {kind} is of an arm, and none is named.")
        if not self.results:
            raise SettingsError(f"{self.id} has no result. Expected one at least.")

    def of(self, source: str) -> tuple[Result, ...]:
        """The results of a source."""
        return tuple(result for result in self.results if result.source == source)

    def said(self, source: str) -> str:
        """What a source says, for a person; empty where it says nothing."""
        return "; ".join(result.sentence for result in self.of(source))


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """Every row, in the order of the file. Raises ``SettingsError`` for a file that is damaged."""
    found = tuple(_row(told) for told in values.members("paper.json: rows", _file()["rows"]))
    ids = [row.id for row in found] + [result.id for row in found for result in row.results]
    if len(set(ids)) < len(ids):
        raise SettingsError("paper.json has an id twice. Expected each once: install the program anew.")
    return found


def protocols() -> dict[str, dict[str, Any]]:
    """What is known of how each source trained, asked and scored: ``second_hand`` and ``facts`` by source."""
    return dict(_file()["protocols"])


def sources() -> dict[str, dict[str, str]]:
    """The sources: ``title``, how they are ``cited``, and a ``note``."""
    return dict(_file()["sources"])


def _file() -> Mapping[str, Any]:
    try:
        return values.table("paper.json", json.loads((ASSETS / "paper.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"paper.json, which comes with the program, cannot be read ({type(error).__name__}). Install it anew."
        ) from None


def _row(told: Mapping[str, Any]) -> Row:
    known = values.of_fields(Row, told)
    results = tuple(
        Result(**values.of_fields(Result, one)) for one in values.members("results", known.get("results", ()))
    )
    try:
        return Row(**{**known, "results": results})
    except TypeError as error:
        raise SettingsError(f"paper.json: a row lacks something ({error}). Install the program anew.") from None

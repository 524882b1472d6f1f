"""The newest attribution of a pair, and what the model's rules gave its rows, found again by the pair alone: what is shown beside its
tokens, and what tickets are chosen by.

Those that ``kept`` holds are found by everything that decided them. Whoever looks at a table of tokens names a pair and no more, so
the job ``rules`` notes here what it came to last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ks_core.store.shipped import Provenance
from ks_core.study.scan import Study
from ks_core.tickets.changed import NEEDS, Changed

if TYPE_CHECKING:
    from ks_core.ledger.attribution import Attribution

#: Raised by one whenever a note of before would be read otherwise.
VERSION = 1

C = TypeVar("C", bound=Changed)


@dataclass(frozen=True)
class Attributed:
    """What each changed row contributes to the gain of tuned over base: ``token_ids`` int64 (m,), ascending, ``total`` float64 (m,)
    in nats summed over ``sentences`` references of ``text``; ``gain`` is the true difference, ``points`` those of the line."""

    token_ids: np.ndarray
    total: np.ndarray
    text: str
    sentences: int
    points: int
    gain: float
    #: Where it comes from, if it was not made here but came with the program.
    shipped: Provenance | None = None

    @property
    def sentence(self) -> str:
        """Of what it is, for a person."""
        return (
            f"Attribution: nats of the gain over the base that a row carries, {self.gain:.4g} in all, by integrated gradients with "
            f"{self.points} points on {self.sentences:,} references of {self.text}.{f' {self.shipped.sentence}' if self.shipped else ''}"
        )

    def of(self, token_ids: np.ndarray) -> np.ndarray:
        """Of each of some tokens, float64 (n,); NaN of a row that did not change."""
        place = np.minimum(np.searchsorted(self.token_ids, token_ids), max(0, len(self.token_ids) - 1))
        if not len(self.token_ids):
            return np.full(len(token_ids), np.nan)
        return np.where(self.token_ids[place] == token_ids, self.total[place], np.nan)


def note(study: Study, made: Attribution, text: str) -> None:
    """Keep an attribution of the pair as its newest."""
    found = Attributed(made.token_ids, made.total, text, made.sentences, made.points, sum(made.gain.values()))
    told = {name: value for name, value in asdict(found).items() if name not in ("token_ids", "total", "shipped")}
    study.cache.store("attributed", _key(study), {"token_ids": found.token_ids, "total": found.total}, told)


def attributed(study: Study) -> Attributed | None:
    """The newest attribution of the pair; ``None`` where none was made. Nothing is computed."""
    entry = study.cache.load("attributed", _key(study))
    if entry is None:
        return None
    fields: dict[str, Any] = {**entry.arrays, **entry.note}
    return Attributed(**fields, shipped=entry.shipped)


def note_scores(study: Study, token_ids: np.ndarray, scores: Mapping[str, np.ndarray]) -> None:
    """Keep what rules gave the changed rows: float64 (m,) by the rule's name. Those of other rules that were kept before stay."""
    if not scores:
        return
    entry = study.cache.load("scored", _key(study))
    before = dict(entry.arrays) if entry else {}
    if not np.array_equal(before.pop("token_ids", token_ids), token_ids):
        before = {}
    study.cache.store("scored", _key(study), {**before, **scores, "token_ids": token_ids}, {})


def with_scores(changed: C, report: object) -> C | str:
    """The rows with what the model's rules last gave them; the reason where they were not compared, as the end of a sentence."""
    assert changed.study is not None  # or nobody would be asked
    entry = changed.study.cache.load("scored", _key(changed.study))
    if entry is None or not np.array_equal(entry.arrays["token_ids"], changed.token_ids):
        return NEEDS["scored"].about
    return replace(changed, scored={name: column for name, column in entry.arrays.items() if name != "token_ids"})


def _key(study: Study) -> dict[str, Any]:
    return {**study.key, "attributed": VERSION}

"""A trajectory: what the test says of every row that moved, at each of several steps of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.trajectory.layout import COLUMNS, PARTS, Record

if TYPE_CHECKING:
    from ks_core.study.scan import Scan

#: Values of one column at most (points times rows): of a longer recording every other point is left out, and so on.
MOST_CELLS = 12_000_000


@dataclass(frozen=True)
class Trajectory:
    """Points of a training, by step, and in them the rows that moved at any of them, by token id.

    ``steps`` int64 (r,) ascending; ``token_ids`` int64 (m,) ascending; ``counts`` int32 (r, m) with D = counts / dim; ``l2`` and
    ``cosine`` float64 (r, m) against the start. A recording also has ``touched`` int32 (r, m), optimizer steps so far in which
    the row had a gradient, and ``gradient`` float32 (r, m), the root mean square of that gradient's values; others have ``None``.
    ``size`` is how many rows the embedding has; ``losses`` are (step, loss), and ``parts`` such pairs of the loss on content and on the
    end token, by the names ``content`` and ``end``, as far as they were known. ``shifts`` has of some rows, by token id, the steps at which they
    were recorded whole, int64 (k,) ascending, and there the row less its start, float16 (k, d).
    """

    steps: np.ndarray
    token_ids: np.ndarray
    counts: np.ndarray
    l2: np.ndarray
    cosine: np.ndarray
    dim: int
    size: int
    signature: Signature
    touched: np.ndarray | None = None
    gradient: np.ndarray | None = None
    losses: Sequence[tuple[int, float]] = ()
    parts: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    shifts: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    #: What a person should know of it, in sentences.
    notes: tuple[str, ...] = ()
    #: What was said of the training when it was recorded.
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def every_loss(self) -> dict[str, Sequence[tuple[int, float]]]:
        """Steps and losses, in nats a token: of ``all`` targets, of ``content`` and of the ``end`` token, those that are known."""
        return {name: pairs for name, pairs in {"all": self.losses, **self.parts}.items() if pairs}

    @property
    def statistic(self) -> np.ndarray:
        """D, float64 (r, m)."""
        return self.counts / self.dim

    @property
    def pvalue(self) -> np.ndarray:
        """Exact and two-sided, float64 (r, m)."""
        return pvalue_table(self.dim)[self.counts]

    def winners(self, alpha: float) -> np.ndarray:
        """Rows with p < alpha at each point, bool (r, m)."""
        return (pvalue_table(self.dim) < alpha)[self.counts]

    def first_win(self, alpha: float) -> np.ndarray:
        """The step at which each row first has p < alpha, int64 (m,); -1 for one that never has."""
        wins = self.winners(alpha)
        return np.where(wins.any(axis=0), self.steps[wins.argmax(axis=0)], -1)

    def stays(self, alpha: float) -> np.ndarray:
        """Rows that, once they have p < alpha, have it at every later point too, bool (m,)."""
        wins = self.winners(alpha)
        kept: np.ndarray = (np.maximum.accumulate(wins, axis=0) == wins).all(axis=0)
        return np.logical_and(wins[-1], kept)

    def order(self, point: int = -1) -> np.ndarray:
        """Places of the rows from the largest D at a point to the smallest; equal D by shift, then by id, as in a scan."""
        return np.lexsort((self.token_ids, -self.l2[point], -self.counts[point]))

    @cached_property
    def ranks(self) -> np.ndarray:
        """The rank of each row at each point, from 1, int64 (r, m); by ``order``."""
        found = np.empty(self.counts.shape, np.int64)
        for point in range(len(self.steps)):
            found[point, self.order(point)] = np.arange(1, len(self.token_ids) + 1)
        return found

    def against(self, scan: Scan, alpha: float) -> str:
        """What is to be said where the last point is not what a scan of the training's checkpoint says; empty where it is."""
        counts = np.zeros(self.size, np.int64)
        counts[self.token_ids] = self.counts[-1]
        there = scan.token_ids < self.size
        if (counts[scan.token_ids[there]] == scan.counts[there]).all():
            return ""
        last, won = self.token_ids[self.winners(alpha)[-1]], scan.token_ids[scan.winners(alpha)]
        return (
            f"The last point is not what the tuned checkpoint holds: {len(last):,} rows have p < {alpha:g} here and {len(won):,} there, "
            f"{len(np.intersect1d(last, won)):,} of them the same. It was recorded of another run of this training, or the training went on."
        )

    def sentence(self, alpha: float) -> str:
        """What it comes to, for people."""
        last = int(self.steps[-1])
        if not len(self.token_ids):
            return f"At step {last:,} no row has moved."
        first, wins = self.first_win(alpha), self.winners(alpha)
        found = (
            f"At step {last:,} {len(self.token_ids):,} rows have moved and {int(wins[-1].sum()):,} have p < {alpha:g}."
        )
        if not wins.any():
            return f"{found} None had it before."
        lost = int((wins.any(axis=0) & ~wins[-1]).sum())
        won = first[wins[-1]]
        if len(won):
            found += f" Of these the first won by step {int(won.min()):,}, half by step {int(np.sort(won)[(len(won) - 1) // 2]):,}, the last by step {int(won.max()):,}."
        return found + (f" {lost:,} others won at some point and do not at the end." if lost else "")


def carried_on(
    facts: Mapping[str, Any], records: Sequence[Record], signature: Signature, notes: Sequence[str] = ()
) -> Trajectory:
    """The trajectory of a recording: what a record does not say is as the one before it said.

    ``facts`` and ``records`` are those of ``recording.read``; there is at least one record.
    """
    ids = np.unique(np.concatenate([r.columns["row"] for r in records])).astype(np.int64)
    last_of = {
        record.step: n for n, record in enumerate(records)
    }  # a step's later record has the losses that came late
    thin = 1
    while len(last_of) // thin * max(len(ids), 1) > MOST_CELLS:
        thin *= 2
    kept = set(sorted(last_of)[::-1][::thin])
    now = {name: np.zeros(len(ids), dtype) for name, dtype in COLUMNS.items() if name != "row"}
    now["cosine"][:] = 1
    points: dict[str, list[np.ndarray]] = {name: [] for name in now}
    for n, record in enumerate(records):
        places = np.searchsorted(ids, record.columns["row"])
        for name, column in now.items():
            column[places] = record.columns[name]
            if record.step in kept and last_of[record.step] == n:
                points[name].append(column.copy())
    moved = np.any([row > 0 for row in points["l2"]], axis=0) if len(ids) else np.zeros(0, bool)
    arrays = {name: np.array(rows)[:, moved] for name, rows in points.items()}
    parts = {name: tuple(p for r in records for p in r.parts.get(name, ())) for name in PARTS}
    said = list(notes)
    if thin > 1:
        said.append(f"Of {len(last_of):,} points every {thin}. is shown, counted from the last.")
    return Trajectory(
        steps=np.array(sorted(kept), np.int64), token_ids=ids[moved], dim=facts["width"], size=facts["rows"], signature=signature,
        losses=tuple(pair for record in records for pair in record.losses), parts={name: pairs for name, pairs in parts.items() if pairs},
        shifts=_shifts(records), notes=tuple(said), about=facts["about"], **arrays,
    )  # fmt: skip


def _shifts(records: Sequence[Record]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """What ``Trajectory.shifts`` has of a recording. Of a step that was recorded twice the later record counts."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for record in records:
        places, shifts = record.shifts
        for place, shift in zip(places, shifts, strict=True):
            found.setdefault(int(record.columns["row"][place]), {})[record.step] = shift
    return {
        row: (np.array(list(steps), np.int64), np.stack(list(steps.values()))) for row, steps in sorted(found.items())
    }

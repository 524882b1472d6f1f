"""A trajectory: what the test says of every row that moved, at each of several steps of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.trajectory.recording import COLUMNS, Record

#: Values of one column at most (points times rows): of a longer recording every other point is left out, and so on.
MOST_CELLS = 12_000_000


@dataclass(frozen=True)
class Trajectory:
    """Points of a training, by step, and in them the rows that moved at any of them, by token id.

    ``steps`` int64 (r,) ascending; ``token_ids`` int64 (m,) ascending; ``counts`` int32 (r, m) with D = counts / dim; ``l2`` and
    ``cosine`` float64 (r, m) against the start. A recording also has ``touched`` int32 (r, m), optimizer steps so far in which
    the row had a gradient, and ``gradient`` float32 (r, m), the root mean square of that gradient's values; others have ``None``.
    ``size`` is how many rows the embedding has; ``losses`` are (step, loss).
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
    #: What a person should know of it, in sentences.
    notes: tuple[str, ...] = ()
    #: What was said of the training when it was recorded.
    about: Mapping[str, Any] = field(default_factory=dict)

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
    said = list(notes)
    if thin > 1:
        said.append(f"Of {len(last_of):,} points every {thin}. is shown, counted from the last.")
    return Trajectory(
        steps=np.array(sorted(kept), np.int64), token_ids=ids[moved], dim=facts["width"], size=facts["rows"], signature=signature,
        losses=tuple(pair for record in records for pair in record.losses), notes=tuple(said), about=facts["about"], **arrays,
    )  # fmt: skip

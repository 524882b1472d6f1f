"""Several tuned checkpoints of one base, side by side: who moved which rows, and what the tickets share.

>>> found = line_up({"fr": Study("demo:base", "demo:en-fr"), "de": Study("demo:base", "demo:en-de")})
>>> found.intersections()[0].names, found.table(strings)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ks_core.errors import PairError
from ks_core.signature import Signature, versions
from ks_core.study.scan import Study, readable
from ks_core.tickets.selection import SELECTION_RULES, select
from ks_core.tickets.stability import Run, Stability, compare

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Intersection:
    """Rows that are in exactly these tickets and in no other. ``token_ids`` ascending."""

    names: tuple[str, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Several:
    """The rows that every pair tested, (n,), against m tuned checkpoints.

    ``token_ids`` int64, ascending ids of the base; ``statistic`` (D) and ``pvalue`` float64, ``changed`` and ``ticket`` bool,
    ``rank`` int64 (1: the largest D of that checkpoint), (n, m) each. ``groups`` are names that checkpoints may share, such as
    a language. ``overlap`` compares the tickets two by two.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    token_ids: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray
    changed: np.ndarray
    ticket: np.ndarray
    rank: np.ndarray
    overlap: Stability
    signature: Signature

    def grouped(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Groups in the order in which they occur, and for each the rows in any of its tickets, bool (n, groups)."""
        names = tuple(dict.fromkeys(self.groups))
        columns = [self.ticket[:, [g == name for g in self.groups]].any(axis=1) for name in names]
        return names, np.stack(columns, axis=1)

    def intersections(self, by_group: bool = False) -> list[Intersection]:
        """Every combination of tickets (or of groups) that has rows of its own, the largest first."""
        names, member = self.grouped() if by_group else (self.names, self.ticket)
        found: dict[tuple[str, ...], list[int]] = {}
        anywhere = member.any(axis=1)
        for token, row in zip(self.token_ids[anywhere].tolist(), member[anywhere].tolist(), strict=True):
            found.setdefault(tuple(n for n, inside in zip(names, row, strict=True) if inside), []).append(token)
        made = [Intersection(key, tuple(ids)) for key, ids in found.items()]
        return sorted(made, key=lambda i: (-len(i.token_ids), len(i.names), i.names))

    def table(self, strings: list[str] | None) -> pd.DataFrame:
        """A row per token that is in a ticket: ``token_id, token, tickets`` (in how many), and ``D``, ``rank`` and ``in`` of each."""
        import pandas as pd

        rows = np.nonzero(self.ticket.any(axis=1))[0]
        order = rows[np.lexsort((self.rank[rows].min(axis=1), -self.ticket[rows].sum(axis=1)))]
        columns = {
            "token_id": self.token_ids[order],
            "token": [readable(strings, int(i)) for i in self.token_ids[order]],
            "tickets": self.ticket[order].sum(axis=1),
        }
        for n, name in enumerate(self.names):
            columns |= {
                f"D {name}": self.statistic[order, n], f"rank {name}": self.rank[order, n], f"in {name}": self.ticket[order, n],
            }  # fmt: skip
        return pd.DataFrame(columns)

    @property
    def sentence(self) -> str:
        """What the tickets share, in words."""
        everywhere, anywhere = int(self.ticket.all(axis=1).sum()), int(self.ticket.any(axis=1).sum())
        of = "both" if len(self.names) == 2 else f"all {len(self.names)}"
        alone = self.ticket.sum(axis=1) == 1
        own = ", ".join(f"{int((alone & self.ticket[:, n]).sum()):,} in {name}" for n, name in enumerate(self.names))
        return f"Of {anywhere:,} tokens in any ticket {everywhere:,} are in {of}; in one alone: {own}."


def line_up(
    studies: Mapping[str, Study],
    groups: Sequence[str] | None = None,
    *,
    rule: str = "alpha",
    alpha: float = 0.05,
    k: int = 18,
) -> Several:
    """Several studies of one base, by name. Scans what was not scanned. ``groups``: one name each (default: their own).

    Raises ``PairError`` for fewer than two, for bases that differ, or when no row was tested in all of them, and what ``select`` raises.
    """
    if len(studies) < 2:
        raise PairError(
            f"{len(studies)} tuned checkpoint{'s' if len(studies) != 1 else ''}. Name at least two to compare."
        )
    bases = {study.base.content_hash for study in studies.values()}
    if len(bases) > 1:
        raise PairError(
            "The checkpoints have different bases, so equal ids need not be equal tokens. Compare with one base."
        )
    scans = {name: study.scan() for name, study in studies.items()}
    ids = next(iter(scans.values())).token_ids
    for scan in scans.values():
        ids = np.intersect1d(ids, scan.token_ids)
    if not len(ids):
        raise PairError("No row was tested in all of these pairs: their vocabularies have nothing in common.")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("statistic", "pvalue", "changed", "ticket", "rank")}
    runs = []
    for name, scan in scans.items():
        chosen = select(scan, rule=rule, alpha=alpha, k=k, study=studies[name])
        inside = np.zeros(len(scan.token_ids), bool)
        inside[chosen] = True
        rank = np.empty(len(scan.token_ids), np.int64)
        rank[scan.order()] = np.arange(1, len(rank) + 1)
        order = np.argsort(scan.token_ids)
        at = order[np.searchsorted(scan.token_ids[order], ids)]
        for key, values in (("statistic", scan.statistic), ("pvalue", scan.pvalue), ("changed", scan.changed),
                            ("ticket", inside), ("rank", rank)):  # fmt: skip
            columns[key].append(values[at])
        runs.append(Run.from_scan(name, scan, chosen, {}))
    first = next(iter(studies.values()))
    signature = Signature({
        "base": f"{first.base.label}@{first.base.content_hash[:12]}",
        "tuned": " ".join(f"{s.tuned.label}@{s.tuned.content_hash[:12]}" for s in studies.values()),
        "rule": rule, "alpha": "-" if SELECTION_RULES[rule].by_count else alpha, "k": k if SELECTION_RULES[rule].by_count else "-", **versions("numpy"),
    })  # fmt: skip
    return Several(
        tuple(scans), tuple(groups or scans), ids, **{name: np.stack(c, axis=1) for name, c in columns.items()},
        overlap=compare(runs), signature=signature,
    )  # fmt: skip

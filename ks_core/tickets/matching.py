"""Controls that are matched: rows outside a ticket that occur about as often as those in it, and how well that went.

A ticket's most frequent rows mostly have no equals outside it. A control that stands for them all the same is no match,
so it is refused, and what can be compared is offered: the ticket's rows that do have a partner, against their partners.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: A partner occurs at most this many times as often as its row, or as rarely.
CLOSE = 1.25
#: The worst pair of a set that still counts as matched.
WORST = 2.0


@dataclass(frozen=True)
class Balance:
    """How often two sets of rows, paired, occur in the text that is fed: sums, and the ratio within a pair (1 is equal)."""

    pairs: int
    ticket: int
    control: int
    median_ratio: float
    worst_ratio: float

    @property
    def is_close(self) -> bool:
        """Whether the two sets occur about as often, as wholes and pair by pair."""
        least, most = sorted((self.ticket, self.control))
        return most <= CLOSE * least and self.worst_ratio <= WORST

    @property
    def sentence(self) -> str:
        """For a person."""
        return (
            f"{self.pairs:,} pairs: the ticket's rows occur {self.ticket:,} times in the text, the others {self.control:,} times; "
            f"within a pair the more frequent one {self.median_ratio:.2f} times as often in the median, {self.worst_ratio:.1f} at worst"
        )


def balance(pairs: Mapping[int, int], counts: Mapping[int, int]) -> Balance:
    """The balance of pairs ticket row -> other row."""
    ratios = [_ratio(counts.get(a, 0), counts.get(b, 0)) for a, b in pairs.items()]
    return Balance(
        len(pairs), sum(counts.get(a, 0) for a in pairs), sum(counts.get(b, 0) for b in pairs.values()),
        statistics.median(ratios) if ratios else 1.0, max(ratios, default=1.0),
    )  # fmt: skip


def nearest(ticket: Sequence[int], others: Sequence[int], counts: Mapping[int, int], seed: int) -> dict[int, int]:
    """For each ticket row another one: any of those within ``CLOSE``, or the nearest where there is none."""
    found = partners(ticket, others, counts, seed)
    free = [i for i in others if i not in set(found.values())]
    for row in _frequent_first([i for i in ticket if i not in found], counts):
        found[row] = min(free, key=lambda i: (_ratio(counts.get(i, 0), counts.get(row, 0)), i))
        free.remove(found[row])
    return {row: found[row] for row in ticket}


def partners(ticket: Sequence[int], others: Sequence[int], counts: Mapping[int, int], seed: int) -> dict[int, int]:
    """For each ticket row that has one, a row of its own among ``others`` within ``CLOSE`` of it, drawn by ``seed``."""
    generator, free, found = random.Random(seed), list(others), {}
    for row in _frequent_first(ticket, counts):  # they have fewest equals
        close = [i for i in free if _ratio(counts.get(i, 0), counts.get(row, 0)) <= CLOSE]
        if close:
            found[row] = generator.choice(sorted(close))
            free.remove(found[row])
    return {row: found[row] for row in ticket if row in found}


def _frequent_first(rows: Sequence[int], counts: Mapping[int, int]) -> list[int]:
    return sorted(rows, key=lambda i: (-counts.get(i, 0), i))


def _ratio(a: int, b: int) -> float:
    least, most = sorted((a, b))
    return most / least if least else float("inf") if most else 1.0

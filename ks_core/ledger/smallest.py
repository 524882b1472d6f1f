"""The smallest ticket: the fewest rows found that keep a share of a tuning's gain.

All of it is chosen on development references. From the beginning of a ranking that keeps the share, and half as many rows more,
rows are put in one by one, each time the one that gains most (a row's last known gain decides whose turn it is to be measured
again, as in the lazy greedy of Minoux 1978); then those are taken out again without which the share is still kept. What the rows
that are left keep of the gain is measured on test references, which had no part in it, and is what is claimed.

Greedy search finds few rows, and does not prove that there are none fewer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ks_core.errors import SettingsError, TicketError
from ks_core.likelihood.nats import Draws
from ks_core.likelihood.scorer import Report, Scorer, silent
from ks_core.translation.bootstrap import RESAMPLES
from ks_core.translation.shares import Share


@dataclass(frozen=True)
class Smallest:
    """``token_ids`` in the order in which they were put in; ``asked`` the share to be kept, ``development`` and ``test`` the
    shares that are. ``curve`` has what was kept on development after each row, those that were ``dropped`` again among them;
    ``prefix`` is how many rows of the ranking alone keep the share there."""

    asked: float
    token_ids: tuple[int, ...]
    curve: tuple[tuple[int, float], ...]
    dropped: tuple[int, ...]
    prefix: int
    development: float
    test: Share

    @property
    def sentence(self) -> str:
        """What was found, for a person."""
        found = self.test
        within = f" [{found.low:.0%}, {found.high:.0%}]" if found.low is not None and found.high is not None else ""
        kept = "nothing that can be told" if found.value is None else f"{found.value:.0%}{within}"
        return (
            f"{len(self.token_ids):,} rows keep {self.development:.0%} of the gain on the development references they were chosen on, "
            f"where {self.asked:.0%} was asked, and {kept} on the test references. The ranking alone needs {self.prefix:,}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the sentence."""
        return {**asdict(self), "sentence": self.sentence}


def fewest(
    development: Scorer,
    test: Scorer,
    ranking: Sequence[int],
    share: float,
    *,
    resamples: int = RESAMPLES,
    report: Report = silent,
) -> Smallest:
    """The fewest rows that keep ``share`` of the gain on development references, from a ranking of the changed rows.

    Raises ``SettingsError`` for a share that is not above 0 and at most 1, ``TicketError`` where the tuned rows gain nothing.
    """
    if not 0 < share <= 1:
        raise SettingsError(f"The share is {share}. Expected a number above 0 and at most 1, such as 0.5.")
    base, tuned = (float(found.summed().sum()) for found in development.score([(), development.changed]))
    whole = base - tuned
    if whole <= 0:
        raise TicketError(
            "The tuned rows gain nothing on the development references, so there is no share of it to keep."
        )

    def kept(rows: Collection[int]) -> float:
        found = development.score([rows], report, "looking for the smallest ticket")[0]
        return (base - float(found.summed().sum())) / whole

    ids = [int(i) for i in ranking]
    prefix = _prefix(ids, share, kept)
    chosen, curve = _forward(ids[: prefix + max(1, prefix // 2)], share, kept)
    left, dropped = _backward(chosen, share, kept)
    draws = Draws(len(test.references), resamples)
    none, all_rows, own = test.score([(), test.changed, left], report, "confirming the smallest ticket")
    return Smallest(
        share, tuple(left), tuple(curve), tuple(dropped), prefix, kept(left), draws.share(none, own, all_rows)
    )


def _prefix(ids: Sequence[int], share: float, kept: Callable[[Collection[int]], float]) -> int:
    """How many of the first ids keep the share: by doubling, then by halving what is between."""
    high = 1
    while high < len(ids) and kept(ids[:high]) < share:
        high *= 2
    high = min(high, len(ids))
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if kept(ids[:middle]) >= share else (middle, high)
    return high


def _forward(
    candidates: Sequence[int], share: float, kept: Callable[[Collection[int]], float]
) -> tuple[list[int], list[tuple[int, float]]]:
    """Rows put in one by one until the share is kept, or there is none left; and what is kept after each."""
    waiting = [(-kept([row]), place, 0, row) for place, row in enumerate(candidates)]
    heapq.heapify(waiting)
    chosen: list[int] = []
    curve: list[tuple[int, float]] = []
    now = 0.0
    while waiting and now < share:
        gain, place, measured, row = heapq.heappop(waiting)
        if measured < len(chosen):  # what it gained when fewer rows were in
            heapq.heappush(waiting, (now - kept([*chosen, row]), place, len(chosen), row))
            continue
        chosen.append(row)
        now -= gain
        curve.append((row, now))
    return chosen, curve


def _backward(
    chosen: Sequence[int], share: float, kept: Callable[[Collection[int]], float]
) -> tuple[list[int], list[int]]:
    """The rows that are left when every one is taken out without which the share is still kept, the last put in first."""
    left, dropped = list(chosen), []
    for row in reversed(chosen):
        without = [r for r in left if r != row]
        if without and kept(without) >= share:
            left = without
            dropped.append(row)
    return left, dropped

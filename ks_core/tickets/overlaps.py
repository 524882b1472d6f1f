"""Two runs of a training, side by side: what their tickets and their rankings by D share, and what they would share anyway.

>>> shared_top(np.array([7, 8, 9]), np.array([8, 7, 1]), 3).tolist()
[0, 2, 2]

"Anyway" is two things. A uniform draw of k among the changed rows hardly shares any. But frequent tokens are trained often
whatever the seed, and a row that many steps touched has a large D; so a list that knows the steps alone, and no D at all,
shares rows with a ticket too. An overlap that is no larger says nothing beyond the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ks_core.study.scan import Scan
from ks_core.tickets.ranking import COUNT, STEPS, spearman


@dataclass(frozen=True)
class Run:
    """A ticket, and the test that it was taken from where that is known.

    ``ticket`` are token ids. ``token_ids`` int64, ``statistic`` float64 (D), ``shift`` float64 (L2, breaks ties of
    D) and ``changed`` bool, (n,) each, describe all rows. ``facets`` say how the run was made: ``stability.GROUPS`` by
    name. ``base`` is what must be the same for ids to mean the same, "" where that is not known. ``trained`` is token id
    -> how often it was trained, ``measure`` in what: ``STEPS`` that touched it, or ``COUNT`` where only that is known.
    """

    name: str
    ticket: tuple[int, ...]
    token_ids: np.ndarray | None = field(default=None, repr=False)
    statistic: np.ndarray | None = field(default=None, repr=False)
    shift: np.ndarray | None = field(default=None, repr=False)
    changed: np.ndarray | None = field(default=None, repr=False)
    facets: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    published: bool = False
    trained: Mapping[int, int] | None = field(default=None, repr=False)
    measure: str = STEPS

    @classmethod
    def from_scan(
        cls,
        name: str,
        scan: Scan,
        positions: np.ndarray,
        facets: Mapping[str, Any],
        trained: Mapping[int, int] | None = None,
        measure: str = STEPS,
    ) -> Run:
        """The run behind a scan; ``positions`` of its ticket as ``tickets.select`` gives them."""
        ticket = tuple(int(i) for i in scan.token_ids[positions])
        base = str(scan.signature.fields.get("base", ""))
        return cls(
            name, ticket, scan.token_ids, scan.statistic, scan.l2, scan.changed, dict(facets), base, trained=trained,
            measure=measure,
        )  # fmt: skip

    @property
    def top(self) -> np.ndarray:
        """Ids of the changed rows from the largest D to the smallest, int64; equal D by shift, then by id."""
        if self.token_ids is None or self.statistic is None or self.changed is None:
            return np.zeros(0, np.int64)
        shift = np.zeros(len(self.token_ids)) if self.shift is None else self.shift
        order = np.lexsort((self.token_ids, -shift, -self.statistic))
        return self.token_ids[order[self.changed[order]]]


@dataclass(frozen=True)
class Overlap:
    """Two runs, by position. ``shared`` rows are in both tickets; ``share`` is of the smaller ticket, ``jaccard`` of
    their union. ``rho`` is Spearman's correlation of D over the ``both`` rows that both runs changed.

    Of float64 (K,), for k = 1..K: ``curve`` is the share of the k rows of largest D that the runs have in common,
    ``chance`` what two uniform draws of k among their changed rows would have, and ``by_training`` what one run's k rows
    of largest D have in common with the k rows that the other trained most often (in ``measure``; the mean of both ways
    round). NaN is what cannot be said.
    """

    first: int
    second: int
    group: str
    shared: int
    share: float
    jaccard: float
    rho: float
    both: int
    curve: np.ndarray
    chance: np.ndarray
    by_training: np.ndarray
    measure: str


def overlap(a: Run, b: Run, tops: tuple[np.ndarray, np.ndarray], ks: int, **place: Any) -> Overlap:
    """Two runs compared; ``tops`` are their ``top`` (made once for all pairs), ``place`` the first three fields."""
    shared, union = len(set(a.ticket) & set(b.ticket)), len(set(a.ticket) | set(b.ticket))
    smaller = min(len(set(a.ticket)), len(set(b.ticket)))
    both = np.intersect1d(*tops, assume_unique=True)
    k = np.arange(1, ks + 1)
    reachable = k <= min(len(top) for top in tops)
    curve = np.where(reachable, shared_top(*tops, ks) / k, math.nan)
    # A row is among k random ones of n with probability k/n; both runs must draw it, and it must be in both pools.
    pools = max(len(tops[0]) * len(tops[1]), 1)
    chance = np.where(reachable, k * len(both) / pools, math.nan)
    by_training = np.full(ks, math.nan)
    if a.trained is not None and b.trained is not None:
        ways = [shared_with_trained(tops[0], b.trained, ks), shared_with_trained(tops[1], a.trained, ks)]
        by_training = np.where(reachable, np.mean(ways, axis=0) / k, math.nan)
    rho = spearman(_statistic(a, both), _statistic(b, both))[0] if len(both) else math.nan
    return Overlap(
        **place, shared=shared, share=shared / smaller if smaller else math.nan,
        jaccard=shared / union if union else math.nan, rho=rho, both=len(both), curve=curve, chance=chance,
        by_training=by_training, measure=STEPS if {a.measure, b.measure} == {STEPS} else COUNT,
    )  # fmt: skip


def shared_top(first: np.ndarray, second: np.ndarray, ks: int) -> np.ndarray:
    """How many ids the k first of both rankings share, for k = 1..ks: int64 (ks,). Ids are unique in either.

    An id is shared from the k on at which it is in both, the larger of its two ranks.
    """
    _, a, b = np.intersect1d(first[:ks], second[:ks], assume_unique=True, return_indices=True)
    return np.cumsum(np.bincount(np.maximum(a, b), minlength=ks)[:ks])


def shared_with_trained(ranked: np.ndarray, trained: Mapping[int, int], ks: int) -> np.ndarray:
    """How many of the k first ids are among the k that were trained most often, for k = 1..ks: float64 (ks,).

    Where ids that were trained equally often lie on both sides of the k-th place, each is taken with the same
    probability: the number is the mean over all orders of equals. NaN from the k on that fewer ids were trained.

    >>> shared_with_trained(np.array([7, 8, 9]), {7: 5, 8: 5, 1: 5, 9: 2}, 3).round(2).tolist()
    [0.33, 1.33, 2.0]
    """
    often = np.sort(np.array([n for n in trained.values() if n > 0], float))[::-1]
    own = np.array([trained.get(int(i), 0) for i in ranked[:ks]], float)
    found = np.full(ks, math.nan)
    k = np.arange(1, min(ks, len(often)) + 1)
    least = often[k - 1]  # of a k each, float64 (k,)
    above, up_to = (np.searchsorted(-often, -least, side=side) for side in ("left", "right"))
    first = np.arange(len(own)) < k[:, None]  # which of the ids are among the k first: bool (k, ids)
    more = ((own > least[:, None]) & first).sum(axis=1)
    found[: len(k)] = more + (k - above) / (up_to - above) * ((own == least[:, None]) & first).sum(axis=1)
    return found


def _statistic(run: Run, ids: np.ndarray) -> np.ndarray:
    """D of these ids, (m,), each of which the run has tested."""
    assert run.token_ids is not None and run.statistic is not None  # only tested runs have rows in both
    order = np.argsort(run.token_ids)
    return run.statistic[order[np.searchsorted(run.token_ids, ids, sorter=order)]]

"""Stability: how much of a ticket stays when the training is done again, with one thing changed.

Every pair of runs is compared: rows that both tickets hold, rank correlation of D over the rows that both runs
changed, and the overlap of their k rows of largest D for every k. Pairs that differ in one thing only form its
group: seed, prompt, language or optimizer. The seed's overlap is the ceiling, since no more can be expected of
runs that differ in something that matters; below lies what two random choices would share.

    >>> runs = [Run.from_scan("seed 0", scan, positions, {"seed": 0}), Run.from_scan("seed 1", other, more, {"seed": 1})]
    >>> compare(runs).group("seed").jaccard

Not here: whether stable tokens matter. A row that is trained often is stable and may still do nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from ks_core.checkpoints.vocabulary import Vocabulary
from ks_core.errors import SettingsError, TicketError
from ks_core.signature import Signature, versions
from ks_core.study.scan import Scan
from ks_core.tickets import ticket
from ks_core.tickets.ranking import spearman

GROUPS = ("seed", "prompt", "language", "optimizer")
#: Groups of pairs that are shown and not averaged with the others.
OTHER, PUBLISHED = "other", "published"
#: The k of the top-k curves, and the one that is quoted (the length of the paper's longest ticket).
KS, QUOTED = 200, 18
#: Ids whose pieces tell LLaMA's vocabulary from its relatives (29871 is another piece in Mistral's).
LLAMA = {0: "<unk>", 1: "<s>", 2: "</s>", 13: "<0x0A>", 278: "▁the", 29871: "▁", 29889: ".", 29892: ","}
LLAMA_SIZE = 32_000


@dataclass(frozen=True)
class Run:
    """A ticket, and the test that it was taken from where that is known.

    ``ticket`` are token ids. ``token_ids`` int64, ``statistic`` float64 (D), ``shift`` float64 (L2, breaks ties of
    D) and ``changed`` bool, (n,) each, describe all rows. ``facets`` say how the run was made: ``GROUPS`` by name. ``base`` is
    what must be the same for ids to mean the same, "" where that is not known.
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

    @classmethod
    def from_scan(cls, name: str, scan: Scan, positions: np.ndarray, facets: Mapping[str, Any]) -> Run:
        """The run behind a scan; ``positions`` of its ticket as ``tickets.select`` gives them."""
        ticket = tuple(int(i) for i in scan.token_ids[positions])
        base = str(scan.signature.fields.get("base", ""))
        return cls(name, ticket, scan.token_ids, scan.statistic, scan.l2, scan.changed, dict(facets), base)

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

    ``curve`` and ``chance`` float64 (K,): the share of the k rows of largest D that the runs have in common, for k = 1..K,
    and what two random choices of k among their changed rows would have. NaN is what cannot be said.
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


@dataclass(frozen=True)
class Group:
    """The mean over the pairs of a group: ``shared`` rows, the rest as in ``Overlap``; ``lowest`` and ``highest``
    bound the curves of its pairs."""

    name: str
    pairs: int
    shared: float
    share: float
    jaccard: float
    rho: float
    curve: np.ndarray
    chance: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


@dataclass(frozen=True)
class Stability:
    """All pairs of the runs, and the groups that occur among them (those of ``GROUPS`` first)."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    overlaps: tuple[Overlap, ...]
    groups: tuple[Group, ...]
    #: Token ids in every ticket, ascending.
    common: tuple[int, ...]
    signature: Signature

    def group(self, name: str) -> Group | None:
        return next((g for g in self.groups if g.name == name), None)

    def matrix(self, measure: str) -> np.ndarray:
        """``shared``, ``share``, ``jaccard`` or ``rho`` for every two runs, float64 (r, r), symmetric.

        On the diagonal stands a run with itself: its size, or 1.
        """
        n = len(self.names)
        found = np.diag(np.array(self.sizes, float) if measure == "shared" else np.ones(n))
        for o in self.overlaps:
            found[o.first, o.second] = found[o.second, o.first] = getattr(o, measure)
        return found

    @property
    def across_seeds(self) -> tuple[float, int] | None:
        """How many of the k rows of largest D stay across seeds, and k; ``None`` where no seed was compared."""
        seed = self.group("seed")
        if seed is None or not np.isfinite(seed.curve).any():
            return None
        k = min(QUOTED, int(np.isfinite(seed.curve).sum()))
        return float(k * seed.curve[k - 1]), k

    @property
    def sentence(self) -> str:
        """What follows from the groups, at k = ``QUOTED`` where the runs were tested that far."""
        seed = self.group("seed")
        other = self.group(OTHER)
        aside = (
            f" {other.pairs} pairs differ in several things or in nothing known, and count nowhere." if other else ""
        )
        if seed is None or not np.isfinite(seed.curve).any():
            return f"No two tested runs differ in the seed alone: without that ceiling no other overlap can be judged.{aside}"
        k = min(QUOTED, int(np.isfinite(seed.curve).sum()))
        ceiling = seed.curve[k - 1]
        said = f"Of the {k} rows of largest D, {_rows(k * ceiling)} stay across seeds (by chance {_rows(k * seed.chance[k - 1])})"
        parts = []
        for group in self.groups:
            if group.name in GROUPS[1:] and np.isfinite(group.curve[k - 1]):
                of = f" ({group.curve[k - 1] / ceiling:.0%} of that)" if ceiling else ""
                parts.append(f"{_rows(k * group.curve[k - 1])} across {group.name}s{of}")
        if not parts:
            return f"{said}; nothing else was varied alone, so what the ticket depends on is not known.{aside}"
        return f"{said}, {', '.join(parts)}.{aside}"


def _rows(number: float) -> str:
    """A mean number of rows: whole where it is.

    >>> _rows(7.0000001), _rows(7.25)
    ('7', '7.2')
    """
    return f"{round(number, 1):g}"


def compare(runs: Sequence[Run], ks: int = KS) -> Stability:
    """Every two of the runs against each other.

    Raises ``SettingsError`` for fewer than two runs, names that are not distinct or ``ks`` below 1, and
    ``TicketError`` when two runs have different bases.
    """
    names = [run.name for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names) or ks < 1:
        raise SettingsError(
            f"Runs to compare: {', '.join(names) or 'none'}, up to k = {ks}. Expected two or more, each with a name of "
            "its own, and k of at least 1."
        )
    bases = sorted({run.base for run in runs} - {""})
    if len(bases) > 1:
        raise TicketError(
            f"The runs have different bases: {', '.join(bases)}. Expected one, as ids mean nothing elsewhere."
        )
    tops = [run.top for run in runs]
    overlaps = tuple(_overlap(runs, tops, first, second, ks) for first, second in combinations(range(len(runs)), 2))
    groups = tuple(
        _mean(name, members)
        for name in (*GROUPS, OTHER, PUBLISHED)
        if (members := [o for o in overlaps if o.group == name])
    )
    common = set(runs[0].ticket).intersection(*(run.ticket for run in runs[1:]))
    signature = Signature({
        "audit": "stability", "base": bases[0] if bases else "unknown", "ks": ks,
        "runs": " ".join(f"{run.name}({len(run.ticket)})" for run in runs), **versions("numpy", "scipy"),
    })  # fmt: skip
    sizes = tuple(len(set(run.ticket)) for run in runs)
    return Stability(tuple(names), sizes, overlaps, groups, tuple(sorted(common)), signature)


def shared_top(first: np.ndarray, second: np.ndarray, ks: int) -> np.ndarray:
    """How many ids the k first of both rankings share, for k = 1..ks: int64 (ks,). Ids are unique in either.

    An id is shared from the k on at which it is in both, the larger of its two ranks.

    >>> shared_top(np.array([7, 8, 9]), np.array([8, 7, 1]), 3).tolist()
    [0, 2, 2]
    """
    _, a, b = np.intersect1d(first[:ks], second[:ks], assume_unique=True, return_indices=True)
    return np.cumsum(np.bincount(np.maximum(a, b), minlength=ks)[:ks])


def is_llama(vocabulary: Vocabulary | None) -> bool:
    """Whether the published ids mean in this vocabulary what they mean in the paper's.

    LLaMA's 32,000 SentencePiece pieces (LLaMA 1 and 2), told by a few of them; tokens added after them do no harm.
    """
    if vocabulary is None or vocabulary.style != "sentencepiece" or len(vocabulary) < LLAMA_SIZE:
        return False
    return all(vocabulary.tokens[token_id] == piece for token_id, piece in LLAMA.items())


def published_runs(vocabulary: Vocabulary | None) -> list[Run]:
    """The paper's six tickets as runs without a test; none where the vocabulary is not LLaMA's."""
    if not is_llama(vocabulary):
        return []
    return [
        Run(f"paper: {pair}", tuple(ids), facets={"language": pair.partition("-")[2]}, published=True)
        for pair, ids in ticket.published().items()
    ]


def _overlap(runs: Sequence[Run], tops: Sequence[np.ndarray], first: int, second: int, ks: int) -> Overlap:
    a, b = runs[first], runs[second]
    shared, union = len(set(a.ticket) & set(b.ticket)), len(set(a.ticket) | set(b.ticket))
    smaller = min(len(set(a.ticket)), len(set(b.ticket)))
    top_a, top_b = tops[first], tops[second]
    both = np.intersect1d(top_a, top_b, assume_unique=True)
    k = np.arange(1, ks + 1)
    reachable = k <= min(len(top_a), len(top_b))
    curve = np.where(reachable, shared_top(top_a, top_b, ks) / k, math.nan)
    # A row is among k random ones of n with probability k/n; both runs must draw it, and it must be in both pools.
    pools = max(len(top_a) * len(top_b), 1)
    chance = np.where(reachable, k * len(both) / pools, math.nan)
    rho = spearman(_statistic(a, both), _statistic(b, both))[0] if len(both) else math.nan
    return Overlap(
        first, second, _group(a, b), shared, shared / smaller if smaller else math.nan,
        shared / union if union else math.nan, rho, len(both), curve, chance,
    )  # fmt: skip


def _statistic(run: Run, ids: np.ndarray) -> np.ndarray:
    """D of these ids, (m,), each of which the run has tested."""
    assert run.token_ids is not None and run.statistic is not None  # only tested runs have rows in both
    order = np.argsort(run.token_ids)
    return run.statistic[order[np.searchsorted(run.token_ids, ids, sorter=order)]]


def _group(a: Run, b: Run) -> str:
    """The one thing that two runs differ in, ``OTHER`` when it is not one of ``GROUPS``."""
    if a.published or b.published:
        return PUBLISHED
    differing = [name for name in {*a.facets, *b.facets} if a.facets.get(name) != b.facets.get(name)]
    return differing[0] if len(differing) == 1 and differing[0] in GROUPS else OTHER


def _mean(name: str, members: Sequence[Overlap]) -> Group:
    def mean(measure: str) -> Any:
        return np.mean([getattr(o, measure) for o in members], axis=0)

    curves = np.array([o.curve for o in members])
    # NaN as soon as one pair ends: a mean over fewer and fewer pairs would bend the curve.
    return Group(
        name, len(members), float(mean("shared")), float(mean("share")), float(mean("jaccard")), float(mean("rho")),
        mean("curve"), mean("chance"), curves.min(axis=0), curves.max(axis=0),
    )  # fmt: skip

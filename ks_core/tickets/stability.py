"""Stability: how much of a ticket stays when the training is done again, with one thing changed.

Every pair of runs is compared (``overlaps``): rows that both tickets hold, rank correlation of D over the rows that both
runs changed, and the overlap of their k rows of largest D for every k. Pairs that differ in one thing only form its
group: seed, prompt, language or optimizer. Beside each overlap stands what a list would share that knows how often the
rows were trained and no D, and what a uniform draw would.

What differs with the seed alone bounds what can be expected of runs that differ in more. One pair of seeds does not tell
that bound: it is called the ceiling where there are several pairs and nothing lies above them.

    >>> runs = [Run.from_scan("seed 0", scan, positions, {"seed": 0}), Run.from_scan("seed 1", other, more, {"seed": 1})]
    >>> compare(runs).group("seed").jaccard

A training on noise at the same exposure is no run of the group: it stands beside them (``beside_noise``), as what a list shares
with a training that had nothing to learn.

Not here: whether stable tokens matter. A row that is trained often is stable and may still do nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.checkpoints.vocabulary import Vocabulary
from ks_core.errors import SettingsError, TicketError
from ks_core.signature import Signature, versions
from ks_core.tickets.appendix import published
from ks_core.tickets.overlaps import Overlap, Run, overlap, shared_top
from ks_core.tickets.ranking import COUNT, STEPS, spearman

if TYPE_CHECKING:
    from ks_core.tickets.null import Null

GROUPS = ("seed", "prompt", "language", "optimizer")
#: Groups of pairs that are shown and not averaged with the others.
OTHER, PUBLISHED = "other", "published"
#: The group of a run and trainings on noise at its exposure.
NOISE = "noise"
#: The k of the top-k curves, and the one that is quoted (the length of the paper's longest ticket).
KS, QUOTED = 200, 18
#: Ids whose pieces tell LLaMA's vocabulary from its relatives (29871 is another piece in Mistral's).
LLAMA = {0: "<unk>", 1: "<s>", 2: "</s>", 13: "<0x0A>", 278: "▁the", 29871: "▁", 29889: ".", 29892: ","}
LLAMA_SIZE = 32_000


@dataclass(frozen=True)
class Group:
    """The mean over the pairs of a group: ``shared`` rows, the rest as in ``Overlap``; ``lowest`` and ``highest``
    bound the curves of its pairs. ``by_training`` is of the pairs for which it is known."""

    name: str
    pairs: int
    shared: float
    share: float
    jaccard: float
    rho: float
    curve: np.ndarray
    chance: np.ndarray
    by_training: np.ndarray
    measure: str
    lowest: np.ndarray
    highest: np.ndarray

    def spread(self, k: int) -> str:
        """How many pairs there are and, of several, from where to where they share rows of the k of largest D."""
        return "one pair" if self.pairs == 1 else _range(self, k, "pairs")


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
    #: One of the runs beside its own training on noise, with the run's name; ``None`` where none was done.
    noise: Group | None = None
    noisy: str = ""

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
    def quoted(self) -> int | None:
        """The k that is quoted: ``QUOTED``, or as far as the runs were tested; ``None`` where no seed was compared."""
        seed = self.group("seed")
        known = int(np.isfinite(seed.curve).sum()) if seed else 0
        return min(QUOTED, known) or None

    @property
    def across_seeds(self) -> tuple[float, int] | None:
        """How many of the k rows of largest D stay across seeds, and k; ``None`` where no seed was compared."""
        seed, k = self.group("seed"), self.quoted
        return None if seed is None or k is None else (float(k * seed.curve[k - 1]), k)

    @property
    def has_ceiling(self) -> bool:
        """Whether the seeds' overlap is a ceiling: there are several pairs of them, and no other group lies above."""
        seed, k = self.group("seed"), self.quoted
        if seed is None or k is None or seed.pairs < 2:
            return False
        return not self._above(seed, k)

    def _above(self, seed: Group, k: int) -> list[str]:
        return [g.name for g in self._varied(k) if g.curve[k - 1] > seed.highest[k - 1]]

    def _varied(self, k: int) -> list[Group]:
        """The groups other than the seed's whose runs were tested as far as k."""
        return [g for g in self.groups if g.name in GROUPS[1:] and np.isfinite(g.curve[k - 1])]

    @property
    def sentence(self) -> str:
        """What follows from the groups, at k = ``QUOTED`` where the runs were tested that far."""
        seed, other, k = self.group("seed"), self.group(OTHER), self.quoted
        aside = (
            f" {other.pairs} pairs differ in several things or in nothing known, and count nowhere." if other else ""
        )
        if seed is None or k is None:
            return f"No two tested runs differ in the seed alone: without that no other overlap can be judged.{aside}"
        parts = [
            f"{_rows(k * g.curve[k - 1])} {'stay ' if g is seed else ''}across {g.name}s ({g.spread(k)}; {_anyway(g, k)})"
            for g in [seed, *self._varied(k)]
        ]
        said = f"Of the {k} rows of largest D, {', '.join(parts)}."
        if len(parts) == 1:
            said = f"{said} Nothing else was varied alone, so what the ticket depends on is not known."
        elif seed.pairs == 1:
            said = f"{said} One pair of seeds is no ceiling for the others."
        elif self.has_ceiling:
            said = f"{said} The pairs of seeds are the ceiling for the others."
        else:
            above = " and ".join(f"{name}s" for name in self._above(seed, k))
            said = f"{said} The pairs of seeds are no ceiling: across {above} more rows stay than in any of them."
        return said + aside

    @property
    def noise_sentence(self) -> str:
        """How much of the list a training on noise has too; empty where none was done."""
        if self.noise is None:
            return ""
        k = min(QUOTED, int(np.isfinite(self.noise.curve).sum()))
        return (
            f"Of the {k} rows of largest D of {self.noisy}, {_rows(k * self.noise.curve[k - 1])} are the same in a training on noise at the "
            f"same exposure ({_range(self.noise, k, 'draws')}), and of its ticket {_rows(self.noise.shared)} rows are among as many of largest D of "
            f"that; D of the two has a rank correlation of {self.noise.rho:.2f}."
        )


def _anyway(group: Group, k: int) -> str:
    """What would be shared without any test."""
    uniform = f"{_rows(k * group.chance[k - 1])} by a uniform draw"
    if not np.isfinite(group.by_training[k - 1]):
        return uniform
    by = "training steps" if group.measure == STEPS else group.measure
    return f"{_rows(k * group.by_training[k - 1])} by {by} alone, {uniform}"


def _range(group: Group, k: int, what: str) -> str:
    """How many of a kind a group has, and from where to where they share rows of the k of largest D."""
    return f"{group.pairs} {what}, {_rows(k * group.lowest[k - 1])} to {_rows(k * group.highest[k - 1])}"


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
    overlaps = tuple(
        overlap(runs[a], runs[b], (tops[a], tops[b]), ks, first=a, second=b, group=_group(runs[a], runs[b]))
        for a, b in combinations(range(len(runs)), 2)
    )
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


def beside_noise(found: Stability, run: Run, null: Null) -> Stability:
    """The same with one of its runs beside trainings on noise at that run's exposure: what a draw shares with it, as a group.

    A draw's ticket are as many of its rows of largest D as the run's has. Raises ``SettingsError`` for a run that has no test.
    """
    if run.statistic is None or run.token_ids is None:
        raise SettingsError(
            f"Of {run.name} no test is known, so noise cannot be compared with it. Name a run that was tested."
        )
    ks, k = len(found.overlaps[0].curve), np.arange(1, len(found.overlaps[0].curve) + 1)
    own = dict(zip(run.token_ids.tolist(), run.statistic.tolist(), strict=True))
    statistic = np.array([own.get(int(i), 0.0) for i in null.token_ids])
    ticket, top = set(run.ticket), run.top
    curves, shared, rhos = [], [], []
    for draw in range(null.draws):
        ranked = null.token_ids[null.order(draw)]
        curves.append(np.where(k <= min(len(top), len(ranked)), shared_top(top, ranked, ks) / k, np.nan))
        shared.append(len(ticket & set(ranked[: len(ticket)].tolist())))
        rhos.append(spearman(statistic, null.counts[draw].astype(float))[0])
    often, size = np.array(curves), max(len(ticket), 1)
    mean = float(np.mean(shared))
    group = Group(
        NOISE, null.draws, mean, mean / size, float(np.mean([n / (2 * size - n) for n in shared])), float(np.mean(rhos)), often.mean(axis=0),
        np.where(k <= len(top), k / max(len(top), 1), np.nan), np.full(ks, np.nan), STEPS, often.min(axis=0), often.max(axis=0),
    )  # fmt: skip
    return replace(found, noise=group, noisy=run.name, signature=found.signature.with_fields(noise=null.draws))


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
        for pair, ids in published().items()
    ]


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
    known = [o for o in members if np.isfinite(o.by_training).any()]
    by_training = np.mean([o.by_training for o in known], axis=0) if known else np.full(curves.shape[1], np.nan)
    # NaN as soon as one pair ends: a mean over fewer and fewer pairs would bend the curve.
    return Group(
        name, len(members), float(mean("shared")), float(mean("share")), float(mean("jaccard")), float(mean("rho")),
        mean("curve"), mean("chance"), by_training, STEPS if all(o.measure == STEPS for o in known) else COUNT,
        curves.min(axis=0), curves.max(axis=0),
    )  # fmt: skip

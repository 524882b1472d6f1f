"""The bake-off: what a ticket of k rows keeps of a tuning's gain, by rule, at equal k.

Nothing is trained. The k first rows of each rule are copied from the tuned model into the base, and the references of the test
part are scored by their likelihood. All rules share the sentences, and the draws of them, so that their differences are paired.
What a rule learnt from the model (attribution, rows left out) it learnt on development sentences.

Copied rows are those of a training in which all rows moved together. What a rule's rows would do if they alone were trained
is another question, which ``trained`` asks. Several trainings that differ in the seed are bake-offs of their own, taken together:
each rule then has a list for each training, and intervals know of the seeds as well (``seeds``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import SettingsError
from ks_core.ledger.rules import RULES
from ks_core.ledger.seeds import Found, SeedDraws
from ks_core.likelihood.nats import Likelihood, same_references
from ks_core.translation.bootstrap import RESAMPLES, holm
from ks_core.translation.shares import Share

if TYPE_CHECKING:
    from ks_core.likelihood.scorer import Report, Scorer

#: How many rows are copied, unless somebody says otherwise; the ticket's own number is put among them.
SIZES = (1, 2, 5, 10, 18, 28, 50, 112, 250, 500, 1000)
#: The rule that is asked about, and the sides of those that it is asked against: they need no model.
ASKED, SIMPLE = "d", ("pair", "training")
#: A difference with a p of Holm's below this is called clear.
CLEAR = 0.05


@dataclass(frozen=True)
class Difference:
    """By how much rule ``first`` keeps more than ``second`` with k rows, in shares of the whole gain, with its 95% interval;
    ``pvalue`` by a paired bootstrap over sentences (and trainings, where there are several), ``holm`` corrected over all that
    stand together."""

    first: str
    second: str
    k: int
    value: float
    low: float
    high: float
    pvalue: float
    holm: float = 1.0

    @property
    def is_clear(self) -> bool:
        return self.holm < CLEAR


@dataclass(frozen=True)
class BakeOff:
    """All of it. ``rankings`` are token ids int64 (k,) by rule, as many as the largest size; ``scored`` likelihoods by (rule, k);
    ``left`` rules that could not be made, with the reason; ``correlation`` Spearman's of each rule's order with attribution's.
    ``others`` are the bake-offs of further trainings that differ in the seed, of the same rules at the same sizes (``together``).
    """

    base: Likelihood
    tuned: Likelihood
    sizes: tuple[int, ...]
    rankings: Mapping[str, np.ndarray]
    scored: Mapping[tuple[str, int], Likelihood] = field(repr=False)
    left: Mapping[str, str] = field(default_factory=dict)
    correlation: Mapping[str, float] = field(default_factory=dict)
    resamples: int = RESAMPLES
    others: tuple[BakeOff, ...] = field(default=(), repr=False)

    @property
    def trainings(self) -> tuple[BakeOff, ...]:
        """The bake-off of each training, this one first."""
        return (self, *self.others)

    @cached_property
    def draws(self) -> SeedDraws:
        return SeedDraws(len(self.base), len(self.trainings), self.resamples)

    def share(self, rule: str, k: int) -> Share:
        """What the k first rows of a rule keep of the gain, over all trainings."""
        return self.draws.share(self.kept(rule, k), self.whole)

    def shares(self, rule: str, k: int) -> list[float | None]:
        """The same in each training by itself."""
        kept, whole = self.kept(rule, k)[:, 0], self.whole[:, 0]
        return [float(own / full) if full else None for own, full in zip(kept, whole, strict=True)]

    def part(self, rule: str, k: int, part: str) -> Share:
        """Which share of that lies in the end token, or in the content."""
        return self.draws.share(self.kept(rule, k, part), self.kept(rule, k))

    def overlap(self, k: int) -> tuple[list[str], np.ndarray]:
        """Rules, and how many of their k first rows each two have in common in the first training, int64 (rules, rules)."""
        names = list(self.rankings)
        first = [set(self.rankings[name][:k].tolist()) for name in names]
        return names, np.array([[len(a & b) for b in first] for a in first], np.int64)

    @cached_property
    def whole(self) -> np.ndarray:
        """What all changed rows gain over the base in each training, float64 (trainings, 1 + resamples)."""
        return self._gain([t.tuned for t in self.trainings])

    def kept(self, rule: str, k: int, part: str = "all") -> np.ndarray:
        """What the k first rows of a rule gain, in the same form."""
        return self._gain([t.scored[rule, k] for t in self.trainings], part)

    def difference(self, first: str, second: str, k: int) -> Found:
        """By how much the first rule's rows gain more than the second's, in nats a target token."""
        return self.draws.over(lambda a, b: a - b, self.kept(first, k), self.kept(second, k))

    def _gain(self, after: Sequence[Likelihood], part: str = "all") -> np.ndarray:
        return self.draws.gains([t.base for t in self.trainings], after, part)

    def _whole(self) -> dict[str, float]:
        """What all changed rows gain over the base, in nats a target token, with its 95% interval."""
        found = self.draws.mean(self.whole)
        low, high = found.interval
        return {"value": found.value, "low": low, "high": high}

    @cached_property
    def differences(self) -> list[Difference]:
        """D against every other rule at every size, corrected together (Holm 1979)."""
        if ASKED not in self.rankings:
            return []
        whole = self.draws.mean(self.whole).value
        found = []
        for k in self.sizes:
            for rule in self.rankings:
                if rule == ASKED:
                    continue
                apart = self.difference(ASKED, rule, k)
                value, low, high = (x / whole if whole else 0.0 for x in (apart.value, *apart.interval))
                found.append(Difference(ASKED, rule, k, value, low, high, apart.pvalue))
        corrected = holm([d.pvalue for d in found])
        return [Difference(**{**asdict(d), "holm": p}) for d, p in zip(found, corrected, strict=True)]

    @property
    def sentence(self) -> str:
        """Is KS the reason? In a sentence or two."""
        if self._whole()["low"] <= 0:
            return "The tuned rows gain nothing that is clear of chance on these references, so there is no gain to ask about."
        simple = [d for d in self.differences if RULES[d.second].side in SIMPLE]
        if not simple:
            return "D was not compared with another rule, so nothing is said of it."
        worse = [d for d in simple if d.is_clear and d.value < 0]
        behind = sorted({d.k for d in worse})
        ahead = sorted(
            k for k in self.sizes if all(d.is_clear and d.value > 0 for d in simple if d.k == k)
        )  # clearly better than every one of them
        chance = [d for d in self.differences if RULES[d.second].name == "random"]
        beats_chance = any(d.is_clear and d.value > 0 for d in chance)
        said = "" if beats_chance or not chance else " Nor is D clearly better than rows at random at any size."
        if behind:
            k = behind[0]
            other = min((d for d in worse if d.k == k), key=lambda d: d.value)
            return (
                f"KS is not the reason: with {_listed(behind)} rows some rule without a test keeps clearly more than D (with {k:,}, "
                f"{RULES[other.second].title}, the best of them on these very sentences, {_shown(self.share(other.second, k))}, "
                f"D {_shown(self.share(ASKED, k))}), and "
                + (
                    f"D keeps more than all of them with {_listed(ahead)}."
                    if ahead
                    else "D keeps more than all of them at no size."
                )
                + said
            )
        if len(ahead) == len(self.sizes):
            over = "one training" if not self.others else f"{len(self.trainings)} trainings"
            return f"KS does better than every simpler rule at every size, on these sentences of {over}."
        return (
            "KS is not shown to be the reason: "
            + (f"D keeps clearly more than every simpler rule with {_listed(ahead)} rows, and" if ahead else "at no size does D keep clearly more than every simpler rule, and")
            + " none of them keeps clearly more than D." + said
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every share with its interval, not the sentences behind it."""
        rows = []
        for rule, ids in self.rankings.items():
            for k in self.sizes:
                own = [t.scored[rule, k] for t in self.trainings]
                rows.append({
                    "rule": rule, "title": RULES[rule].title, "side": RULES[rule].side, "source": RULES[rule].source, "k": k,
                    **_read_out(own), "share": asdict(self.share(rule, k)), "seeds": self.shares(rule, k),
                    **({f"{part}_share": asdict(self.part(rule, k, part)) for part in self.base.parts[1:]}),
                    "tokens": ids[:k].tolist() if k <= 50 else [],
                })  # fmt: skip
        names, counts = self.overlap(min(18, max(self.sizes)))
        tuned = [t.tuned for t in self.trainings]
        return {
            "base": self.base.read_out(), "tuned": _read_out(tuned), "sentences": len(self.base), "sizes": list(self.sizes),
            "rules": rows, "left": dict(self.left), "correlation": dict(self.correlation),
            "differences": [asdict(d) for d in self.differences],
            "overlap": {"k": min(18, max(self.sizes)), "rules": names, "shared": counts.tolist()},
            "gain": self._whole(), "gains": self.whole[:, 0].tolist(), "sentence": self.sentence, "resamples": self.resamples,
            "whole": {part: asdict(self.draws.share(self._gain(tuned, part), self.whole)) for part in self.base.parts},
        }  # fmt: skip


def together(found: Sequence[BakeOff]) -> BakeOff:
    """The bake-offs of several trainings on the same references as one; the first is shown where one has to be.

    A rule that cannot be made of each of them is left out. Raises ``SettingsError`` for other references or sizes, and where no
    rule is left.
    """
    first, *others = found
    same_references([one.base for one in found])
    if any(one.sizes != first.sizes for one in others):
        raise SettingsError("The trainings were compared at other sizes each. Compare all of them at the same sizes.")
    left = {rule: why for one in reversed(found) for rule, why in one.left.items()}
    rules = [rule for rule in first.rankings if all(rule in one.rankings for one in others)]
    if not rules:
        raise SettingsError(
            f"There is no rule to compare in all trainings: {'; '.join(left.values()) or 'none was named'}."
        )
    return replace(
        first, rankings={rule: first.rankings[rule] for rule in rules}, left=left, others=tuple(others),
        correlation={rule: rho for rule, rho in first.correlation.items() if rule in rules},
    )  # fmt: skip


def _read_out(found: Sequence[Likelihood]) -> dict[str, float]:
    """The numbers of one training, or their means over several."""
    told = [one.read_out() for one in found]
    return {name: float(np.mean([one[name] for one in told])) for name in told[0]}


def sizes_of(changed: int, sizes: Sequence[int] = (), ticket: int = 0) -> tuple[int, ...]:
    """The sizes at which rules are compared: those asked for (empty: ``SIZES`` and the ticket's own), as far as there are rows.

    Raises ``SettingsError`` for a size below 1, and where none is left.
    """
    wanted = sizes or (*SIZES, *([ticket] if ticket else []))
    if min(wanted) < 1:
        raise SettingsError(f"A ticket of {min(wanted)} rows was asked for. Expected at least 1 row.")
    found = tuple(sorted({k for k in wanted if k <= changed}))
    if not found:
        raise SettingsError(
            f"Tickets of {min(wanted):,} rows and more were asked for, and {changed:,} rows changed. Name smaller ones."
        )
    return found


def bake_off(
    scorer: Scorer,
    rankings: Mapping[str, np.ndarray],
    sizes: Sequence[int],
    *,
    left: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    report: Report = lambda done, total, message: None,
) -> BakeOff:
    """Score the first rows of every ranking, at every size, on a scorer's references. ``report`` counts sentences and may raise.

    ``rankings`` are ``rules.rankings``' orders of all changed rows. Raises ``SettingsError`` for fewer than one.
    """
    if not rankings:
        raise SettingsError(f"There is no rule to compare: {'; '.join((left or {}).values()) or 'none was named'}.")
    keys = [(rule, k) for rule in rankings for k in sizes]
    sets: list[Any] = [(), scorer.changed, *(rankings[rule][:k].tolist() for rule, k in keys)]
    base, tuned, *scored = scorer.score(sets, report, "scoring the copied rows")
    most = max(sizes)
    return BakeOff(
        base, tuned, tuple(sizes), {rule: ids[:most] for rule, ids in rankings.items()}, dict(zip(keys, scored, strict=True)),
        dict(left or {}), _correlations(rankings), resamples,
    )  # fmt: skip


def _correlations(rankings: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Spearman's correlation of each order of the same rows with attribution's; empty without that."""
    if "attribution" not in rankings:
        return {}
    from ks_core.tickets.ranking import spearman

    # The place of each token, by ascending id, in each order: all orders are of the same tokens.
    places = {rule: np.argsort(ids, kind="stable").astype(float) for rule, ids in rankings.items()}
    return {rule: spearman(own, places["attribution"])[0] for rule, own in places.items() if rule != "attribution"}


def _shown(found: Share) -> str:
    value = "no share" if found.value is None else f"{found.value:.0%}"
    return value if found.low is None or found.high is None else f"{value} [{found.low:.0%}, {found.high:.0%}]"


def _listed(sizes: Sequence[int]) -> str:
    words = [f"{k:,}" for k in sizes]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

"""Rules trained at equal budget: the first k rows of each, trained from the base with one recipe, by several seeds.

Copied rows moved together with all others. Here a rule's rows are trained alone, as Partial Tuning does, and the references of the
test part are scored by their likelihood. A training is an arm of ``ks_core.tuning`` in the job's folder, where one that was stopped
goes on from its last checkpoint; what it scored is kept for every later job. Rules that choose the same rows share a training.

A seed decides the order of the batches. With several tuned checkpoints the rows of seed n are those that the rule chooses by
the n-th of them, in turn; with one, all seeds train the same rows, and what is said holds for these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.errors import CorpusError, ModelError, SettingsError, TicketError
from ks_core.ledger import kept
from ks_core.ledger.bakeoff import ASKED, Difference
from ks_core.ledger.inquiry import Inquiry
from ks_core.ledger.noninferiority import NonInferiority, judged
from ks_core.ledger.rules import RULES
from ks_core.ledger.seeds import Found, SeedDraws
from ks_core.likelihood.nats import Likelihood, same_references
from ks_core.translation.bootstrap import RESAMPLES, holm
from ks_core.tuning.arms import ROW_RECIPE, Arm
from ks_core.tuning.plans import Plan

if TYPE_CHECKING:
    from ks_core.jobs.running import Running
    from ks_core.tuning.workbench import Bench

#: The rule whose rows are the most frequent ones, which the paper compares with.
FREQUENT = "frequency"


@dataclass(frozen=True)
class Trained:
    """What the k first rows of each rule reach when they alone are trained: ``scored`` likelihoods by rule, one for each seed;
    ``tokens`` ids by rule, those of each seed; ``left`` rules whose training failed, with the reason."""

    base: Likelihood
    k: int
    steps: int
    scored: Mapping[str, Sequence[Likelihood]] = field(repr=False)
    tokens: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict, repr=False)
    left: Mapping[str, str] = field(default_factory=dict)
    resamples: int = RESAMPLES

    @property
    def seeds(self) -> int:
        return max((len(found) for found in self.scored.values()), default=0)

    @cached_property
    def draws(self) -> SeedDraws:
        return SeedDraws(len(self.base), max(self.seeds, 1), self.resamples)

    def gain(self, rule: str, part: str = "all") -> np.ndarray:
        """What a rule's trained rows gain over the base, in nats a target token, float64 (seeds, 1 + resamples)."""
        return self.draws.gains([self.base] * self.seeds, self.scored[rule], part)

    def apart(self, first: str, second: str) -> Found:
        """By how much the first rule's rows gain more than the second's, seed by seed in pairs."""
        return self.draws.over(lambda a, b: a - b, self.gain(first), self.gain(second))

    @property
    def asked(self) -> str:
        """The rule that the others are compared with: D, or the first."""
        return ASKED if ASKED in self.scored else next(iter(self.scored), "")

    @cached_property
    def differences(self) -> list[Difference]:
        """That rule against every other, in nats a target token, corrected together (Holm 1979)."""
        found = []
        for rule in self.scored:
            if rule != self.asked:
                apart = self.apart(self.asked, rule)
                found.append(Difference(self.asked, rule, self.k, apart.value, *apart.interval, apart.pvalue))
        corrected = holm([d.pvalue for d in found])
        return [replace(d, holm=p) for d, p in zip(found, corrected, strict=True)]

    def as_good(self, margin: float) -> list[NonInferiority]:
        """Whether D's trained rows do as well as the most frequent ones', where both were trained."""
        if not {ASKED, FREQUENT} <= set(self.scored):
            return []
        return [
            judged(
                self.apart(ASKED, FREQUENT), margin, sentences=len(self.base), own=f"{self.k:,} rows of largest D, trained",
                other="as many most frequent rows, trained",
            )
        ]  # fmt: skip

    @property
    def sentence(self) -> str:
        """What came out, in a sentence or two."""
        if not self.scored:
            return "No rule's rows could be trained."
        seeds = f"{self.seeds} seeds" if self.seeds > 1 else "one seed"
        rank = sorted(self.scored, key=lambda rule: -float(self.gain(rule)[:, 0].mean()))
        said = []
        for rule in rank:
            found = self.draws.mean(self.gain(rule))
            low, high = found.interval
            said.append(f"{RULES[rule].title} {found.value:.3f} [{low:.3f}, {high:.3f}]")
        start = f"Trained alone for {self.steps:,} steps with {seeds}, {self.k:,} rows gain, in nats a token: {', '.join(said)}."
        if len(self.scored) < 2:
            return start
        clear = [d for d in self.differences if d.is_clear]
        asked = RULES[self.asked].title
        if not clear:
            return f"{start} No difference between {asked} and another rule is clear."
        ahead = [RULES[d.second].title for d in clear if d.value < 0]
        behind = [RULES[d.second].title for d in clear if d.value > 0]
        return (
            start
            + (
                f" Clearly more than {asked}: {', '.join(ahead)}."
                if ahead
                else f" None clearly gains more than {asked}."
            )
            + (f" Clearly less: {', '.join(behind)}." if behind else "")
        )

    def as_dict(self, margin: float) -> dict[str, Any]:
        """Plain values for JSON, with the sentence."""
        rows = []
        for rule in self.scored:
            gain = self.draws.mean(self.gain(rule))
            low, high = gain.interval
            rows.append({
                "rule": rule, "title": RULES[rule].title, "gain": {"value": gain.value, "low": low, "high": high},
                "seeds": self.gain(rule)[:, 0].tolist(), "nats": [found.nats for found in self.scored[rule]],
                **{f"{part}_share": asdict(self.draws.share(self.gain(rule, part), self.gain(rule))) for part in self.base.parts[1:]},
                "tokens": [list(ids) for ids in self.tokens.get(rule, ())],
            })  # fmt: skip
        return {
            "k": self.k, "steps": self.steps, "seeds": self.seeds, "rules": rows, "left": dict(self.left), "against": self.asked,
            "differences": [asdict(d) for d in self.differences], "as_good": [found.as_dict() for found in self.as_good(margin)],
            "sentence": self.sentence,
        }  # fmt: skip


def train_rules(
    inquiry: Inquiry, orders: Sequence[Mapping[str, np.ndarray]], base: Likelihood, running: Running
) -> Trained:
    """Train the first rows of the rules that an inquiry names, in the folder of a running job.

    ``orders`` are the rankings of each tuned checkpoint, int64 token ids by rule; ``base`` the base's likelihood of the test
    part's references. What is wrong with one training leaves its rule out. Raises ``SettingsError`` where a rule has fewer rows.
    """
    chosen = {rule: _chosen(rule, inquiry, orders) for rule in inquiry.train if all(rule in order for order in orders)}
    left = {rule: "its order could not be made" for rule in inquiry.train if rule not in chosen}
    arms: dict[tuple[frozenset[int], int], Arm] = {}
    for seed in range(inquiry.seeds):  # seed by seed, so that what is there when it is stopped can be compared
        for rule, lists in chosen.items():
            recipe = replace(ROW_RECIPE, steps=inquiry.steps, seed=seed)
            label = f"{RULES[rule].title}, seed {seed}"
            arms.setdefault((frozenset(lists[seed]), seed), Arm("rows", tokens=lists[seed], recipe=recipe, label=label))
    bench = _bench(inquiry, list(arms.values()), running) if arms else None
    found: dict[tuple[frozenset[int], int], Likelihood | str] = {}
    for number, key in enumerate(arms):
        assert bench is not None
        found[key] = _carried_out(bench, inquiry, number)
    scored: dict[str, list[Likelihood]] = {}
    for rule, lists in chosen.items():
        own = [found[frozenset(lists[seed]), seed] for seed in range(inquiry.seeds)]
        good = [one for one in own if isinstance(one, Likelihood)]
        if len(good) < len(own):
            left[rule] = next(one for one in own if isinstance(one, str))
            continue
        same_references([base, *good])
        scored[rule] = good
    tokens = {rule: chosen[rule] for rule in scored}
    return Trained(base, inquiry.k, inquiry.steps, scored, tokens, left, inquiry.resamples)


def _chosen(rule: str, inquiry: Inquiry, orders: Sequence[Mapping[str, np.ndarray]]) -> list[tuple[int, ...]]:
    """The rows of each seed: the first k by the rule's order of a tuned checkpoint, these taken in turn."""
    fewest = min(len(order[rule]) for order in orders)
    if fewest < inquiry.k:
        raise SettingsError(
            f"{inquiry.k:,} rows of each rule are to be trained, and {fewest:,} rows changed. Choose a smaller k."
        )
    return [tuple(orders[seed % len(orders)][rule][: inquiry.k].tolist()) for seed in range(inquiry.seeds)]


def _bench(inquiry: Inquiry, arms: Sequence[Arm], running: Running) -> Bench:
    from ks_core.tuning.workbench import Bench  # loads what counts and writes

    plan = Plan(
        base=inquiry.base, tuned=inquiry.tuned, alpha=inquiry.alpha, corpus=inquiry.corpus, prompt=inquiry.prompt, arms=tuple(arms),
        sentences=inquiry.sentences, device=inquiry.device, resources=inquiry.resources,
    )  # fmt: skip
    return Bench(plan, running.folder, running.progress, running.event, running.should_stop)


def _carried_out(bench: Bench, inquiry: Inquiry, number: int) -> Likelihood | str:
    """Train one arm and score it, or find what an earlier job kept of it; what was wrong with it, in words."""
    from ks_core.likelihood.references import references_of
    from ks_core.likelihood.scorer import likelihood_of
    from ks_core.tuning.arm_models import prepared

    arm, corpus = bench.plan.arms[number], bench.corpus
    assert arm.recipe is not None
    place = bench.folder / "arms" / f"{number:02d}-{arm.kind}"
    title = f"{number + 1} of {len(bench.plan.arms)}: {arm.name}"

    def made() -> Likelihood:
        place.mkdir(parents=True, exist_ok=True)
        with prepared(bench, arm, place, title) as (model, _):
            references = references_of(model, bench.tokenizer, corpus, inquiry.prompt, sentences=inquiry.sentences)
            return likelihood_of(model, references, _report(bench, place, title))

    key = {
        "base": bench.checkpoint.content_hash, "rows": sorted(arm.tokens), "recipe": arm.recipe.as_dict(), "sentences": inquiry.sentences,
        **kept.facts(corpus, inquiry.prompt, "test", bench.device, inquiry.resources),
    }  # fmt: skip
    try:
        return kept.trained(key, made)
    except (TicketError, SettingsError, ModelError, CorpusError) as error:
        return str(error)


def _report(bench: Bench, place: Path, title: str) -> Callable[[int, int, str], None]:
    return lambda done, total, message: bench.report(
        done, total, f"{title}: {message}", unit="sentences", stage=f"{place.name} scoring"
    )

"""One pair of a suite under one protocol: the runs of all seeds, and what each arm gains over the base, draw by draw.

A draw takes seeds, then sentences (``ledger.seeds``). Gains are in nats a target token of the references, and in metrics of what was written.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ks_core.errors import ModelError
from ks_core.ledger.seeds import Found, SeedDraws
from ks_core.likelihood.nats import Likelihood, same_references
from ks_core.suites.suite import Run, Suite
from ks_core.translation.bootstrap import SEED, Bootstrap
from ks_core.translation.corpora import Corpus
from ks_core.translation.evaluation import HeldOut, held_out, read_answers
from ks_core.translation.protocols import PROTOCOLS
from ks_core.translation.shares import Share

#: Draws of seeds and sentences.
RESAMPLES = 2000
#: Metrics of answers that are compared, where they can be had; and rules of extraction beside a protocol's own, between which lies what stopping is
#: worth.
METRICS, RULES = ("bleu", "chrf", "spbleu"), ("raw", "first_line")


@dataclass(frozen=True)
class Done:
    """A run that was carried out: its summary, its folder, the text that it was of."""

    run: Run
    summary: dict[str, Any] = field(repr=False)
    folder: Path
    corpus: Corpus = field(repr=False)

    @property
    def seconds(self) -> float:
        """Seconds of training and writing."""
        arms = self.summary["arms"]
        return sum((arm.get("training_seconds") or 0.0) + (arm.get("translating_seconds") or 0.0) for arm in arms)

    def arm(self, name: str) -> dict[str, Any] | None:
        """What came of an arm; ``None`` where it failed, or is not of this run."""
        return next((arm for arm in self.summary["arms"] if arm["name"] == name and not arm["error"]), None)


@dataclass(frozen=True)
class Cell:
    """One pair under one protocol: the runs of all seeds that are there, the first with the base."""

    suite: Suite
    pair: str
    protocol: str
    done: Sequence[Done]

    @cached_property
    def seed(self) -> int:
        """The seed of its draws: the pair's own, so that what is said of a pair does not hang on the others."""
        return SEED + zlib.crc32(self.pair.encode()) % 1_000_003

    @property
    def base_name(self) -> str:
        """What the base is called."""
        return next(arm.name for arm in self.suite.arms if arm.kind == "base")

    @cached_property
    def base(self) -> Likelihood:
        """The base's likelihood. Raises ``ModelError`` where it has none."""
        found = self._likelihoods(self.base_name)
        if not found:
            raise ModelError(f"{self.pair}, {self.protocol}: the base was not scored, and all gains are over it.")
        return found[0]

    def _likelihoods(self, name: str) -> list[Likelihood]:
        arms = [done.arm(name) for done in self.done]
        return [Likelihood.from_dict(arm["likelihood"]) for arm in arms if arm and arm.get("likelihood")]

    @cached_property
    def likelihoods(self) -> dict[str, list[Likelihood]]:
        """The likelihoods of each arm but the base, a seed each: those of all seeds, or the one of an arm that no seed touches."""
        found = {}
        for arm in self.suite.arms:
            own = self._likelihoods(arm.name)
            if arm.kind != "base" and len(own) in (1, len(self.done)) and own:
                same_references([self.base, *own])
                found[arm.name] = own
        return found

    def gains(self, name: str, part: str = "all") -> np.ndarray:
        """What an arm gains over the base in each seed, float64 (seeds, 1 + RESAMPLES), in nats a target token."""
        own = self.likelihoods[name]
        return self.draws(len(own)).gains([self.base] * len(own), own, part)

    def draws(self, seeds: int) -> SeedDraws:
        """Draws over so many seeds, those of sentences being the same for any number of seeds."""
        return SeedDraws(len(self.base), seeds, RESAMPLES if len(self.base) > 1 else 0, self.seed)

    def first(self, kind: str) -> str:
        """The name of the first arm of a kind that has gains; empty where none has."""
        return next((arm.name for arm in self.suite.arms if arm.kind == kind and arm.name in self.likelihoods), "")

    def found(self, name: str, part: str = "all") -> Found:
        """An arm's mean gain."""
        own = self.gains(name, part)
        return self.draws(len(own)).mean(own)

    def share(self, name: str, part: str = "all", of: str = "") -> Share:
        """A part of an arm's gain as a share of all of it, or of the gain of the arm ``of``."""
        own, full = self.gains(name, part), self.gains(of or name)
        if len(own) != len(full):
            own, full = (np.repeat(one, max(len(own), len(full)) // len(one), axis=0) for one in (own, full))
        return self.draws(len(own)).share(own, full)

    @cached_property
    def asked(self) -> HeldOut:
        """The sentences that were put to the models."""
        plan = self.done[0].run.plan
        return held_out(
            self.done[0].corpus, plan.prompt, plan.sentences, max_new_tokens=plan.max_new_tokens, beams=plan.beams
        )

    @cached_property
    def bootstrap(self) -> Bootstrap:
        sentences = self.asked.references
        return Bootstrap(sentences, self.asked.target_language, RESAMPLES if len(sentences) > 1 else 0, self.seed)

    def written(self, name: str, rule: str, metric: str) -> np.ndarray:
        """A metric of what an arm wrote in each seed that wrote, float64 (seeds, 1 + RESAMPLES); empty where nothing was written."""
        found = []
        for done in self.done:
            arm = done.arm(name)
            if arm and arm.get("evaluation") and metric in self.bootstrap.metrics:
                answers = [answer.answer(rule) for answer in read_answers(done.folder, arm)]
                found.append(self.bootstrap.scores(metric, answers))
        return np.array(found)

    def scores(self, name: str) -> dict[tuple[str, str], tuple[Found, Found | None]]:
        """What an arm's answers score, by rule and metric, and what they gain over the base's (``None`` of the base itself)."""
        base, found = self.base_name, {}
        for rule in dict.fromkeys((*PROTOCOLS[self.protocol].rules, *RULES)):
            for metric in METRICS:
                own, start = self.written(name, rule, metric), self.written(base, rule, metric)
                if own.size:
                    draws = SeedDraws(len(self.asked), len(own), own.shape[1] - 1, self.seed)
                    gain = draws.mean(own - start[:1]) if start.size and name != base else None
                    found[rule, metric] = (draws.mean(own), gain)
        return found

    def stops(self, name: str) -> float | None:
        """The share of an arm's answers that it ended itself, over all seeds that wrote; ``None`` where none did."""
        told = [
            arm["evaluation"]["stop_rate"] for done in self.done if (arm := done.arm(name)) and arm.get("evaluation")
        ]
        return float(np.mean(told)) if told else None


def bounded(found: Found) -> dict[str, float | None]:
    """A statistic with its 95% interval; without bounds where nothing was drawn."""
    low, high = found.interval if len(found.draws) > 1 else (None, None)
    return {"value": found.value, "low": low, "high": high}

"""A suite: language pairs, protocols and seeds, each with the same arms, and the runs that it takes. Choosing one loads no torch.

    suite = Suite(texts=(Text("en-fr", CorpusChoice("pack:fr-FR")),), seeds=(0, 1, 2), arms=(Arm("base"), Arm("embed"), Arm("partial")))
    [run.label for run in suite.runs]

A run is a plan of ``ks_core.tuning``: one pair under one protocol with one seed. What no seed touches, such as the base, is an arm of the first
seed's runs alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from ks_core import values
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.jobs.resources import Resources
from ks_core.tickets.selection import SELECTION_RULES
from ks_core.translation.protocols import PROTOCOLS
from ks_core.tuning.arms import ARMS, Arm
from ks_core.tuning.plans import CorpusChoice, Plan


@dataclass(frozen=True)
class Text:
    """A language pair: what it is called (``en-ca``), its text, and how many rows its ticket has."""

    pair: str
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    k: int = 18

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Text:
        """From plain values. Raises ``SettingsError`` for a field that is not known."""
        known = {"pair": "", **values.of_fields(cls, given)}
        return cls(**{**known, "corpus": CorpusChoice.from_dict(known.get("corpus", {}))})


@dataclass(frozen=True)
class Run:
    """One run of a suite, by its place in it: a plan, and which pair, protocol and seed it is of."""

    number: int
    pair: str
    protocol: str
    seed: int
    plan: Plan

    @property
    def label(self) -> str:
        """What a person calls it.

        >>> Run(0, "en-fr", "demo", 1, Plan()).label
        'en-fr, demo, seed 1'
        """
        return f"{self.pair}, {self.protocol}, seed {self.seed}"


@dataclass(frozen=True)
class Suite:
    """What is asked: every arm of ``arms`` for every pair of ``texts``, under every one of ``protocols``, with every seed.

    ``rule`` chooses the ticket, with ``alpha`` or with the ``k`` of each text. ``sentences`` held-out pairs are scored by the likelihood of
    their references (0: all). Answers are written by the arms of the first ``written`` seeds (``None``: of all; 0: of none), as they take longest.
    The recipe and the label of an arm count; its seed is the suite's. Raises ``SettingsError`` for what cannot be.
    """

    name: str = "own"
    base: str = demo.BASE
    texts: tuple[Text, ...] = (Text("en-fr"),)
    protocols: tuple[str, ...] = ("demo",)
    seeds: tuple[int, ...] = (0,)
    arms: tuple[Arm, ...] = (Arm("base"), Arm("embed"), Arm("partial"), Arm("transfer"))
    rule: str = "count"
    alpha: float = 0.05
    sentences: int = 0
    written: int | None = None
    device: str = "auto"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        values.text("The suite's name", self.name)
        named: dict[str, list[Any]] = {
            "language pair": [text.pair for text in self.texts], "protocol": list(self.protocols), "seed": list(self.seeds),
            "arm": [arm.name for arm in self.arms],
        }  # fmt: skip
        for what, found in named.items():
            if not found:
                raise SettingsError(f"The suite has no {what}. Name one at least.")
            if len(set(found)) < len(found):
                twice = next(one for one in found if found.count(one) > 1)
                raise SettingsError(
                    f"The suite has the {what} {str(twice)[:80]!r} twice. Name each once; arms of one kind take a label."
                )
        for text in self.texts:
            if not values.text("A language pair's name", text.pair).strip():
                raise SettingsError("A language pair of the suite has no name. Expected one such as en-ca.")
            values.whole("k", text.k, 1, 100_000_000)
        for protocol in self.protocols:
            PROTOCOLS.find(protocol)
        for seed in self.seeds:
            values.whole("A seed", seed, 0, values.LARGEST_SEED)
        if self.written is not None:
            values.whole("written", self.written, 0, len(self.seeds))
        if "base" not in [arm.kind for arm in self.arms]:
            raise SettingsError(
                "The suite has no arm base, and all that is gained is gained over it. Add the arm base."
            )
        assert self.runs  # each plan is checked as it is made

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Its runs, seed by seed, so that what is there when it is stopped can be compared."""
        asked = [(seed, text, protocol) for seed in self.seeds for text in self.texts for protocol in self.protocols]
        return tuple(
            Run(number, text.pair, protocol, seed, self._plan(text, protocol, seed))
            for number, (seed, text, protocol) in enumerate(asked)
        )

    def _plan(self, text: Text, protocol: str, seed: int) -> Plan:
        known, place = PROTOCOLS[protocol], self.seeds.index(seed)
        return Plan(
            base=self.base, tuned="", rule=self.rule, alpha=self.alpha, k=text.k, corpus=text.corpus, prompt=known.prompt,
            arms=tuple(_seeded(arm, seed) for arm in self.arms if place == 0 or depends_on_seed(arm)), sentences=self.sentences,
            max_new_tokens=known.max_new_tokens, beams=known.beams, device=self.device, resources=self.resources,
            generate=self.written is None or place < self.written,
        )  # fmt: skip

    @property
    def pairs(self) -> tuple[str, ...]:
        """What its language pairs are called."""
        return tuple(text.pair for text in self.texts)

    @property
    def ticket(self) -> str:
        """How its tickets are chosen, in a few words."""
        if not SELECTION_RULES[self.rule].by_count:
            return f"{self.rule}, alpha {self.alpha:g}"
        sizes = sorted({text.k for text in self.texts})
        return f"{self.rule}, {' or '.join(f'{k:,}' for k in sizes)} rows"

    @property
    def sentence(self) -> str:
        """What it is, for a person."""
        pairs, protocols, seeds = len(self.texts), len(self.protocols), len(self.seeds)
        return (
            f"{len(self.runs)} run{'s' * (len(self.runs) > 1)}: {pairs} language pair{'s' * (pairs > 1)} ({', '.join(self.pairs)}), "
            f"{protocols} protocol{'s' * (protocols > 1)} ({', '.join(self.protocols)}), {seeds} seed{'s' * (seeds > 1)}, "
            f"{len(self.arms)} arms ({', '.join(arm.name for arm in self.arms)})."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        texts = [{**asdict(text), "corpus": text.corpus.as_dict()} for text in self.texts]
        return json.loads(json.dumps(asdict(self) | {"texts": texts, "arms": [arm.as_dict() for arm in self.arms]}))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Suite:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field or a value that cannot be."""
        known = values.of_fields(cls, given)
        for name, made in (("texts", Text.from_dict), ("arms", Arm.from_dict)):
            if name in known:
                known[name] = tuple(made(one) for one in values.members(f"The suite's {name}", known[name]))
        for name in ("protocols", "seeds"):
            if name in known:
                known[name] = values.members(f"The suite's {name}", known[name])
        return cls(**{**known, "resources": Resources.from_dict(known.get("resources", {}))})


def depends_on_seed(arm: Arm) -> bool:
    """Whether an arm is another one with another seed: what is trained, drawn, or taken from what was trained."""
    kind = ARMS[arm.kind]
    return arm.recipe is not None or kind.seeded or kind.needs_ticket or kind.needs_tuned_rows or arm.copied


def _seeded(arm: Arm, seed: int) -> Arm:
    """An arm of one seed's run, under the name that it has in all of them."""
    recipe = replace(arm.recipe, seed=seed) if arm.recipe else None
    return replace(arm, seed=seed if ARMS[arm.kind].seeded else arm.seed, recipe=recipe, label=arm.name)

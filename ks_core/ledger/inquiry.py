"""What is asked of the ledger: a pair, a text under a prompt, and how much of it. Choosing it loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ks_core import values
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.jobs.resources import Resources
from ks_core.ledger.noninferiority import MARGINS
from ks_core.ledger.rules import RULES
from ks_core.signature import Signature, versions
from ks_core.study.scan import Scan, Study, check_alpha
from ks_core.tickets.ticket import Ticket, ticket_of
from ks_core.translation.bootstrap import RESAMPLES
from ks_core.translation.prompts import check_for
from ks_core.translation.tasks import TASKS
from ks_core.tuning.plans import CorpusChoice

#: How much of it, by name: fields of ``Inquiry`` (to ``sizes`` the ticket's own is added). The whole has all pairs and the usual sizes.
BUDGETS: dict[str, dict[str, Any]] = {
    "small": {"sizes": (5, 18), "sentences": 24, "development": 24, "training": 40, "points": 6, "singles": 6},
    "standard": {"sizes": (5, 18, 50, 500), "sentences": 48, "development": 48, "training": 100, "points": 8, "singles": 12},
    "whole": {},
}  # fmt: skip
#: Raised by one whenever the same inquiry could be answered by other numbers than before.
VERSION = 1


@dataclass(frozen=True)
class Inquiry:
    """Everything that decides a bake-off and what stands beside it.

    ``rules`` of ``RULES`` (empty: all) are compared at ``sizes`` (empty: the usual ones and the ticket's own, which is that of
    p < ``alpha``) on ``sentences`` pairs of the test part (0: all). Of the development part ``development`` pairs (0: all)
    serve attribution by ``points`` points, and rows left out one by one, of which there are ``singles``. ``training`` pairs are
    what gradients at the base are taken of, and ``draws`` trainings on noise the null is made of (0 of either: none).
    ``share`` asks for the smallest ticket that keeps it (0: it is not looked for). ``others`` are further trainings of the same
    recipe with other seeds, which are taken together with ``tuned``. The first ``k`` rows of the rules in ``train`` are trained
    from the base, ``seeds`` times for ``steps`` steps. ``margin`` is by how many nats a target token one may be worse and still
    count as good as another. Raises ``SettingsError`` for what cannot be.
    """

    base: str = demo.BASE
    tuned: str = demo.TUNED
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    prompt: str = "short"
    rules: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    alpha: float = 0.05
    sentences: int = 0
    development: int = 0
    training: int = 200
    points: int = 8
    singles: int = 24
    draws: int = 19
    persistence: float = 0.0
    share: float = 0.0
    others: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    k: int = 18
    seeds: int = 3
    steps: int = 80
    margin: float = MARGINS["nats"]
    seed: int = 0
    resamples: int = RESAMPLES
    device: str = "auto"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for name in ("base", "tuned", "device"):
            values.text(f"The ledger: {name}", getattr(self, name))
        named = [values.text("A tuned checkpoint", source) for source in self.sources]
        if not self.base or not all(named):
            raise SettingsError("A base and a tuned checkpoint are needed. Name both.")
        if twice := {source for source in named if named.count(source) > 1}:
            raise SettingsError(
                f"{min(twice)} is named twice. Name each training once: the same one again says nothing of another seed."
            )
        check_for(TASKS[self.corpus.task], self.prompt)
        check_alpha(values.number("alpha", self.alpha))
        for rule in (*values.members("The rules", self.rules), *values.members("The rules to train", self.train)):
            RULES.find(rule)
        for size in values.members("The sizes", self.sizes):
            values.whole("A size", size, 1, 100_000_000)
        bounds = {"sentences": (0, 10_000_000), "development": (0, 10_000_000), "training": (0, 10_000_000), "points": (1, 256),
                  "singles": (0, 100_000), "draws": (0, 10_000), "seed": (0, values.LARGEST_SEED), "resamples": (0, 1_000_000),
                  "k": (1, 100_000_000), "seeds": (1, 100), "steps": (1, 10_000_000)}  # fmt: skip
        for name, (least, most) in bounds.items():
            values.whole(f"The ledger: {name}", getattr(self, name), least, most)
        if not 0 <= values.number("The share", self.share) <= 1:
            raise SettingsError(
                f"The share is {self.share}. Expected a number above 0 and at most 1, or 0 to leave it out."
            )
        if self.resources.sharded or self.resources.processes > 1:
            raise SettingsError(
                f"The ledger is kept by one process, and {self.resources.processes} were asked for. Leave --processes and --sharded out."
            )
        if not 0 < values.number("The margin", self.margin) < 1000:
            raise SettingsError(
                f"The margin is {self.margin}. Expected a number of nats above 0, such as {MARGINS['nats']:g}."
            )
        if not -1 < values.number("The persistence", self.persistence) < 1:
            raise SettingsError(f"The persistence is {self.persistence}. Expected a number above -1 and below 1.")

    @classmethod
    def of(cls, study: Study, scan: Scan, budget: str, *, alpha: float, **choices: Any) -> Inquiry:
        """The inquiry of a study that is open already, as large as a name of ``BUDGETS`` says."""
        found = cls(study.base_source, study.tuned_source, alpha=alpha, **{**BUDGETS[budget], **choices})
        return found.with_ticket(int(scan.winners(alpha).sum()))

    def with_ticket(self, rows: int) -> Inquiry:
        """The same with the ticket's own size among those that are named; the usual ones, where none is, have it anyway."""
        return replace(self, sizes=tuple(sorted({*self.sizes, rows}))) if self.sizes and rows else self

    @property
    def sources(self) -> tuple[str, ...]:
        """The tuned checkpoints, a training each, the first one first."""
        return (self.tuned, *self.others)

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """The pair of each training."""
        return tuple(Study(self.base, source) for source in self.sources)

    @property
    def study(self) -> Study:
        return self.studies[0]

    @property
    def asked(self) -> tuple[str, ...]:
        """The rules that are asked for, those to be trained among them; empty for all."""
        return tuple(dict.fromkeys((*self.rules, *self.train))) if self.rules else ()

    def needs(self, need: str) -> bool:
        """Whether a rule that is asked for needs this (``evidence.NEEDS``)."""
        return any(RULES[name].needs == need for name in self.asked or RULES)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        return json.loads(json.dumps(asdict(self) | {"corpus": self.corpus.as_dict()}))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Inquiry:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field or a value that cannot be."""
        known = values.of_fields(cls, given)
        known["corpus"] = CorpusChoice.from_dict(known.get("corpus", {}))
        known["resources"] = Resources.from_dict(known.get("resources", {}))
        for name in ("rules", "sizes", "others", "train"):
            known[name] = values.members(f"The {name}", known.get(name, ()))
        return cls(**known)

    def signature(self, corpus_hash: str) -> Signature:
        """From what the answers come."""
        more: dict[str, Any] = {}
        if self.others:
            more["others"] = ", ".join(f"{s.tuned.label}@{s.tuned.content_hash[:12]}" for s in self.studies[1:])
        if self.train:
            more["trained"] = f"{', '.join(self.train)}; {self.k} rows, {self.seeds} seeds, {self.steps} steps"
        return self.study.signature.with_fields(
            corpus=f"{self.corpus.name}@{corpus_hash[:12]}", prompt=self.prompt, sentences=self.sentences or "all",
            development=self.development or "all", training=self.training, points=self.points, singles=self.singles,
            draws=self.draws, persistence=self.persistence, share=self.share, alpha=self.alpha, seed=self.seed,
            resamples=self.resamples, margin=self.margin, **more, ledger=VERSION,
            **Resources(precision=self.resources.precision).facts(), **versions("torch", "transformers", "scipy"),
        )  # fmt: skip


def ticket_of_smallest(inquiry: Inquiry, result: Mapping[str, Any]) -> Ticket:
    """The smallest ticket that an answer holds, like any other, with what is claimed of it."""
    scan = inquiry.study.scan()
    place = {int(i): n for n, i in enumerate(scan.token_ids)}
    found = result["smallest"]
    ticket = ticket_of(
        inquiry.study, scan, np.array([place[i] for i in found["token_ids"]]), rule="smallest", alpha=inquiry.alpha
    )
    about = {"smallest": {k: v for k, v in found.items() if k != "curve"}, "ledger": result["signature"]}
    return replace(ticket, alpha=None, about=about)

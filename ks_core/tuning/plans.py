"""A plan: everything that decides a run. Choosing one loads no model and no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from ks_core import values
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError
from ks_core.jobs.resources import Resources
from ks_core.study.scan import check_alpha
from ks_core.tickets.selection import SELECTION_RULES
from ks_core.translation import corpora
from ks_core.translation.corpora import Corpus
from ks_core.translation.prompts import check_for
from ks_core.translation.tasks import TASKS, TRANSLATION
from ks_core.tuning.arms import ARMS, Arm

#: Fields of a corpus that stand in what is saved only where they were chosen.
LATER = ("test", "most", "task")


@dataclass(frozen=True)
class CorpusChoice:
    """Which parallel text: the arguments of ``corpora.load``. Raises ``SettingsError`` for those that cannot be.

    ``test`` names a text of its own whose pairs are all tested on; of the other ``most`` pairs (0: all) are trained on. ``task`` is one of
    ``TASKS``.
    """

    name: str = "pack:fr-FR"
    shortest: int = 3
    longest: int = 16
    source_field: str = "source"
    target_field: str = "target"
    source_language: str = ""
    target_language: str = ""
    test: str = ""
    most: int = 0
    task: str = TRANSLATION

    def __post_init__(self) -> None:
        for name in ("name", "source_field", "target_field", "source_language", "target_language", "test", "task"):
            values.text(f"The corpus: {name.replace('_', ' ')}", getattr(self, name))
        for name in ("shortest", "longest"):
            values.whole(f"The corpus: {name}", getattr(self, name), 0, 1_000_000)
        TASKS.find(self.task)
        values.whole("The corpus: most", self.most, 0, 1_000_000_000)

    def load(self) -> Corpus:
        """The corpus. Raises ``CorpusError``."""
        arguments = asdict(self)
        return corpora.load(arguments.pop("name"), **arguments)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and keys. What was added later stands in it where it was chosen, so that older results are found again."""
        found = asdict(self)
        return {
            name: value for name, value in found.items() if name not in LATER or value != getattr(CorpusChoice, name)
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> CorpusChoice:
        """From plain values. Raises ``SettingsError`` for a field that is not known."""
        return cls(**values.of_fields(cls, given))


@dataclass(frozen=True)
class Subject:
    """What a run and an audit are both about: a pair, its ticket, the text and the prompt.

    The ticket is what ``rule`` chooses with ``alpha`` or ``k`` (``tickets.select``). How it is answered and computed
    (``max_new_tokens``, ``device``, ``resources``) each of the two declares by itself, in the order of its JSON; it is
    checked here. Raises ``SettingsError`` for what cannot be.
    """

    base: str = demo.BASE
    tuned: str = demo.TUNED
    rule: str = "alpha"
    alpha: float = 0.05
    k: int = 18
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    prompt: str = "short"

    def __post_init__(self) -> None:
        for name in ("base", "tuned", "device"):
            values.text(f"The run: {name}", getattr(self, name))
        check_alpha(values.number("alpha", self.alpha))
        SELECTION_RULES.find(values.text("The rule", self.rule))
        for name, most in (("k", 100_000_000), ("max_new_tokens", 1_000_000)):
            values.whole(name, getattr(self, name), 1, most)
        check_for(TASKS[self.corpus.task], self.prompt)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        return json.loads(json.dumps(asdict(self) | {"corpus": self.corpus.as_dict()}))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field or a value that cannot be."""
        known = values.of_fields(cls, given)
        known["corpus"] = CorpusChoice.from_dict(known.get("corpus", {}))
        known["resources"] = Resources.from_dict(known.get("resources", {}))
        return cls(**known)


#: A first comparison: the ticket, trained and copied, and those of its rows that have a partner beside their partners.
DEFAULT_ARMS = (Arm("base"), Arm("tuned"), Arm("transfer"), Arm("partial"), Arm("paired"), Arm("partners"))


@dataclass(frozen=True)
class Plan(Subject):
    """Everything that decides a run.

    ``tuned`` is the checkpoint whose ticket is used; empty: the run's own Embed Tuning. ``sentences`` held-out pairs are
    scored (0: all). ``sweep`` lists alphas at which Partial Transfer is scored too. ``generate``: the arms write answers, which
    are scored; otherwise they are judged by the likelihood of the references alone. Raises ``SettingsError`` for what cannot be.
    """

    arms: tuple[Arm, ...] = DEFAULT_ARMS
    sentences: int = 64
    max_new_tokens: int = 48
    beams: int = 1
    sweep: tuple[float, ...] = ()
    device: str = "auto"
    resources: Resources = field(default_factory=Resources)
    generate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        values.truth("The run: generate", self.generate)
        for alpha in values.members("The sweep", self.sweep):
            check_alpha(values.number("alpha", alpha))
        for name, least, most in (("sentences", 0, 10_000_000), ("beams", 1, 1000)):
            values.whole(name, getattr(self, name), least, most)
        if not self.arms:
            raise SettingsError("The run has no arm. Choose at least one, such as base and partial.")
        kinds = [arm.kind for arm in self.arms]
        if not self.has_ticket:
            wanting = [ARMS[k].title for k in kinds if ARMS[k].needs_ticket or k == "tuned"]
            if wanting or self.sweep:
                raise SettingsError(
                    f"{wanting[0] if wanting else 'The sweep'} needs a ticket, and there is neither a tuned checkpoint "
                    "nor an arm that makes one. Name a tuned checkpoint, or add the arm embed."
                )
        if not self.tuned and "tuned" in kinds:
            raise SettingsError(
                "The arm tuned scores a given checkpoint, and none is named. Name one, or drop the arm."
            )
        if self.resources.sharded and (
            wide := [ARMS[k].title for k in kinds if ARMS[k].recipe and not ARMS[k].function]
        ):
            raise SettingsError(
                f"{wide[0]} trains inside the layers, which are sharded here. Leave the arm out, or do not shard."
            )
        most = min(
            (a.recipe.batch_size // a.recipe.accumulate for a in self.arms if a.recipe),
            default=self.resources.processes,
        )
        if self.resources.processes > most:
            raise SettingsError(
                f"{self.resources.processes} processes share steps of {most} pairs, and each needs one at least. Name at most "
                f"{most} processes, or take more pairs a step."
            )
        if not self.tuned:  # the ticket comes out of that arm
            first = [a for a in self.arms if a.kind in ("base", "embed")]
            object.__setattr__(self, "arms", (*first, *(a for a in self.arms if a not in first)))

    def in_steps(self, corpus: Corpus | None = None) -> Self:
        """The same with every recipe in steps, which epochs are of its text (read here where it is not given). Raises ``CorpusError``."""
        if not any(arm.recipe and (arm.recipe.epochs or arm.recipe.warmup_share) for arm in self.arms):
            return self
        pairs = len((corpus or self.corpus.load()).train)
        arms = (replace(arm, recipe=arm.recipe.in_steps(pairs)) if arm.recipe else arm for arm in self.arms)
        return replace(self, arms=tuple(arms))

    @property
    def has_ticket(self) -> bool:
        """Whether there is a ticket: of a given checkpoint, or of an Embed Tuning of this run."""
        return bool(self.tuned) or any(arm.kind == "embed" for arm in self.arms)

    @property
    def independent(self) -> list[int]:
        """The arms, by number, that need nothing of the others: with a given ticket all, else those without one."""

        def bound(kind: str) -> bool:
            return ARMS[kind].needs_ticket or kind in ("frequent", "prompt")

        return [n for n, arm in enumerate(self.arms) if self.tuned or not bound(arm.kind)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``from_dict`` takes them back."""
        found = super().as_dict() | {"arms": [json.loads(json.dumps(arm.as_dict())) for arm in self.arms]}
        if self.generate:  # as the plans say that are older than the choice, so that their runs are found again
            del found["generate"]
        return found

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """From what ``as_dict`` gave. Raises ``SettingsError`` for a field or a value that cannot be."""
        known = values.of_fields(cls, given)
        if "arms" in known:
            known["arms"] = tuple(Arm.from_dict(arm) for arm in values.members("The arms", known["arms"]))
        known["sweep"] = values.members("The sweep", known.get("sweep", ()))
        return super().from_dict(known)

"""The audit: is the ticket real? What is asked, and what has been answered.

Each panel is a question. Those of ``panels.PANELS`` need the model and are made by the job ``audit``, one after the other,
each kept when it is finished. ``controls`` is a run of the page Fine-tune with the arms that doubt the ticket. The ledger is
the job ``rules`` (``account``). ``calibration`` is a job of its own; ``stability`` and ``ranking`` are there at once.

    workspace/audits/<pair, ticket, text and prompt>/gating.json ...
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core import values
from ks_core.audit import controls
from ks_core.checkpoints import demo
from ks_core.errors import SettingsError, TicketError
from ks_core.jobs.resources import Resources
from ks_core.ks.statistic import exact_pvalue
from ks_core.ledger import evidence
from ks_core.signature import Signature, versions
from ks_core.store import shelf, shipped, workspace
from ks_core.store.shipped import Provenance
from ks_core.study.scan import Scan, Study, readable
from ks_core.tickets.selection import SELECTION_RULES, is_quick, select
from ks_core.tickets.stability import Run, compare, is_llama, published_runs
from ks_core.tuning import runnable, trainings
from ks_core.tuning.plans import Plan, Subject
from ks_core.tuning.recipes import ROWWISE, Recipe

if TYPE_CHECKING:
    from ks_core.jobs.queue import Job
    from ks_core.tickets.ranking import Ranking
    from ks_core.tickets.stability import Stability

#: How much is spent: held-out sentences, training steps of a control, seeds of the random ones.
BUDGETS = {"small": (24, 20, 1), "standard": (40, 20, 2), "large": (200, 150, 3)}
#: Raised when a panel could come out differently than before.
VERSION = 3


@dataclass(frozen=True)
class Audit(Subject):
    """What is audited: a pair, its ticket, and the text and prompt that it is asked about.

    ``budget`` is one of ``BUDGETS``. Everything is judged by the likelihood of references; ``generate`` has answers written
    too, and scored by BLEU and chrF beside it. Raises ``SettingsError`` for what cannot be.
    """

    budget: str = "standard"
    max_new_tokens: int = 48
    device: str = "auto"
    resources: Resources = field(default_factory=Resources)
    generate: bool = False

    def __post_init__(self) -> None:
        values.truth("The run: generate", self.generate)
        if self.budget not in tuple(BUDGETS):
            raise SettingsError(f"{str(self.budget)[:80]!r} is no budget. Expected one of: {', '.join(BUDGETS)}.")
        super().__post_init__()

    @classmethod
    def of(cls, study: Study, **choices: Any) -> Audit:
        """The audit of a study that is open already, so that its matrices are not mapped a second time."""
        made = cls(base=study.base_source, tuned=study.tuned_source, **choices)
        made.__dict__["study"] = study  # where the cached property below looks first
        return made

    @cached_property
    def study(self) -> Study:
        return Study(self.base, self.tuned)

    @cached_property
    def _baselines(self) -> tuple[str, ...]:
        return runnable.usual_baselines(self.base)

    @property
    def sentences(self) -> int:
        return BUDGETS[self.budget][0]

    def positions(self, scan: Scan) -> np.ndarray:
        """The ticket, as positions in the scan. Raises ``TicketError`` when it is empty."""
        found = select(scan, rule=self.rule, alpha=self.alpha, k=self.k, study=self.study)
        if not len(found):
            raise TicketError(
                "The ticket is empty: no row passes the rule, so there is nothing to audit. Raise alpha, or choose the "
                "ticket by count."
            )
        return found

    def controls(self, rows: tuple[int, ...]) -> Plan:
        """The run whose arms doubt the ticket (``controls.arms``); ``rows`` is the structural row, if there is one."""
        sentences, steps, seeds = BUDGETS[self.budget]
        token = readable(self.study.token_strings(), rows[0]) if rows else ""
        known = trainings.of(self.tuned)
        optimizer = known.recipe.optimizer if known and known.recipe.optimizer in ROWWISE else Recipe.optimizer
        arms = controls.arms(
            rows,
            token,
            steps=steps,
            seeds=seeds,
            optimizer=optimizer,
            free=self._baselines,
            trained=self.budget == "large",
        )
        return Plan(
            base=self.base, tuned=self.tuned, rule=self.rule, alpha=self.alpha, k=self.k, corpus=self.corpus,
            prompt=self.prompt, arms=arms, sentences=sentences, max_new_tokens=self.max_new_tokens, device=self.device,
            resources=self.resources, generate=self.generate,
        )  # fmt: skip

    def folder(self) -> Path:
        """Where the panels are kept: by content, so that a changed checkpoint has none."""
        key = {
            **self.study.key, "rule": self.rule, "alpha": self.alpha, "k": self.k, "corpus": self.corpus.as_dict(),
            "prompt": self.prompt, "sentences": self.sentences, "max_new_tokens": self.max_new_tokens, "audit": VERSION,
            **({"precision": self.resources.precision} if self.resources.precision != "float32" else {}),
            **({"generate": True} if self.generate else {}),
        }  # fmt: skip
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
        return workspace.home() / "audits" / name

    def panel(self, name: str) -> dict[str, Any] | None:
        """A finished panel as plain values; ``None`` when it was not made. One that was made with answers holds all that one
        without them does."""
        return self._kept(name)[0]

    def shipped(self, name: str) -> Provenance | None:
        """Where a panel comes from that was not made here but came with the program; ``None`` for any other."""
        return self._kept(name)[1]

    def _kept(self, name: str) -> tuple[dict[str, Any] | None, Provenance | None]:
        folders = [self.folder()]
        if not self.generate:
            more = replace(self, generate=True)
            more.__dict__["study"] = self.study
            folders.append(more.folder())
        for folder in folders:
            found = workspace.read_json(folder / f"{name}.json")
            if isinstance(found, dict):
                return found, None
        for folder in folders:
            other = shipped.read_json("audits", folder.name, f"{name}.json")
            if other and isinstance(other[0], dict):
                return other
        return None, None

    def run(self) -> Job | None:
        """The newest run of Fine-tune that is what ``controls`` asks for, in pair, ticket, text, prompt, arms, recipes and
        scoring; ``None`` where there is none."""
        return controls.find(self.study, self.controls(structural_row(self))).run

    @property
    def signature(self) -> Signature:
        """From what the panels of the job come."""
        by_count = SELECTION_RULES[self.rule].by_count
        return self.study.signature.with_fields(
            rule=self.rule, alpha="-" if by_count else self.alpha, k=self.k if by_count else "-",
            corpus=self.corpus.name, part="test", prompt=self.prompt, sentences=self.sentences,
            **({"max_new_tokens": self.max_new_tokens} if self.generate else {}),
            **Resources(precision=self.resources.precision).facts(), **versions("torch", "transformers", "sacrebleu"),
        )  # fmt: skip


def stability(audit: Audit, scan: Scan, opened: Callable[[str, str], Study] = Study) -> Stability | None:
    """The ticket beside those of other trainings of its base that are known (the demo's runs; the same arm in other runs
    of Fine-tune); beside the published ones where the vocabulary is LLaMA's.

    ``None`` for a pair that has nothing to be compared with. A training whose ticket cannot be chosen by the audit's rule, or
    not without a job, is left out. ``opened`` gives the studies of the others, by base and tuned.
    """
    training = _training(audit)
    siblings = trainings.others(training) if training else []
    if training and siblings:
        runs = []
        for one in sorted([training, *siblings], key=lambda t: t.name):
            study = audit.study if one is training else opened(audit.base, one.source)
            other = scan if one is training else study.scan()
            if is_quick(study, other, audit.rule):
                with contextlib.suppress(TicketError):
                    positions = select(other, rule=audit.rule, alpha=audit.alpha, k=audit.k, study=study)
                    runs.append(Run.from_scan(one.name, other, positions, one.facets, *trainings.how_often(one.source)))
        if audit.base == demo.BASE and training.source.startswith("demo:"):
            for name, test in demo.kept_tests().items():
                with contextlib.suppress(TicketError):
                    runs.append(_kept(audit, scan, name, test))
        return shelf.kept(compare, runs) if len(runs) > 1 else None
    if is_llama(audit.study.base.vocabulary):
        own = Run.from_scan("this pair", scan, audit.positions(scan), {})
        return compare([own, *published_runs(audit.study.base.vocabulary)])
    return None


def _kept(audit: Audit, scan: Scan, name: str, test: demo.KeptTest) -> Run:
    """A run of the demo of which only the test of the rows that changed is kept, with its ticket by the audit's rule.

    The other rows are those of ``scan``, a test of the same base: they did not move. Raises ``TicketError`` for a rule that needs
    more than that test.
    """
    if audit.rule == "cosine":
        raise TicketError(f"Of {name} no cosine is kept. Choose a rule that goes by the test.")
    place = np.searchsorted(scan.token_ids, test.token_ids)
    counts, l2 = np.zeros(len(scan.token_ids), np.int32), np.zeros(len(scan.token_ids))
    counts[place], l2[place] = np.rint(test.statistic * test.dim), test.l2
    whole = replace(scan, counts=counts, l2=l2, pvalue=exact_pvalue(counts / test.dim, test.dim))
    positions = select(whole, rule=audit.rule, alpha=audit.alpha, k=audit.k)
    known = trainings.of(f"demo:{name}")
    return Run.from_scan(name, whole, positions, known.facets if known else {}, *trainings.how_often(f"demo:{name}"))


def _training(audit: Audit) -> trainings.Training | None:
    """The training behind the tuned checkpoint, if it began at this audit's base."""
    found = trainings.of(audit.tuned)
    if found is None or (found.base_source != audit.base and found.base != audit.study.base.content_hash[:12]):
        return None
    return found


def optimizer_sentence(audit: Audit, scan: Scan) -> str:
    """What dense Adam does to the list, on the demo's own pair of runs; empty for any other pair."""
    from ks_core.tickets.ranking import spearman

    if (audit.base, audit.tuned) != (demo.BASE, demo.TUNED):
        return ""
    steps, test = trainings.steps(demo.TUNED), demo.kept_tests().get("en-fr-adam")
    if steps is None or test is None:
        return ""
    said = []
    changed = np.nonzero(scan.changed)[0]
    for name, ids, statistic, shift in (
        ("row-wise Adam", scan.token_ids[changed], scan.statistic[changed], scan.l2[changed]),
        ("dense Adam", test.token_ids, test.statistic, test.l2),
    ):
        often = np.array([steps.get(int(i), 0) for i in ids])
        top = np.lexsort((ids, -shift, -statistic))[:18]
        rho, _ = spearman(statistic, often)
        said.append(f"with {name} rank correlation {rho:.2f}, median {np.median(often[top]):.0f} steps")
    return (
        f"The same training with another optimizer, D against the steps that touched a row, and how many touched the 18 rows of "
        f"largest D: {'; '.join(said)}. Dense Adam goes on moving rows after the few steps that touched them."
    )


def ranking(audit: Audit, scan: Scan) -> Ranking | None:
    """What goes with D, where it is known how the checkpoint was trained (``trainings.of``); ``None`` elsewhere, and where
    fewer rows changed than a regression needs."""
    from ks_core.tickets.ranking import explain
    from ks_core.tickets.regression import FEWEST

    training = _training(audit)
    met = trainings.seen(training) if training else None
    if met is None or int(scan.changed.sum()) < FEWEST:
        return None

    def explained() -> Ranking:
        return explain(
            audit.study, scan, met.steps, draws=met.draws, counts=met.counts, prompt_ids=met.prompt_ids, first_step=met.first,
            last_step=met.last,
        )  # fmt: skip

    # The scan and the rows are decided by the study's key, and are large.
    return shelf.made("what goes with D", (audit.study.key, str(audit.study.signature), met), explained)


def second_seed(audit: Audit, opened: Callable[[str, str], Study] = Study) -> Study | None:
    """The same training with another seed, where there is one."""
    training = _training(audit)
    other = trainings.second_seed(training) if training else None
    return opened(audit.base, other.source) if other else None


def structural_row(audit: Audit) -> tuple[int, ...]:
    """The newline's id, or the colon's: a row of the prompt's frame. Empty where the vocabulary has neither."""
    return evidence.structural_row(audit.study)

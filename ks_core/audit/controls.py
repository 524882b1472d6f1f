"""The run of Fine-tune that doubts a ticket: its arms, and which run that was made may be taken for it.

What a verdict rests on has to be what its signature says, so a run is taken only where it has every arm that is asked for,
trained as asked, and scored alike; where one is not taken, ``Found.differs`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ks_core.errors import KSLotteryError
from ks_core.study.scan import Study
from ks_core.tickets.selection import SELECTION_RULES
from ks_core.translation.evaluation import part_of
from ks_core.translation.prompts import template, texts
from ks_core.translation.protocols import PROTOCOLS, Protocol
from ks_core.translation.tasks import TEXT
from ks_core.tuning import runnable
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import Plan
from ks_core.tuning.recipes import Recipe

if TYPE_CHECKING:
    from ks_core.jobs.handle import Job


@dataclass(frozen=True)
class Found:
    """The newest run that may be taken (``None``: there is none), and of the newest that may not, its name and why."""

    run: Job | None
    passed_over: str = ""
    differs: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Why a run of this ticket is not taken, for a person; empty where one is, or none is there."""
        if self.run or not self.passed_over:
            return ""
        return f"Run {self.passed_over} is of this ticket and is not taken, as it differs from what is asked: {'; '.join(self.differs)}."


def arms(
    rows: tuple[int, ...],
    token: str,
    *,
    steps: int,
    seeds: int,
    optimizer: str = Recipe.optimizer,
    free: Sequence[str] = (),
    trained: bool = True,
) -> tuple[Arm, ...]:
    """The arms that doubt a ticket: given, copied, trained; one structural row (``rows``, whose ``token`` names it), the
    ticket's rows that have a partner and those partners, random, frequent and prompt rows, random directions; and, copied,
    what ticket and frequent rows share and what each has alone; last the ``free`` kinds, the base asked in other manners. Not
    ``trained``: the rows with a partner, the partners, random rows and the prompt's are copied from the tuned model, as the
    ticket's are, which costs no step; the ticket, the structural row and the most frequent rows are trained in any case.
    ``optimizer`` is the one that the ticket was trained with, where that is known: rows trained otherwise would not be its
    controls."""
    recipe = Recipe(steps=steps, learning_rate=1e-2, schedule="linear", optimizer=optimizer)
    found = [Arm("base"), Arm("tuned"), Arm("transfer"), Arm("partial", recipe=recipe)]
    if rows:
        found.append(Arm("rows", tokens=rows, recipe=recipe, label=f"Row {token}"))
    for kind in ("paired", "partners", "random"):
        found += [
            Arm(kind, seed=s, recipe=replace(recipe, seed=s)) if trained else Arm(kind, seed=s, copied=True) for s in range(seeds)
        ]  # fmt: skip
    found += [
        Arm("frequent", recipe=recipe),
        Arm("prompt", recipe=recipe) if trained else Arm("prompt", copied=True),
        Arm("noise"),
    ]
    found += [Arm(kind, copied=True) for kind in ("both", "ticket-only", "frequent-only", "beyond-prompt")]
    return (*found, *(Arm(kind) for kind in free))


def beside(controls: Plan) -> Plan:
    """Base and ticket alone, under the prompt of another protocol: the sibling's, or the replication's where it is the sibling's; of
    text to text under Alpaca's frame, or as a question.
    An encoder-decoder, which is given no instructions, gets the other one of the prompts for such."""
    own, first, second = template(controls.prompt), PROTOCOLS["sibling"].prompt, PROTOCOLS["replication"].prompt
    if controls.corpus.task == TEXT:
        first, second = "instruction", "question"
    elif runnable.reads_with_encoder(controls.base):
        first, second = texts(encoder=True)
    other = second if own == template(first) else first
    arms = tuple(a for a in controls.arms if a.kind in ("base", "tuned", "transfer", "partial"))
    return replace(controls, prompt=other, arms=arms)


def protocol_of(prompt: str) -> Protocol | None:
    """The protocol that asks by this prompt, if one does."""
    return next((p for p in PROTOCOLS.values() if template(p.prompt) == template(prompt)), None)


def find(study: Study, asked: Plan) -> Found:
    """The newest finished run of Fine-tune on a pair and the ticket of a plan that has what the plan asks."""
    from ks_core.jobs.queue import all_jobs

    found = Found(None)
    for job in all_jobs("tune"):
        if job.state != "done":
            continue
        try:
            plan, summary = Plan.from_dict(job.request["parameters"]), job.result
        except KSLotteryError:  # of an older version, or damaged
            continue
        if not _is_about(study, asked, plan, summary):
            continue
        differs = differences(asked, plan, summary)
        if not differs:
            return Found(job)
        if not found.passed_over:
            found = Found(None, job.id, tuple(differs))
    return found


def differences(asked: Plan, plan: Plan, summary: Mapping[str, Any]) -> list[str]:
    """In what a run is not what is asked, in a few words each. More sentences, more arms, and answers that nobody asked for do
    not matter; how answers are written matters where some are asked for."""
    said = []
    if asked.generate and not plan.generate:
        said.append("no answers, asked some")
    if plan.sentences and (not asked.sentences or plan.sentences < asked.sentences):
        said.append(f"{plan.sentences} sentences, asked {asked.sentences or 'all'}")
    for name, words in (("beams", "beams"), ("max_new_tokens", "new tokens at most")):
        if asked.generate and getattr(plan, name) != getattr(asked, name):
            said.append(f"{getattr(plan, name)} {words}, asked {getattr(asked, name)}")
    if plan.resources.precision != asked.resources.precision:
        said.append(f"{plan.resources.precision}, asked {asked.resources.precision}")
    if (part := part_of(summary["signature"])) != "test":
        said.append(f"scored on {part or 'held-out pairs that were not parted yet'}, asked the test part")
    own = [replace(arm, label="") for arm in plan.arms]
    lacking = []
    for wanted in (replace(arm, label="") for arm in asked.arms):
        if wanted in own:
            continue
        other = next((a for a in own if a.recipe and replace(a, recipe=wanted.recipe) == wanted), None)
        if other:
            said.append(f"{wanted.name}: {_recipes(other, wanted)}")
        else:
            lacking.append(wanted.name)
    return said + ([f"without {', '.join(lacking)}"] if lacking else [])


def pair_of(study: Study) -> set[str]:
    """The fields by which a signature names a pair."""
    return {
        f"base:{study.base.label}@{study.base.content_hash[:12]}", f"tuned:{study.tuned.label}@{study.tuned.content_hash[:12]}"
    }  # fmt: skip


def _is_about(study: Study, asked: Plan, plan: Plan, summary: Mapping[str, Any]) -> bool:
    """Whether a run is of the pair, ticket, text and prompt, and has scores of the base and the ticket."""
    if (plan.rule, plan.prompt, plan.corpus) != (asked.rule, asked.prompt, asked.corpus):
        return False
    if (plan.k != asked.k) if SELECTION_RULES[asked.rule].by_count else (plan.alpha != asked.alpha):
        return False
    kinds = {a["kind"] for a in summary["arms"] if not a["error"]}
    return (
        pair_of(study) <= set(summary["signature"].split("|"))
        and "base" in kinds
        and bool(kinds & {"partial", "transfer"})
    )


def _recipes(own: Arm, wanted: Arm) -> str:
    mine, theirs = (asdict(arm.recipe) if arm.recipe else {} for arm in (own, wanted))
    return ", ".join(f"{n.replace('_', ' ')} {mine[n]}, asked {theirs[n]}" for n in mine if mine[n] != theirs[n])

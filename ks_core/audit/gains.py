"""Gains: what each arm of a run gives over the base, with what stopping explains of it, and the answers that a rule cuts.

Shares are ratios of gains with paired bootstrap intervals over sentences (``bootstrap.Bootstrap``); a ratio to a gain that
may be nothing, or to a loss, has no bounds and is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ks_core.audit.controls import protocol_of
from ks_core.translation.bootstrap import Bootstrap
from ks_core.translation.evaluation import part_of, read_answers
from ks_core.translation.extraction import dropped
from ks_core.translation.generation import Generation
from ks_core.translation.metrics import COMPARED
from ks_core.translation.shares import Share, share
from ks_core.tuning.arms import Arm
from ks_core.tuning.plans import Plan

if TYPE_CHECKING:
    from ks_core.jobs.handle import Job

#: The extraction rule under which arms are compared.
FIRST = "first_line"
#: Below so many answers with four words in a row as in the reference, BLEU rests on few.
FEW = 10


@dataclass(frozen=True)
class Gain:
    """One arm against the base, by metric.

    ``stopping``: the gain under ``rule`` (the cut that the prompt's protocol makes) as a share of the gain under ``raw``, so
    1 minus it is what stopping explains. ``shares``: the gain under ``first_line`` as a share of that of the arms ``of``:
    ``partial`` (the ticket, trained), of what is copied ``transfer`` (the ticket, copied), of ``partners`` the arm ``paired``
    of their seed. ``in_ticket`` of its ``rows`` are among the ``ticket_size`` of the ticket (``None``: not noted);
    ``balance`` says how well a matched control matches. ``matches`` of ``sentences`` answers, and ``base_matches`` of the
    base's, have a 4-gram of their reference under ``first_line``.
    """

    name: str
    kind: str
    stopping: dict[str, Share]
    shares: dict[str, Share]
    stop_rate: float
    mean_length: float
    of: str = "partial"
    rule: str = FIRST
    rows: int = 0
    in_ticket: int | None = None
    ticket_size: int = 0
    balance: str = ""
    steps: int | None = None
    seed: int = 0
    matches: int | None = None
    base_matches: int | None = None
    sentences: int = 0

    @property
    def overlap(self) -> str:
        """How many of its rows are the ticket's; empty where that is not noted."""
        if self.in_ticket is None or not self.rows:
            return ""
        are = "is a ticket row" if self.in_ticket == 1 else "are ticket rows"
        return f"{self.in_ticket:,} of those {self.rows:,} rows {are}"


@dataclass(frozen=True)
class Cut:
    """An answer that a rule cuts: what stays, and what is dropped."""

    arm: str
    source: str
    kept: str
    dropped: str


def gains(run: Job, asked: Plan | None = None) -> list[Gain]:
    """Every finished arm of a run against its base, on the sentences that they share; with ``asked`` only its arms.

    The bootstrap takes a second, so the newest runs' gains are held; a result that is written anew is another one.
    """
    arms = tuple(replace(arm, label="") for arm in asked.arms) if asked else None
    return list(_gains(run, (run.folder / "result.json").stat().st_mtime_ns, arms))


@lru_cache(maxsize=8)
def _gains(run: Job, written: int, asked: tuple[Arm, ...] | None) -> tuple[Gain, ...]:
    found, answers, references, language = _answers(run, asked)
    protocol = protocol_of(Plan.from_dict(run.request["parameters"]).prompt)
    rule = next((r for r in protocol.rules if r != "raw"), FIRST) if protocol else FIRST
    bootstrap = Bootstrap(references, language)
    scores = {name: bootstrap.all_scores(given) for name, given in answers.items()}
    matched = {name: _matches(bootstrap, given) for name, given in answers.items()}
    base = next(a["name"] for a in found if a["kind"] == "base")
    rows = []
    for arm in found:
        name, told = arm["name"], arm.get("arm") or {}
        if name == base:
            continue
        of = _whole(found, arm)

        def over(name: str, cut: str, metric: str) -> Any:
            return scores[name][cut][metric] - scores[base][cut][metric]

        rows.append(Gain(
            name, arm["kind"],
            stopping={m: share(over(name, rule, m), over(name, "raw", m)) for m in COMPARED},
            shares={m: share(over(name, FIRST, m), over(of["name"], FIRST, m)) for m in COMPARED},
            stop_rate=arm["evaluation"]["stop_rate"], mean_length=arm["evaluation"]["mean_length"],
            of=of["kind"], rule=rule, rows=len(arm.get("rows", [])), in_ticket=arm.get("in_ticket"),
            ticket_size=arm.get("ticket_size", 0), balance=(arm.get("balance") or {}).get("sentence", ""),
            steps=(told.get("recipe") or {}).get("steps"), seed=told.get("seed", 0),
            matches=matched[name], base_matches=matched[base], sentences=len(references),
        ))  # fmt: skip
    return tuple(rows)


def _whole(arms: Sequence[Mapping[str, Any]], arm: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arm of whose gain another arm's is a share."""
    told = arm.get("arm") or {}
    if arm["kind"] == "partners":
        for other in arms:
            if other["kind"] == "paired" and (other.get("arm") or {}).get("seed") == told.get("seed"):
                return other
    copied = told.get("copied") or arm["kind"] in ("transfer", "noise")
    by_kind = {a["kind"]: a for a in reversed(list(arms))}
    first, second = ("transfer", "partial") if copied else ("partial", "transfer")
    return by_kind.get(first) or by_kind[second]


def _matches(bootstrap: Bootstrap, answers: Sequence[Generation]) -> int:
    """How many answers have a 4-gram of their reference, as BLEU counts them."""
    matched = bootstrap.metrics["bleu"].counts([a.answer(FIRST) for a in answers])[:, 5]
    return int((matched > 0).sum())


def cuts(run: Job, rule: str, most: int = 6) -> list[Cut]:
    """Answers that a rule shortens, the longest drop of each arm first."""
    found, answers, _, _ = _answers(run)
    pairs = Plan.from_dict(run.request["parameters"]).corpus.load().part(part_of(run.result["signature"]))
    examples = []
    for arm in found:
        own = []
        for pair, given in zip(pairs, answers[arm["name"]], strict=False):
            kept = given.answer(rule)
            if cut := dropped(given.answer("raw"), kept):
                own.append(Cut(arm["name"], pair.source, kept, cut))
        examples += sorted(own, key=lambda c: -len(c.dropped))[:1]
    return examples[:most]


def ticket_of(arm_gains: Sequence[Gain]) -> Gain:
    """The gain that stands for the ticket: trained where it was trained, copied otherwise."""
    by_kind = {g.kind: g for g in reversed(arm_gains)}
    return by_kind.get("partial") or by_kind["transfer"]


def _answers(
    run: Job, asked: tuple[Arm, ...] | None = None
) -> tuple[list[dict[str, Any]], dict[str, list[Generation]], list[str], str]:
    summary = run.result
    corpus = Plan.from_dict(run.request["parameters"]).corpus.load()
    finished = [a for a in summary["arms"] if not a["error"]]
    if asked is not None:
        finished = [a for a in finished if replace(Arm.from_dict(a["arm"]), label="") in asked]
    answers = {a["name"]: read_answers(run.folder, a) for a in finished}
    count = len(next(iter(answers.values())))
    pairs = corpus.part(part_of(summary["signature"]))[:count]
    return finished, answers, [p.target for p in pairs], corpus.target_language

"""Gains: what each arm of a run gives over the base, with what stopping explains of it, and the answers that a rule cuts.

By the likelihood of the references stopping is the end token's part of the gain; by BLEU and chrF it is what a rule takes away
that cuts answers. A run has the one or the other, or both.

Shares are ratios of gains with paired bootstrap intervals over sentences (``bootstrap.Bootstrap``); a ratio to a gain that
may be nothing, or to a loss, has no bounds and is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ks_core.audit.controls import protocol_of
from ks_core.likelihood.judgement import comparable
from ks_core.likelihood.nats import Draws, Likelihood
from ks_core.translation.bootstrap import Bootstrap
from ks_core.translation.corpora import Corpus, SentencePair
from ks_core.translation.evaluation import part_of, read_answers
from ks_core.translation.extraction import dropped
from ks_core.translation.generation import Generation
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

    ``nats``: the gain in likelihood by part, in nats a target token and as a share of the whole gain of the arms ``of``; ``own``
    the same as shares of this arm's own gain; ``over_stop`` the gain over the base with a forced stop. They are empty where the
    run has no likelihood of it. What follows is of answers, and
    empty or ``None`` where none were written. ``stopping``: the gain under ``rule`` (the cut that the prompt's protocol makes) as a share of the gain under ``raw``, so
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
    stop_rate: float | None = None
    mean_length: float | None = None
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
    copied: bool = False
    nats: dict[str, Share] = field(default_factory=dict)
    own: dict[str, Share] = field(default_factory=dict)
    over_stop: dict[str, Share] = field(default_factory=dict)

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
    finished = _finished(run, asked)
    base = next(a for a in finished if a["kind"] == "base")
    by_answers, by_reading = _Answers.of(run, finished), _Readings.of(base, finished)
    rows = []
    for arm in finished:
        told = arm.get("arm") or {}
        if arm is base:
            continue
        of = _whole(finished, arm)
        rows.append(Gain(
            arm["name"], arm["kind"], of=of["kind"], rows=len(arm.get("rows", [])), in_ticket=arm.get("in_ticket"),
            ticket_size=arm.get("ticket_size", 0), balance=(arm.get("balance") or {}).get("sentence", ""),
            steps=(told.get("recipe") or {}).get("steps"), seed=told.get("seed", 0), copied=bool(told.get("copied")),
            **{"stopping": {}, "shares": {}, **by_reading.facts(arm, of), **by_answers.facts(arm, of, base)},
        ))  # fmt: skip
    return tuple(rows)


@dataclass(frozen=True)
class _Readings:
    """Likelihoods of the base's references by arm, as far as the run has them."""

    base: Likelihood | None
    found: Mapping[str, Likelihood]
    draws: Draws | None
    stop: Likelihood | None = None

    @classmethod
    def of(cls, base: Mapping[str, Any], finished: Sequence[Mapping[str, Any]]) -> _Readings:
        found = {a["name"]: Likelihood.from_dict(a["likelihood"]) for a in finished if a.get("likelihood")}
        own = found.get(base["name"])
        if own is None or len(own) < 2:
            return cls(None, {}, None)
        there = {name: one for name, one in found.items() if comparable(own, one)}
        stop = next((there[a["name"]] for a in finished if a["kind"] == "stop" and a["name"] in there), None)
        return cls(own, there, Draws(len(own)), stop)

    def facts(self, arm: Mapping[str, Any], of: Mapping[str, Any]) -> dict[str, Any]:
        """What a gain has of them; empty where the arm, or the one it is a share of, has none."""
        own, whole = self.found.get(arm["name"]), self.found.get(of["name"])
        if self.base is None or self.draws is None or own is None or whole is None:
            return {}
        won = {part: self.draws.gain(self.base, own, part) for part in own.parts}
        most = self.draws.gain(self.base, whole)
        over = {part: self.draws.gain(self.stop, own, part) for part in own.parts} if self.stop is not None else {}
        return {
            "over_stop": {part: share(gain, over["all"]) for part, gain in over.items()},
            "nats": {part: share(gain, most) for part, gain in won.items()},
            "own": {part: share(gain, won["all"]) for part, gain in won.items()}, "sentences": len(own),
        }  # fmt: skip


class _Answers:
    """The answers of a run's arms and their scores on shared draws of sentences; ``there`` where all arms have some."""

    def __init__(self, run: Job, finished: Sequence[Mapping[str, Any]]) -> None:
        plan = Plan.from_dict(run.request["parameters"])
        answers = {a["name"]: read_answers(run.folder, a) for a in finished}
        corpus = plan.corpus.load()
        self.references = [p.target for p in _pairs(run, corpus)[: len(next(iter(answers.values())))]]
        protocol = protocol_of(plan.prompt)
        self.rule = next((r for r in protocol.rules if r != "raw"), FIRST) if protocol else FIRST
        bootstrap = Bootstrap(self.references, corpus.target_language)
        self.compared = bootstrap.compared
        self.scores = {name: bootstrap.all_scores(given) for name, given in answers.items()}
        self.matched = {name: _matches(bootstrap, given) for name, given in answers.items()}

    @classmethod
    def of(cls, run: Job, finished: Sequence[Mapping[str, Any]]) -> _Answers | _NoAnswers:
        """Those of a run; none where an arm has written none."""
        return cls(run, finished) if all(a.get("evaluation") for a in finished) else _NoAnswers()

    def facts(self, arm: Mapping[str, Any], of: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """What a gain has of them."""
        name, start = arm["name"], base["name"]

        def over(name: str, cut: str, metric: str) -> Any:
            return self.scores[name][cut][metric] - self.scores[start][cut][metric]

        return {
            "stopping": {m: share(over(name, self.rule, m), over(name, "raw", m)) for m in self.compared},
            "shares": {m: share(over(name, FIRST, m), over(of["name"], FIRST, m)) for m in self.compared},
            "stop_rate": arm["evaluation"]["stop_rate"], "mean_length": arm["evaluation"]["mean_length"], "rule": self.rule,
            "matches": self.matched[name], "base_matches": self.matched[start], "sentences": len(self.references),
        }  # fmt: skip


class _NoAnswers:
    def facts(self, *about: Any) -> dict[str, Any]:
        return {}


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


def _matches(bootstrap: Bootstrap, answers: Sequence[Generation]) -> int | None:
    """How many answers have a 4-gram of their reference, as BLEU counts them; ``None`` where BLEU is not asked."""
    if "bleu" not in bootstrap.metrics:
        return None
    matched = bootstrap.metrics["bleu"].counts([a.answer(FIRST) for a in answers])[:, 5]
    return int((matched > 0).sum())


def cuts(run: Job, rule: str, most: int = 6) -> list[Cut]:
    """Answers that a rule shortens, the longest drop of each arm first; none of a run that has no answers."""
    pairs = _pairs(run, Plan.from_dict(run.request["parameters"]).corpus.load())
    examples = []
    for arm in _finished(run):
        if not arm.get("evaluation"):
            continue
        own = []
        for pair, given in zip(pairs, read_answers(run.folder, arm), strict=False):
            kept = given.answer(rule)
            if cut := dropped(given.answer("raw"), kept):
                own.append(Cut(arm["name"], pair.source, kept, cut))
        examples += sorted(own, key=lambda c: -len(c.dropped))[:1]
    return examples[:most]


def ticket_of(arm_gains: Sequence[Gain]) -> Gain:
    """The gain that stands for the ticket: trained where it was trained, copied otherwise."""
    by_kind = {g.kind: g for g in reversed(arm_gains)}
    return by_kind.get("partial") or by_kind["transfer"]


def _finished(run: Job, asked: tuple[Arm, ...] | None = None) -> list[dict[str, Any]]:
    """The finished arms of a run, or those of them that are ``asked``."""
    finished = [a for a in run.result["arms"] if not a["error"]]
    if asked is None:
        return finished
    return [a for a in finished if replace(Arm.from_dict(a["arm"]), label="") in asked]


def _pairs(run: Job, corpus: Corpus) -> Sequence[SentencePair]:
    """The pairs of the part that a run was scored on."""
    return corpus.part(part_of(run.result["signature"]))

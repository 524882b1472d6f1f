"""Gains: what each arm of a run gives over the base, with what stopping explains of it, and the answers that a rule cuts.

Shares are ratios of gains with paired bootstrap intervals over sentences (``bootstrap.Bootstrap``); a ratio to a gain that
may be nothing has no bounds and is said to have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ks_core.translation.bootstrap import Bootstrap
from ks_core.translation.evaluation import part_of, read_answers
from ks_core.translation.extraction import dropped
from ks_core.translation.generation import Generation
from ks_core.translation.shares import Share, share
from ks_core.tuning.plans import Plan

if TYPE_CHECKING:
    from ks_core.jobs.handle import Job

#: The extraction rule under which arms are compared.
FIRST = "first_line"


@dataclass(frozen=True)
class Gain:
    """One arm against the base. ``stopping[metric]``: the gain under ``first_line`` as a share of the gain under ``raw``,
    so 1 minus it is what stopping explains; ``of_ticket[metric]``: this arm's gain under ``first_line`` as a share of
    the ticket's."""

    name: str
    kind: str
    stopping: dict[str, Share]
    of_ticket: dict[str, Share]
    stop_rate: float
    mean_length: float


@dataclass(frozen=True)
class Cut:
    """An answer that a rule cuts: what stays, and what is dropped."""

    arm: str
    source: str
    kept: str
    dropped: str


def gains(run: Job) -> list[Gain]:
    """Every finished arm of a run against its base, on the sentences that they share.

    The bootstrap takes a second, so the newest runs' gains are held; a result that is written anew is another one.
    """
    return list(_gains(run, (run.folder / "result.json").stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _gains(run: Job, written: int) -> tuple[Gain, ...]:
    found, answers, references, language = _answers(run)
    bootstrap = Bootstrap(references, language)
    scores = {name: bootstrap.all_scores(given) for name, given in answers.items()}
    base = next(a["name"] for a in found if a["kind"] == "base")
    ticket = ticket_arm(found)
    rows = []
    for arm in found:
        name = arm["name"]
        if name == base:
            continue
        own = {
            rule: {m: scores[name][rule][m] - scores[base][rule][m] for m in ("bleu", "chrf")} for rule in scores[name]
        }
        whole = {m: scores[ticket][FIRST][m] - scores[base][FIRST][m] for m in ("bleu", "chrf")}
        rows.append(Gain(
            name, arm["kind"],
            stopping={m: share(own[FIRST][m], own["raw"][m]) for m in whole},
            of_ticket={m: share(own[FIRST][m], whole[m]) for m in whole},
            stop_rate=arm["evaluation"]["stop_rate"], mean_length=arm["evaluation"]["mean_length"],
        ))  # fmt: skip
    return tuple(rows)


def stopping_table(arm_gains: Sequence[Gain]) -> list[dict[str, str]]:
    """A row per arm for a table: what stopping explains of its gain in BLEU."""
    rows = []
    for gain in arm_gains:
        found = gain.stopping["bleu"]
        clear = found.value is not None and found.low is not None
        rows.append({
            "Arm": gain.name,
            "Gain in BLEU, first line": f"{found.gain:+.2f} [{found.gain_low:+.1f}, {found.gain_high:+.1f}]",
            "Share of the raw gain that remains": f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]" if clear
            else "no clear raw gain",
            "Ends by itself": f"{gain.stop_rate:.0%}", "Mean length": f"{gain.mean_length:.0f} characters",
        })  # fmt: skip
    return rows


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


def ticket_arm(arms: Sequence[Mapping[str, Any]]) -> str:
    """The arm that stands for the ticket: trained where it was trained, copied otherwise."""
    names = {a["kind"]: a["name"] for a in reversed(list(arms))}
    return names.get("partial") or names["transfer"]


def _answers(run: Job) -> tuple[list[dict[str, Any]], dict[str, list[Generation]], list[str], str]:
    summary = run.result
    corpus = Plan.from_dict(run.request["parameters"]).corpus.load()
    finished = [a for a in summary["arms"] if not a["error"]]
    answers = {a["name"]: read_answers(run.folder, a) for a in finished}
    count = len(next(iter(answers.values())))
    pairs = corpus.part(part_of(summary["signature"]))[:count]
    return finished, answers, [p.target for p in pairs], corpus.target_language

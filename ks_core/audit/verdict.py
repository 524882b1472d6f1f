"""The verdict: what a ticket buys, in sentences made of what was run, and what is still to be run.

Nothing here computes a score. Shares are ratios of gains with paired bootstrap intervals over sentences
(``shares.Bootstrap``); a ratio to a gain that may be nothing has no bounds and is said to have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ks_core.audit.certificate import Predictions, outcome
from ks_core.translation.evaluation import read_answers
from ks_core.translation.generation import Generation, extract, template_title
from ks_core.translation.shares import Bootstrap, Share, share
from ks_core.tuning.plans import Plan

if TYPE_CHECKING:
    from ks_core.jobs.queue import Job
    from ks_core.tickets.calibration import Calibration
    from ks_core.tickets.ranking import Ranking
    from ks_core.tickets.stability import Stability

#: Which panel a missing sentence needs, and what runs it.
NEEDS = {
    "controls": "the controls (trained rows beside the ticket)",
    "gating": "position gating",
    "transfer": "prompt transfer",
    "strength": "the sweep over strength",
    "certificate": "the certificate",
    "calibration": "the calibration of p",
    "stability": "other runs of the same training to compare with",
    "ranking": "how often each token was trained",
}


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
class Finding:
    """A sentence of the verdict and the panel that its figures come from."""

    panel: str
    sentence: str


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
        whole = {m: scores[ticket][_FIRST][m] - scores[base][_FIRST][m] for m in ("bleu", "chrf")}
        rows.append(Gain(
            name, arm["kind"],
            stopping={m: share(own[_FIRST][m], own["raw"][m]) for m in whole},
            of_ticket={m: share(own[_FIRST][m], whole[m]) for m in whole},
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


def as_text(short: str, said: Sequence[Finding], missing: Sequence[str], ticket: str, signature: str) -> str:
    """The verdict as lines of plain text; ``short`` is its headline."""
    lines = ["Verdict of KS-Lottery Explorer", f"Ticket: {ticket}", "", *([short, ""] if short else [])]
    lines += [f"- {f.sentence} ({f.panel})" for f in said]
    lines += [f"- Not known, because it was not run: {NEEDS[name]}" for name in missing]
    return "\n".join([*lines, "", f"Signature: {signature}", ""])


def cuts(run: Job, rule: str, most: int = 6) -> list[Cut]:
    """Answers that a rule shortens, the longest drop of each arm first."""
    found, answers, _, _ = _answers(run)
    pairs = Plan.from_dict(run.request["parameters"]).corpus.load().held_out
    examples = []
    for arm in found:
        own = []
        for pair, given in zip(pairs, answers[arm["name"]], strict=False):
            whole, kept = extract(given.text, "raw", given.prompt), extract(given.text, rule, given.prompt)
            if len(whole) > len(kept):
                own.append(Cut(arm["name"], pair.source, kept, whole[len(kept) :]))
        examples += sorted(own, key=lambda c: -len(c.dropped))[:1]
    return examples[:most]


def ticket_arm(arms: Sequence[Mapping[str, Any]]) -> str:
    """The arm that stands for the ticket: trained where it was trained, copied otherwise."""
    names = {a["kind"]: a["name"] for a in reversed(list(arms))}
    return names.get("partial") or names["transfer"]


def findings(
    arm_gains: Sequence[Gain] | None,
    panels: Mapping[str, Mapping[str, Any] | None],
    stable: Stability | None,
    explained: Ranking | None,
    calibrated: Calibration | None = None,
) -> tuple[list[Finding], list[str]]:
    """The sentences that the figures at hand allow, and the panels that are missing."""
    said: list[Finding] = []
    if arm_gains:
        said += _controls(arm_gains)
    if gating := panels.get("gating"):
        said.append(Finding("gating", _gating(gating)))
    if transfer := panels.get("transfer"):
        said.append(Finding("transfer", _transfer(transfer)))
    if strength := panels.get("strength"):
        said.append(Finding("strength", _strength(strength)))
    if certificate := panels.get("certificate"):
        known = Predictions(**{k: v for k, v in certificate.items() if k in Predictions.__dataclass_fields__})
        said.append(Finding("certificate", outcome(known, "vocabulary").sentence))
    if calibrated:
        said.append(Finding("calibration", calibrated.pvalue_sentence))
        said.append(Finding("calibration", calibrated.power_sentence))
    if stable:
        said.append(Finding("stability", stable.sentence))
    if explained:
        said.append(Finding("ranking", explained.count_sentence))
    there = {f.panel for f in said}
    return said, [name for name in NEEDS if name not in there]


def headline(arm_gains: Sequence[Gain] | None, stable: Stability | None) -> str:
    """What the ticket buys, in a sentence; as short as what was run. Empty when nothing was.

    Its figures are those of the findings, so it is never said without them.
    """
    parts = []
    if arm_gains:
        by_kind = {g.kind: g for g in reversed(arm_gains)}
        ticket = by_kind.get("partial") or by_kind["transfer"]
        stays = ticket.stopping["bleu"]
        if stays.value is not None and stays.low is not None:
            parts.append(f"{_percent(1 - stays.value)} of the ticket's BLEU gain is the model learning to stop")
        else:
            parts.append("the ticket's gain in BLEU is not clear of chance")
        for kind, words in (
            ("rows", "tuning one row alone"),
            ("frequent", "tuning as many of the most frequent rows"),
        ):
            found = by_kind[kind].of_ticket["chrf"] if kind in by_kind else None
            if found and found.value is not None and found.low is not None:
                parts.append(f"{words} gives {_percent(found.value)} of its gain in chrF")
    if stable and stable.across_seeds:
        stay, k = stable.across_seeds
        parts.append(f"of the {k} rows of largest D, {round(stay, 1):g} are the same with another seed")
    said = "; ".join(parts)
    return said[:1].upper() + said[1:] + "." if said else ""


def _controls(arm_gains: Sequence[Gain]) -> list[Finding]:
    by_kind: dict[str, list[Gain]] = {}
    for gain in arm_gains:
        by_kind.setdefault(gain.kind, []).append(gain)
    ticket = (by_kind.get("partial") or by_kind["transfer"])[0]
    said = [Finding("termination", _stopping(ticket))]
    said += [Finding("termination", _stopping(g)) for g in [*by_kind.get("tuned", []), *by_kind.get("embed", [])]]
    for kind, words in (
        ("rows", "Training one structural row alone gives"),
        ("matched", "Random rows trained about as often give"),
        ("random", "Random rows give"),
        ("frequent", "The most frequent rows give"),
        ("prompt", "The prompt's own rows give"),
        ("noise", "The ticket's rows moved as far in random directions give"),
    ):
        found = [g.of_ticket["chrf"] for g in by_kind.get(kind, [])]
        if found:
            said.append(Finding("controls", f"{words} {_several(found)} of the ticket's gain in chrF (first line)."))
    return said


def _stopping(gain: Gain) -> str:
    found = gain.stopping["bleu"]
    if found.value is None or found.low is None:
        return f"{gain.name}: no gain in BLEU that is clear of chance ({found.gain:+.2f} under first_line)."
    stays = f"{_percent(found.value)} [{_percent(found.low)}, {_percent(found.high or 0)}]"
    return (
        f"{gain.name}: of the gain in raw BLEU {stays} remains when the answer is cut at the first line; the rest is the "
        f"model learning to stop (it ends {_percent(gain.stop_rate)} of its answers)."
    )


def _several(found: Sequence[Share]) -> str:
    """One share with its interval, or every seed's."""
    if any(f.value is None or f.low is None for f in found):
        return "no share that can be told from chance, as the ticket's own gain is not clear of it,"
    if len(found) == 1:
        return f"{_percent(found[0].value)} [{_percent(found[0].low)}, {_percent(found[0].high)}]"
    return f"{' and '.join(_percent(f.value) for f in found)} (one seed each)"


def _gating(panel: Mapping[str, Any]) -> str:
    runs = {r["name"]: r for r in panel["runs"]}
    single = [name for name in runs if name not in ("none", "all", "instruction")]
    parts = []
    for name in single:
        found = runs[name]["recovery"][_FIRST]["chrf"]
        if runs[name]["acting"] == 0:
            parts.append(f"{_spoken(name)} none (its tokens do not occur there)")
        elif found["value"] is not None:
            parts.append(f"{_spoken(name)} {_percent(found['value'])}")
    return (
        "Acting in one part of the sequence alone the ticket recovers, of its gain in chrF: " + ", ".join(parts) + "."
    )


def _transfer(panel: Mapping[str, Any]) -> str:
    parts = [
        f"{template_title(r['name'])} {_percent(value)}"
        for r in panel["runs"]
        if not r["trained"] and (value := r["kept"][_FIRST]["chrf"]["value"]) is not None
    ]
    return "Under other prompts the copied ticket keeps, of its gain in chrF: " + (", ".join(parts) or "unknown") + "."


def _strength(panel: Mapping[str, Any]) -> str:
    points = [p for p in panel["points"] if p["rows"] == "ticket"]
    best = max(points, key=lambda p: p["evaluation"]["scores"][_FIRST]["chrf"]["value"])
    return (
        f"Scaled from 0 to {max(p['strength'] for p in points):g} times its size, the ticket's change translates best at "
        f"{best['strength']:g} (chrF {best['evaluation']['scores'][_FIRST]['chrf']['value']:.1f})."
    )


def _answers(run: Job) -> tuple[list[dict[str, Any]], dict[str, list[Generation]], list[str], str]:
    summary = run.result
    corpus = Plan.from_dict(run.request["parameters"]).corpus.load()
    finished = [a for a in summary["arms"] if not a["error"]]
    answers = {a["name"]: read_answers(run.folder, a) for a in finished}
    count = len(next(iter(answers.values())))
    return finished, answers, [p.target for p in corpus.held_out[:count]], corpus.target_language


def _spoken(name: str) -> str:
    return {"prefill": "the prompt's end", "target": "the answer", "source": "the source"}.get(
        name, "the " + name.replace("_", "'s ")
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share + 0.0 if abs(share) >= 0.005 else 0:.0%}"


_FIRST = "first_line"

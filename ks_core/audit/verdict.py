"""The verdict: what a ticket buys, in sentences made of what was run, and what is still to be run.

Nothing here computes a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_core.audit.gains import Gain
from ks_core.audit.panels import PANELS, questions
from ks_core.audit.sentences import percent
from ks_core.translation.shares import Share

if TYPE_CHECKING:
    from ks_core.tickets.calibration import Calibration
    from ks_core.tickets.ranking import Ranking
    from ks_core.tickets.stability import Stability


@dataclass(frozen=True)
class Finding:
    """A sentence of the verdict and the panel that its figures come from."""

    panel: str
    sentence: str


def needs() -> dict[str, str]:
    """What a sentence of the verdict needs, by panel: what is said of it while it was not run."""
    return {question.name: question.needs for question in questions() if question.needs}


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
    for name, panel in PANELS.items():
        if kept := panels.get(name):
            said.append(Finding(name, panel.sentence(kept)))
    if calibrated:
        said.append(Finding("calibration", calibrated.pvalue_sentence))
        said.append(Finding("calibration", calibrated.power_sentence))
    if stable:
        said.append(Finding("stability", stable.sentence))
    if explained:
        said.append(Finding("ranking", explained.count_sentence))
    there = {f.panel for f in said}
    return said, [name for name in needs() if name not in there]


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
            parts.append(f"{percent(1 - stays.value)} of the ticket's BLEU gain is the model learning to stop")
        else:
            parts.append("the ticket's gain in BLEU is not clear of chance")
        for kind, words in (
            ("rows", "tuning one row alone"),
            ("frequent", "tuning as many of the most frequent rows"),
        ):
            found = by_kind[kind].of_ticket["chrf"] if kind in by_kind else None
            if found and found.value is not None and found.low is not None:
                parts.append(f"{words} gives {percent(found.value)} of its gain in chrF")
    if stable and stable.across_seeds:
        stay, k = stable.across_seeds
        parts.append(f"of the {k} rows of largest D, {round(stay, 1):g} are the same with another seed")
    said = "; ".join(parts)
    return said[:1].upper() + said[1:] + "." if said else ""


def as_text(short: str, said: Sequence[Finding], missing: Sequence[str], ticket: str, signature: str) -> str:
    """The verdict as lines of plain text; ``short`` is its headline."""
    lines = ["Verdict of KS-Lottery Explorer", f"Ticket: {ticket}", "", *([short, ""] if short else [])]
    lines += [f"- {f.sentence} ({f.panel})" for f in said]
    wanting = needs()
    lines += [f"- Not known, because it was not run: {wanting[name]}" for name in missing]
    return "\n".join([*lines, "", f"Signature: {signature}", ""])


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
    stays = f"{percent(found.value)} [{percent(found.low)}, {percent(found.high or 0)}]"
    return (
        f"{gain.name}: of the gain in raw BLEU {stays} remains when the answer is cut at the first line; the rest is the "
        f"model learning to stop (it ends {percent(gain.stop_rate)} of its answers)."
    )


def _several(found: Sequence[Share]) -> str:
    """One share with its interval, or every seed's."""
    if any(f.value is None or f.low is None for f in found):
        return "no share that can be told from chance, as the ticket's own gain is not clear of it,"
    if len(found) == 1:
        return f"{percent(found[0].value)} [{percent(found[0].low)}, {percent(found[0].high)}]"
    return f"{' and '.join(percent(f.value) for f in found)} (one seed each)"

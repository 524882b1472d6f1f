"""The verdict: what a ticket buys, in sentences made of what was run, and what is still to be run.

The ledger comes first: what the gain is made of and which rows carry it, by the likelihood of references. Scores of answers,
where some were written, come after it. Nothing here computes a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_core.audit import control_sentences
from ks_core.audit.gains import Gain
from ks_core.audit.panels import PANELS, questions

if TYPE_CHECKING:
    from ks_core.audit.account import Account
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


@dataclass(frozen=True)
class Asked:
    """How a run was asked: its ``prompt``, how answers were ``decoded``, and the ``gains`` of its arms."""

    gains: Sequence[Gain]
    prompt: str
    decoded: str


def findings(
    run: Asked | None,
    panels: Mapping[str, Mapping[str, Any] | None],
    stable: Stability | None,
    explained: Ranking | None,
    calibrated: Calibration | None = None,
    *,
    beside: Asked | None = None,
    lengths: str = "",
    account: Account | None = None,
) -> tuple[list[Finding], list[str]]:
    """The sentences that the figures at hand allow, and the panels that are missing.

    ``run`` is that of the controls, ``beside`` one of the same ticket under another protocol's prompt; ``lengths`` says where
    arms were not trained for as long; ``account`` is the ledger's.
    """
    said: list[Finding] = [Finding("ledger", sentence) for sentence in account.sentences] if account else []
    if run and run.gains:
        said += [Finding("termination", s) for s in control_sentences.termination(run.gains, run.prompt, run.decoded)]
    if beside and beside.gains:
        others = control_sentences.beside(beside.gains, beside.prompt, beside.decoded)
        said += [Finding("termination", sentence) for sentence in others]
    if run and run.gains:
        said += [Finding("controls", s) for s in control_sentences.controls(run.gains, lengths)]
    for name, panel in PANELS.items():
        if kept := panels.get(name):
            said += [Finding(name, sentence) for sentence in panel.said(kept)]
    if calibrated:
        said.append(Finding("calibration", calibrated.pvalue_sentence))
        said.append(Finding("calibration", calibrated.power_sentence))
        if calibrated.null_sentence:
            said.append(Finding("calibration", calibrated.null_sentence))
    if stable:
        said.append(Finding("stability", stable.sentence))
        if stable.noise_sentence:
            said.append(Finding("stability", stable.noise_sentence))
    if explained:
        said.append(Finding("ranking", explained.count_sentence))
    there = {f.panel for f in said}
    return said, [name for name in needs() if name not in there]


def headline(arm_gains: Sequence[Gain] | None, stable: Stability | None, account: Account | None = None) -> str:
    """What the ticket buys, in a sentence; as short as what was run, and what counts against it first. Empty when nothing was.

    Its figures are those of the findings, so it is never said without them.
    """
    parts = account.headline if account else []
    parts += control_sentences.headline(arm_gains) if arm_gains else []
    if stable and stable.across_seeds:
        stay, k = stable.across_seeds
        parts.append(f"of the {k} rows of largest D, {round(stay, 1):g} are the same with another seed")
    said = "; ".join(parts)
    return said[:1].upper() + said[1:] + "." if said else ""


def as_text(
    short: str, said: Sequence[Finding], missing: Sequence[str], ticket: str, signature: str, shipped: str = ""
) -> str:
    """The verdict as lines of plain text; ``short`` is its headline, ``shipped`` says what was not computed here."""
    lines = ["Verdict of KS-Lottery Explorer", f"Ticket: {ticket}", "", *([short, ""] if short else [])]
    lines += [f"- {f.sentence} ({f.panel})" for f in said]
    wanting = needs()
    lines += [f"- Not known, because it was not run: {wanting[name]}" for name in missing]
    return "\n".join([*lines, *(["", shipped] if shipped else []), "", f"Signature: {signature}", ""])

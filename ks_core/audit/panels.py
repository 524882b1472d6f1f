"""What the audit asks, question by question; and the job ``audit``, which answers those that need the model.

``PANELS`` is the list that people add to: a panel is a function ``panel(material, report)`` in a file of its own, a sentence
for the verdict, a figure, and a line here. The job makes the panels one after the other and keeps each; verdict, page and
report read what was kept, as plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ks_core.audit import material, sentences
from ks_core.audit.inquiry import Audit
from ks_core.audit.writing import sentences as written_sentences
from ks_core.checkpoints import demo
from ks_core.jobs import world
from ks_core.registry import Entry, Registry, named
from ks_core.store import workspace
from ks_core.study.scan import Scan
from ks_core.translation.prompts import REPLICATION
from ks_core.tuning.arms import PAPER

if TYPE_CHECKING:
    from ks_core.jobs.running import Running
    from ks_core.likelihood.scorer import Report


@dataclass(frozen=True, kw_only=True)
class Question(Entry):
    """A question of the audit: ``about`` asks it. ``needs`` says what is missing while nothing answers it (empty: what
    another question needs)."""

    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel(Question):
    """A question that the job ``audit`` answers with the model at hand.

    What loads torch or plotly is named as ``module:function``: ``function(material, report)`` makes the panel as plain values,
    which are kept; ``figure(panel)`` draws them; ``table(panel)`` gives rows and their caption, for the report (empty: it has
    none). ``sentence(panel)`` is what the verdict says of them, ``note`` how the figure is read.

    ``written`` is what the panel asks of answers, where an audit has them written: its plain values are kept under the same
    name in the panel, ``written_sentence`` and ``written_figure`` are given them.
    """

    function: str
    sentence: Callable[[Mapping[str, Any]], str]
    figure: str
    table: str = ""
    note: str = ""
    written: str = ""
    written_sentence: Callable[[Mapping[str, Any]], str] | None = None
    written_figure: str = ""

    def said(self, kept: Mapping[str, Any]) -> list[str]:
        """What the verdict says of a panel that was kept: of its readings, then of its answers."""
        told = [self.sentence(kept)]
        if self.written_sentence and kept.get("written"):
            told.append(self.written_sentence(kept["written"]))
        return told

    def drawn(self, kept: Mapping[str, Any]) -> list[partial[Any]]:
        """What draws its figures, in the same order."""
        names = [(self.figure, kept), *([(self.written_figure, kept["written"])] if kept.get("written") else [])]
        return [partial(named(name), values) for name, values in names if name]


PANELS = Registry("panel", [
    Panel(
        "gating", "Gating", "Where in the sequence does the ticket act?", REPLICATION, needs="position gating",
        function="ks_core.audit.gating:panel", sentence=sentences.gating, figure="ks_core.audit.figures:gate_bars",
        written="ks_core.audit.writing.gating:panel", written_sentence=written_sentences.gating,
        written_figure="ks_core.audit.writing.figures:recovery_bars",
        note="Of the copied ticket (Partial Transfer), nothing trained anew: its rows act only at the tokens of one part of the "
        "sequence. Intervals are over sentences alone. "
        "The diamonds say how many tokens there have an acting row: where none has, no effect is no opportunity.",
    ),
    Panel(
        "transfer", "Prompts", "Does it survive another prompt?", needs="prompt transfer",
        function="ks_core.audit.prompt_transfer:panel", sentence=sentences.transfer, figure="ks_core.audit.figures:prompt_bars",
        written="ks_core.audit.writing.prompts:panel", written_sentence=written_sentences.transfer,
        written_figure="ks_core.audit.writing.figures:transfer_bars",
        note="The ticket's rows copied into the base (Partial Transfer), under prompts that it was not trained with, with the base "
        "beside it. Intervals are over sentences alone.",
    ),
    Panel(
        "strength", "Strength", "How much of its change does it need?", needs="the sweep over strength",
        function="ks_core.audit.strength:panel", sentence=sentences.strength, figure="ks_core.audit.figures:nats_curves",
        written="ks_core.audit.writing.strength:panel", written_sentence=written_sentences.strength,
        written_figure="ks_core.audit.writing.figures:strength_curves",
        note="base + a × change of the copied ticket (Partial Transfer): 0 is the base, 1 the ticket as trained, bit for bit. The "
        "curves are of development sentences, where the best strength is chosen; the diamonds are the test's, of which it is claimed.",
    ),
    Panel(
        "certificate", "Certificate", "Does the ticket model predict what the tuned one does?",
        f"{PAPER}, Theorem 2 as this program reads it", needs="the certificate",
        function="ks_core.audit.agreement.predictions:panel", sentence=sentences.certificate,
        figure="ks_core.audit.figures:agreement_curve", table="ks_core.audit.agreement.certificate:table",
    ),
])  # fmt: skip

#: What is asked before the panels, of the ledger and of a run of Fine-tune, and after them, of what needs no model.
BEFORE = (
    Question(
        "ledger", "Ledger", "What is the gain made of, and which rows carry it?",
        needs="the ledger (which rows carry the gain, noise, and the rules that compete with the test)",
    ),
    Question("termination", "Termination", "How much of the gain is the model learning to stop?", REPLICATION),
    Question(
        "controls", "Controls", "Would other rows have done as well?", REPLICATION,
        needs="the controls (trained rows beside the ticket)",
    ),
)  # fmt: skip
AFTER = (
    Question(
        "calibration", "Calibration", "What does p mean for rows that started as one another?",
        needs="the calibration of p",
    ),
    Question(
        "stability", "Stability", "Is it the same ticket in another run?",
        needs="other runs of the same training to compare with",
    ),
    Question(
        "ranking", "Ranking", "Does D say more than how often a token was trained?",
        needs="how often each token was trained",
    ),
)  # fmt: skip


def questions() -> list[Question]:
    """Every question, in the order in which verdict, page and report go through them."""
    return [*BEFORE, *PANELS.values(), *AFTER]


def run_audit(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``audit``: the panels that need the model, each kept as soon as it is made."""
    audit = Audit.from_dict(parameters)
    demo.prepare_for((audit.base, audit.tuned), running)
    with world.main_first():
        scan = audit.study.scan(
            lambda done, total: running.progress(done, total, "testing rows", unit="rows", stage="scan")
        )
    audit.positions(scan)
    missing = world.agree([name for name in PANELS if audit.panel(name) is None])
    if missing:
        make_panels(audit, scan, missing, running)
    return {"panels": list(PANELS), "signature": str(audit.signature)}


def make_panels(audit: Audit, scan: Scan, names: list[str], running: Running) -> None:
    """Make some panels and keep each. ``running.progress`` may raise ``Cancelled``; what was kept stays."""
    found = material.prepare(audit, scan, running)
    audit.folder().mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names, 1):
        report, panel = _report(running, name, f"{place} of {len(names)}"), PANELS[name]
        made = named(panel.function)(found, report)
        if audit.generate and panel.written:
            made = {**made, "written": named(panel.written)(found, report)}
        if world.is_main():
            kept = {**made, "signature": str(audit.signature)}
            workspace.write_json(audit.folder() / f"{name}.json", kept)
        running.event(panel=name)


def _report(running: Running, stage: str, place: str) -> Report:
    """What a panel tells how far it is: the job, with its place among the panels."""
    return lambda done, total, message: running.progress(
        done, total, f"{place}: {message}", unit="sentences", stage=stage
    )

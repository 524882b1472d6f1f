"""A whole audit in one call: what is missing is run as jobs, one after the other, and what is known then is gathered. Or in one job,
which submits these and follows them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ks_core.audit import account, controls
from ks_core.audit.evidence import Evidence, gather
from ks_core.audit.inquiry import Audit, second_seed, structural_row
from ks_core.audit.panels import PANELS
from ks_core.checkpoints import demo
from ks_core.errors import Cancelled, JobError
from ks_core.jobs import devices
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import FINAL, PATIENCE, Job
from ks_core.jobs.queue import submit
from ks_core.ledger.inquiry import Inquiry
from ks_core.study.scan import Scan
from ks_core.tickets.calibration import Settings, calibrate, train_on_noise
from ks_core.translation.corpora import Corpus
from ks_core.tuning import estimates
from ks_core.tuning.estimates import Rates
from ks_core.tuning.plans import Plan

if TYPE_CHECKING:
    from ks_core.jobs.running import Running

#: The lane of the job that follows the others, which have the device's: it would wait for itself there.
LANE = "whole"
#: How often the panels read each reference, about: under gates, prompts, strengths, and with other rows copied. A step of gradients
#: reads it three times.
PANEL_READS, STEP_READS = 33, 3


def waited(job: Job) -> None:
    """Wait for a job, which an interrupt cancels. Raises ``JobError`` when it is not done."""
    try:
        state = job.wait(math.inf)
    except KeyboardInterrupt:
        job.cancel()
        raise
    if state != "done":
        raise JobError(job.error or f"Job {job.id} was {state}. Ask again: it goes on from what was finished.")


@dataclass(frozen=True)
class Step:
    """A job of an audit that is still to be done: its kind, what it is asked, and what it is called."""

    kind: str
    parameters: dict[str, Any]
    label: str

    @classmethod
    def of_run(cls, plan: Plan, label: str) -> Step:
        """The run of a plan."""
        return cls("tune", plan.as_dict(), label)


def left(audit: Audit, scan: Scan) -> list[Step]:
    """The jobs of an audit that are still to be done, in the order in which they are to be: the ledger, the controls, the
    panels, and, where answers are written, base and ticket under another protocol's prompt. By likelihood the panel Prompts has
    read them under every prompt.

    Raises ``TicketError`` for an empty ticket.
    """
    audit.positions(scan)
    plan, found = audit.controls(structural_row(audit)), list[Step]()
    known = account.find(audit, scan)
    if known is None or known.ticket is None:
        found.append(Step("rules", account.asked(audit, scan).as_dict(), "Ledger"))
    if audit.run() is None:
        found.append(Step.of_run(plan, f"Controls: {len(plan.arms)} arms"))
    if any(audit.panel(name) is None for name in PANELS):
        found.append(Step("audit", audit.as_dict(), "Audit"))
    other = controls.beside(plan)
    if audit.generate and controls.find(audit.study, other).run is None:
        found.append(Step.of_run(other, "The ticket under another prompt"))
    return found


def carry_out(
    audit: Audit,
    scan: Scan,
    *,
    allocation: Allocation | None = None,
    planned: Callable[[Plan], None] = lambda plan: None,
    follow: Callable[[Job], None] = waited,
    report: Callable[[float, float, str], None] = lambda done, total, message: None,
) -> Evidence:
    """Run what of an audit is missing, and give what is known then: the jobs of the page Audit's buttons.

    They are submitted to this machine, or to Slurm with an ``allocation``. ``planned`` is told the run of the controls before it
    begins; ``follow`` is given each job and returns when it is done, or raises; ``report(done, total, message)`` is told of the
    calibration, which is made here. Raises ``TicketError`` for an empty ticket, ``JobError`` for controls that ended without the
    ticket's arm, and what ``follow`` raises.
    """
    lane = "slurm" if allocation else devices.select(audit.device).removeprefix("torch:")
    for step in left(audit, scan):
        if step.kind == "tune" and step.label.startswith("Controls"):
            planned(Plan.from_dict(step.parameters))
        follow(submit(step.kind, step.parameters, label=step.label, device=lane, allocation=allocation))
    calibrate(audit.study, scan, Settings(alpha=audit.alpha), second_seed(audit), report=report)
    train_on_noise(audit.study, scan, report)
    found = gather(audit, scan)
    if found.run is None or found.gains is None:
        raise JobError(
            "The run of the controls ended without the ticket's arm. The page Fine-tune shows what each arm said."
        )
    return found


def costs(audit: Audit, steps: list[Step], corpus: Corpus, rates: Rates) -> list[tuple[str, float]]:
    """About how many seconds each of some steps takes on the machine whose ``rates`` were measured, with its label, in their order."""
    read = estimates.reading(audit.prompt, corpus, rates)
    found = []
    for step in steps:
        if step.kind == "tune":
            seconds = sum(spent for _, spent in estimates.seconds(Plan.from_dict(step.parameters), corpus, rates))
        elif step.kind == "rules":
            asked = Inquiry.from_dict(step.parameters)
            times = (
                asked.sentences * (2 + len(asked.rules) * len(asked.sizes))
                + STEP_READS * asked.development * asked.points
            )
            seconds = rates.load + read * times
        else:
            seconds = rates.load + read * PANEL_READS * audit.sentences
        found.append((step.label, seconds))
    return found


def run_whole(parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """The job ``whole``: an audit, all of it (``parameters`` are its plain values). How far it is is told of the whole."""
    audit = Audit.from_dict(parameters)
    demo.prepare_for((audit.base, audit.tuned), running)
    scan = audit.study.scan(
        lambda done, total: running.progress(done, total, "testing rows", unit="rows", stage="scan")
    )
    parts, done = len(left(audit, scan)) + 1, 0  # the calibration is the last of them, and made here

    def tell(words: str) -> None:  # in whole steps: what a step says of itself begins anew with each of its stages
        running.progress(done, parts, words, unit="steps", stage="whole")

    def follow(job: Job) -> None:
        nonlocal done
        _followed(job, tell)
        done += 1

    found = carry_out(audit, scan, follow=follow, report=lambda spent, total, message: tell(message))
    return {"headline": found.headline, "missing": found.missing, "signature": str(audit.signature)}


def _followed(job: Job, tell: Callable[[str], None]) -> None:
    """Tell what a job does until it is over. When ``tell`` ends the work the job is cancelled too, and waited for. Raises
    ``JobError`` when it is not done."""
    while (state := job.state) not in FINAL:
        try:
            tell(f"{job.request.get('label', '')}: {_doing(job)}")
        except Cancelled:
            job.cancel()
            end = time.monotonic() + 2 * PATIENCE
            while job.state not in FINAL and time.monotonic() < end:
                job.insist()
                time.sleep(0.1)
            raise
        time.sleep(0.5)
    if state != "done":
        raise JobError(
            job.error
            or f"{job.request.get('label', job.id)} was {state}. Ask again: it goes on from what was finished."
        )


def _doing(job: Job) -> str:
    """What a job does, and how far it is with that."""
    progress = job.progress
    far = f", {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}".rstrip() if progress.total > 1 else ""
    return f"{progress.message or 'waiting'}{far}"

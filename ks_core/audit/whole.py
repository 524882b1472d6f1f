"""A whole audit in one call: what is missing is run as jobs, one after the other, and what is known then is gathered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ks_core.audit import account, controls
from ks_core.audit.evidence import Evidence, gather
from ks_core.audit.inquiry import Audit, second_seed, structural_row
from ks_core.audit.panels import PANELS
from ks_core.errors import JobError
from ks_core.jobs import devices
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import Job
from ks_core.jobs.queue import submit
from ks_core.study.scan import Scan
from ks_core.tickets.calibration import Settings, calibrate, train_on_noise
from ks_core.tuning.plans import Plan


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

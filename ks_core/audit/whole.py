"""A whole audit in one call: what is missing is run as jobs, one after the other, and what is known then is gathered."""

from __future__ import annotations

import math
from collections.abc import Callable

from ks_core.audit import controls
from ks_core.audit.evidence import Evidence, gather
from ks_core.audit.inquiry import Audit, second_seed, structural_row
from ks_core.audit.panels import PANELS
from ks_core.errors import JobError
from ks_core.jobs import devices
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import Job
from ks_core.jobs.queue import submit
from ks_core.study.scan import Scan
from ks_core.tickets.calibration import Settings, calibrate
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

    They are submitted to this machine, or to Slurm with an ``allocation``. Last comes the ticket under another protocol's prompt,
    so that what is said of stopping is said of two. ``planned`` is told the run of the controls before it begins; ``follow`` is given each job and returns when it is done, or raises; ``report(done, total, message)``
    is told of the calibration, which is made here. Raises ``TicketError`` for an empty ticket, ``JobError`` for controls
    that ended without the ticket's arm, and what ``follow`` raises.
    """
    audit.positions(scan)
    lane = "slurm" if allocation else devices.select(audit.device).removeprefix("torch:")
    plan = audit.controls(structural_row(audit))
    if audit.run() is None:
        planned(plan)
        label = f"Controls: {len(plan.arms)} arms"
        follow(submit("tune", plan.as_dict(), label=label, device=lane, allocation=allocation))
    if any(audit.panel(name) is None for name in PANELS):
        follow(submit("audit", audit.as_dict(), label="Audit", device=lane, allocation=allocation))
    calibrate(audit.study, scan, Settings(alpha=audit.alpha), second_seed(audit), report=report)
    other = controls.beside(plan)
    if controls.find(audit.study, other).run is None:
        follow(
            submit("tune", other.as_dict(), label="The ticket under another prompt", device=lane, allocation=allocation)
        )
    found = gather(audit, scan)
    if found.run is None or found.gains is None:
        raise JobError(
            "The run of the controls ended without the ticket's arm. The page Fine-tune shows what each arm said."
        )
    return found

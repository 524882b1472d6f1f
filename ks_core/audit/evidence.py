"""Everything that is known about a ticket at this moment: what the verdict, the page and the report all read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.audit import account, control_sentences, controls, verdict
from ks_core.audit.gains import Gain, gains
from ks_core.audit.inquiry import Audit, ranking, second_seed, stability, structural_row
from ks_core.audit.panels import PANELS
from ks_core.ledger import exposure
from ks_core.store import shipped
from ks_core.study.scan import Scan, Study
from ks_core.tickets import calibration
from ks_core.tuning import comparison
from ks_core.tuning.plans import Plan

if TYPE_CHECKING:
    from ks_core.audit.waterfall import Waterfall
    from ks_core.jobs.handle import Job
    from ks_core.tickets.ranking import Ranking
    from ks_core.tickets.stability import Stability


@dataclass(frozen=True)
class Evidence:
    """What was run about one ticket. What was not run is ``None``; nothing here starts anything.

    ``ticket``: positions in the scan; ``run``: the controls, a job of Fine-tune; ``panels``: plain values by name.
    """

    audit: Audit
    scan: Scan
    ticket: np.ndarray
    run: Job | None
    gains: list[Gain] | None
    panels: dict[str, dict[str, Any] | None]
    calibration: calibration.Calibration | None
    stability: Stability | None
    ranking: Ranking | None
    #: The same ticket under another protocol's prompt, as ``controls.beside`` asks, and what its arms give.
    beside: Job | None = None
    beside_gains: list[Gain] | None = None
    #: What the ledger's newest answer says of the ticket.
    account: account.Account | None = None
    #: Why a run of this ticket is not taken for the controls; empty where one is, or none is there.
    not_taken: str = ""
    #: Why calibration and stability have no training on noise beside them; empty where one was done.
    no_noise: str = ""

    @cached_property
    def findings(self) -> list[verdict.Finding]:
        """The sentences of the verdict, each with its panel."""
        return self._verdict[0]

    @cached_property
    def missing(self) -> list[str]:
        """Names from ``verdict.needs()`` of what has not been run."""
        return self._verdict[1]

    @cached_property
    def _verdict(self) -> tuple[list[verdict.Finding], list[str]]:
        return verdict.findings(
            _asked(self.run, self.gains), self.panels, self.stability, self.ranking, self.calibration,
            beside=_asked(self.beside, self.beside_gains), lengths=self.lengths, account=self.account,
        )  # fmt: skip

    @property
    def lengths(self) -> str:
        """Where the arms of the controls, and what they are compared with, were not trained for as long; empty elsewhere."""
        return comparison.lengths(self.run.result, self.audit.tuned) if self.run else ""

    @property
    def headline(self) -> str:
        """The verdict in one sentence; empty when nothing was run."""
        return verdict.headline(self.gains, self.stability, self.account)

    @property
    def doubts(self) -> list[str]:
        """In short what of ledger and controls counts against the ticket, or else what they say of it; a sentence each."""
        against = self.account.doubts if self.account else []
        against += control_sentences.headline(self.gains)[:1] if self.gains else []
        return [f"{said[:1].upper()}{said[1:]}." for said in against or (self.account.headline if self.account else [])]

    def sentences(self, panel: str) -> list[str]:
        """What the verdict says of one panel."""
        return [f.sentence for f in self.findings if f.panel == panel]

    @cached_property
    def shipped(self) -> str:
        """What of it was not computed here but came with the program, in a sentence; empty where nothing is."""
        return shipped.sentence({
            "ledger": self.account.shipped if self.account else None,
            "controls": self.run.shipped if self.run else None,
            **{PANELS[name].title.lower(): self.audit.shipped(name) for name in PANELS if self.panels.get(name)},
            "calibration": self.calibration.shipped if self.calibration else None,
        })  # fmt: skip

    @cached_property
    def waterfall(self) -> Waterfall | None:
        """From base to tuned, of the run of the controls or else of the ledger; ``None`` where neither has what it takes."""
        from ks_core.audit import waterfall

        found = None
        if self.run:
            found = waterfall.of_arms(self.run.result["arms"], f"run {self.run.id}", self.run.result["signature"])
        return found or (waterfall.of_account(self.account) if self.account else None)


def gather(audit: Audit, scan: Scan, opened: Callable[[str, str], Study] = Study) -> Evidence:
    """Collect what is there. Raises ``TicketError`` for an empty ticket. ``opened`` gives studies of other trainings of the base, by base
    and tuned: a server has them open."""
    ticket, plan = audit.positions(scan), audit.controls(structural_row(audit))
    found = controls.find(audit.study, plan)
    other = controls.beside(plan)
    beside = controls.find(audit.study, other).run
    settings = calibration.Settings(alpha=audit.alpha)
    calibrated, stable, no_noise = exposure.beside(
        audit.study, scan, ticket, calibration.cached(audit.study, settings, second_seed(audit, opened)), stability(audit, scan, opened),
    )  # fmt: skip
    return Evidence(
        audit, scan, ticket, found.run, gains(found.run, plan) if found.run else None,
        {name: audit.panel(name) for name in PANELS},
        calibrated, stable, ranking(audit, scan),
        beside, gains(beside, other) if beside else None, account.find(audit, scan), found.sentence, no_noise,
    )  # fmt: skip


def glance(audit: Audit, scan: Scan) -> Evidence:
    """The part of it that is read in a moment: ledger and controls, with what either says. Raises ``TicketError`` for an empty ticket."""
    ticket, plan = audit.positions(scan), audit.controls(structural_row(audit))
    found = controls.find(audit.study, plan)
    return Evidence(
        audit, scan, ticket, found.run, gains(found.run, plan) if found.run else None, {}, None, None, None,
        account=account.find(audit, scan), not_taken=found.sentence,
    )  # fmt: skip


def _asked(run: Job | None, arm_gains: list[Gain] | None) -> verdict.Asked | None:
    if run is None or arm_gains is None:
        return None
    plan = Plan.from_dict(run.request["parameters"])
    return verdict.Asked(arm_gains, plan.prompt, control_sentences.decoded(plan.beams, plan.max_new_tokens))

"""Everything that is known about a ticket at this moment: what the verdict, the page and the report all read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ks_core.audit import verdict
from ks_core.audit.gains import Gain, gains
from ks_core.audit.inquiry import Audit, ranking, second_seed, stability
from ks_core.audit.panels import PANELS
from ks_core.tickets import calibration

if TYPE_CHECKING:
    from ks_core.jobs.handle import Job
    from ks_core.study.scan import Scan
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
        return verdict.findings(self.gains, self.panels, self.stability, self.ranking, self.calibration)

    @property
    def headline(self) -> str:
        """The verdict in one sentence; empty when nothing was run."""
        return verdict.headline(self.gains, self.stability)

    def sentences(self, panel: str) -> list[str]:
        """What the verdict says of one panel."""
        return [f.sentence for f in self.findings if f.panel == panel]


def gather(audit: Audit, scan: Scan) -> Evidence:
    """Collect what is there. Raises ``TicketError`` for an empty ticket."""
    ticket, run = audit.positions(scan), audit.run()
    settings = calibration.Settings(alpha=audit.alpha)
    return Evidence(
        audit, scan, ticket, run, gains(run) if run else None, {name: audit.panel(name) for name in PANELS},
        calibration.cached(audit.study, settings, second_seed(audit)), stability(audit, scan), ranking(audit, scan),
    )  # fmt: skip

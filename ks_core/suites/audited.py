"""What an audit of the demo says of a row, where no suite does: its controls and where its ticket acts. In this workspace, or shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ks_core.audit import evidence
from ks_core.audit.inquiry import Audit
from ks_core.checkpoints import demo
from ks_core.errors import KSLotteryError
from ks_core.study.scan import Study
from ks_core.translation.shares import Share

#: Row -> the arm of the controls whose share of the trained ticket's gain it is; and the run of the panel of position gating.
CONTROLS = {"one-row": "rows", "frequent": "frequent"}
GATES = {
    "gating-instruction": "instruction",
    "gating-head": "instruction_head",
    "gating-tail": "instruction_tail",
    "gating-source": "source",
    "gating-target": "target",
}
#: Rows that ask what of the trained ticket's gain is stopping.
STOPPING = ("stopping-ca", "stopping-es", "stopping-ro")


def shares(opened: Callable[[str, str], Study] = Study) -> dict[str, tuple[Share, str]]:
    """What the demo's standard audit says, by row: a share, and of what it is, in words. Empty where the demo was not prepared or nothing
    was audited. ``opened`` gives the study of base and tuned, where one is held open already."""
    if not demo.is_ready():
        return {}
    try:
        study = opened(demo.BASE, demo.TUNED)
        audit, scan = Audit.of(study), study.scan()
        known, gating = evidence.glance(audit, scan), audit.panel("gating")
    except KSLotteryError:  # of a changed demo: nothing is known of it
        return {}
    found: dict[str, tuple[Share, str]] = {}
    for gain in known.gains or ():
        for row, kind in CONTROLS.items():
            if gain.kind == kind and gain.of == "partial" and "all" in gain.nats:
                found[row] = gain.nats["all"], f"{gain.name}, trained for {gain.steps or 0:,} steps"
        if gain.kind == "partial" and "end" in gain.own:
            found |= dict.fromkeys(
                STOPPING, (gain.own["end"], "the end token's share of what the trained ticket gains")
            )
    for row, name in GATES.items():
        run: Mapping[str, Any] = next((r for r in (gating or {}).get("runs", ()) if r["name"] == name), {})
        if told := run.get("nats", {}).get("all"):
            found[row] = Share(**told), "the ticket's rows, copied, acting there alone"
    return {row: told for row, told in found.items() if told[0].low is not None}

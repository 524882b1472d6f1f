"""The few functions that a notebook or a script needs; ``from ks_core import open_study, tune, audit_ticket`` finds them.

>>> study = open_study("demo:base", "demo:en-fr")                          # doctest: +SKIP
>>> scan = study.scan()                                                    # doctest: +SKIP
>>> int(scan.winners(alpha=0.05).sum())                                    # doctest: +SKIP
112
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core.study.scan import Study

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.audit.evidence import Evidence
    from ks_core.tuning.plans import Plan


def open_study(base: str, tuned: str, device: str = "auto") -> Study:
    """A pair of checkpoints, each a folder, a file, a hub id, or a name such as ``demo:en-fr``.

    Opens both, and raises ``CheckpointError`` or ``PairError`` where they cannot be opened or compared.
    """
    study = Study(base, tuned, device)
    _ = study.pair
    return study


def tune(plan: Plan | Iterable[str], folder: Path | str, **settings: Any) -> pd.DataFrame:
    """Carry out a plan in a folder, in this process, and give its table: a row per arm (``tuning.comparison.table``).

    ``plan`` is a ``tuning.Plan``, or arms as on the command line (``["base", "partial", "matched:seed=1"]``) with the
    plan's other fields as ``settings``. A folder with an interrupted run is gone on with. Raises what the plan raises.
    """
    from ks_core.tuning import comparison
    from ks_core.tuning.arms import parse_arm
    from ks_core.tuning.plans import Plan
    from ks_core.tuning.runs import run

    if not isinstance(plan, Plan):
        plan = Plan(arms=tuple(parse_arm(arm) for arm in plan), **settings)
    return comparison.table(run(plan, Path(folder), lambda *words, **more: None))


def audit_ticket(study: Study, **choices: Any) -> Evidence:
    """Ask whether a study's ticket is real: run what is missing as jobs, wait for them, and give what is known.

    ``choices`` are fields of ``audit.Audit`` (``rule``, ``alpha``, ``budget`` ...). ``print(found.headline)`` is its
    verdict in a sentence. Takes minutes to an hour; what was answered before is found again.
    """
    from ks_core.audit.inquiry import Audit
    from ks_core.audit.whole import carry_out

    return carry_out(Audit.of(study, **choices), study.scan())

"""The kinds of jobs: which function does the work of each, named so that nothing of the work is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from ks_core.errors import JobError
from ks_core.registry import Entry, Registry


@dataclass(frozen=True)
class Kind(Entry):
    """A kind of job.

    ``work`` names the function that does it, as ``module:function``: ``run(parameters, running) -> result``, where both
    are plain JSON values and ``running`` a ``Running``. ``short`` kinds take seconds and do not wait behind a training.
    ``shared`` ones several processes can do together, as their parameters' resources say. ``parts`` names a function
    ``parts(parameters) -> {number: (name, kind, parameters)}`` that cuts the work for an array of Slurm.
    """

    work: str = ""
    short: bool = False
    shared: bool = False
    parts: str = ""


KINDS = Registry("kind of job", [
    Kind("scan", "Test", "The KS test of every row of a pair.", work="ks_core.study.scan:run_scan", short=True),
    Kind("drift", "Drift map", "Where rows went, in two dimensions.", work="ks_core.study.drift:run_drift", short=True),
    Kind("neighbourhoods", "Neighbours", "Which tokens stand near which, before and after.",
         work="ks_core.study.neighbourhoods:run_neighbourhoods", short=True),
    Kind("untrained", "Under-trained tokens", "Which rows the base's own training hardly touched.", work="ks_core.study.untrained:run_untrained",
         short=True),
    Kind("layers", "Layers", "The test of every tensor.", work="ks_core.study.layers:run_layers", short=True),
    Kind("trajectory", "Trajectory", "The test of every checkpoint of a training.", work="ks_core.trajectory.opening:run_trajectory",
         short=True),
    Kind("demo", "Demo", "The demo's base model and its test.", work="ks_core.tuning.demo_runs:run_prepare", short=True),
    Kind("selection", "Rows by a rule", "What a rule that chooses rows needs of them.", work="ks_core.tickets.selection:run_selection", short=True),
    Kind("calibration", "Calibration", "What p means on this pair.", work="ks_core.tickets.calibration:run_calibration",
         short=True),
    Kind("tune", "Run", "Arms, tuned and scored.", work="ks_core.tuning.jobs:run_tune", shared=True,
         parts="ks_core.tuning.jobs:parts_of"),
    Kind("arm", "Arm", "One arm of a run, a task of an array.", work="ks_core.tuning.jobs:run_one_arm", shared=True),
    Kind("suite", "Suite", "Runs over language pairs, protocols and seeds, with one table.", work="ks_core.suites.jobs:run_suite", shared=True,
         parts="ks_core.suites.jobs:parts_of"),
    Kind("suite-run", "Run of a suite", "One run of a suite, a task of an array.", work="ks_core.suites.jobs:run_one", shared=True),
    Kind("evaluate", "Evaluation", "Checkpoints, scored as they are.", work="ks_core.tuning.exam:run_evaluate", shared=True),
    Kind("rules", "Rules", "What the rows of each rule keep of a gain.", work="ks_core.ledger.jobs:run_rules"),
    Kind("estimate", "Measuring", "How long a run would take.", work="ks_core.tuning.estimates:run_estimate", shared=True),
    Kind("audit", "Audit", "The panels that need the model.", work="ks_core.audit.panels:run_audit", shared=True),
    Kind("whole", "Everything", "All that an audit asks, one job after the other.", work="ks_core.audit.whole:run_whole"),
], error=JobError)  # fmt: skip

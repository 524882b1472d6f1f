"""The command ``audit``: every panel in one go, and the verdict as text. The same jobs as the page Audit's buttons."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ks_core import demo, jobs
from ks_core.errors import JobError, SettingsError
from ks_core.tune_command import add_corpus_arguments, corpus_of, device_of, follow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``audit``."""
    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument("tuned", nargs="?", default=demo.TUNED, help="checkpoint after tuning (default demo:en-fr)")
    parser.add_argument("--rule", default="alpha", help="alpha, bonferroni, benjamini-hochberg or count")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=18, help="rows of the ticket, with --rule count (default 18)")
    parser.add_argument("--budget", default="standard", choices=("small", "standard", "large"),
                        help="how many sentences, training steps and seeds (default standard)")  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="write verdict and panels to a .json file")
    add_corpus_arguments(parser, scoring=False)


def run(options: argparse.Namespace, line: Callable[[float, float, str], None]) -> int:
    """Run what is missing, print the verdict."""
    from ks_core import verdict
    from ks_core.audit import PANELS, Audit, ranking, second_seed, stability, structural_row
    from ks_core.calibration import Settings, calibrate

    if options.output and Path(options.output).suffix != ".json":
        raise SettingsError(f"{options.output} does not end in .json. Name a .json file.")
    audit = Audit(
        options.base, options.tuned, options.rule, options.alpha, options.k, corpus_of(options),
        options.prompt.replace("\\n", "\n"), options.budget, options.max_new_tokens, options.device,
    )  # fmt: skip
    if any(source.startswith("demo") for source in (audit.base, audit.tuned)):
        demo.prepare_base(line)
    scan = audit.study.scan(lambda done, total: line(done, total, "testing rows"))
    ticket = audit.positions(scan)
    device = device_of(audit.device)
    found = audit.run()
    if found is None:
        plan = audit.controls(structural_row(audit))
        found = _done(jobs.submit("tune", plan.as_dict(), label=f"Controls: {len(plan.arms)} arms", device=device))
    if any(audit.panel(name) is None for name in PANELS):
        _done(jobs.submit("audit", audit.as_dict(), label="Audit", device=device))
    calibration = calibrate(audit.study, scan, Settings(alpha=audit.alpha), second_seed(audit), report=line)
    panels = {name: audit.panel(name) for name in PANELS}
    gains = verdict.gains(found)
    said, missing = verdict.findings(gains, panels, stability(audit, scan), ranking(audit, scan))
    sentences = [asdict(f) for f in said] + [
        {"panel": "calibration", "sentence": calibration.pvalue_sentence},
        {"panel": "calibration", "sentence": calibration.power_sentence},
    ]
    print(f"ticket     {len(ticket):,} rows of {audit.tuned}")
    print(f"controls   run {found.id}")
    for finding in sentences:
        print(f"\n{finding['panel']:<11}{finding['sentence']}")
    for name in missing:
        print(f"\nnot known  {verdict.NEEDS[name]}")
    print(f"\nsignature  {audit.signature}")
    if options.output:
        _write(Path(options.output), {
            "verdict": sentences, "missing": missing, "controls": found.result, "gains": [asdict(g) for g in gains],
            "panels": panels, "signature": str(audit.signature),
        })  # fmt: skip
        print(f"wrote {options.output}")
    return 0


def _done(job: jobs.Job) -> jobs.Job:
    print(f"job        {job.id}", flush=True)
    state = follow(job)
    if state != "done":
        raise JobError(job.error or f"Job {job.id} was {state}. Give the command again: what was finished is kept.")
    return job


def _write(path: Path, found: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name another file.") from None

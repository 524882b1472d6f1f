"""The command ``audit``: every panel in one go, and the verdict as text. The same jobs as the page Audit's buttons."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ks_core.checkpoints import demo
from ks_core.commands import corpus_options, resource_options
from ks_core.commands.progress_line import finish
from ks_core.commands.tune import have
from ks_core.errors import JobError, SettingsError
from ks_core.jobs import queue

if TYPE_CHECKING:
    from ks_core.audit.inquiry import Audit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``audit``."""
    add_audit_arguments(parser)
    parser.add_argument("--output", metavar="FILE", help="write verdict and panels to a .json file")


def add_audit_arguments(parser: argparse.ArgumentParser) -> None:
    """What is audited: the options that ``audit`` and ``report`` share."""
    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument("tuned", nargs="?", default=demo.TUNED, help="checkpoint after tuning (default demo:en-fr)")
    parser.add_argument("--rule", default="alpha", help="alpha, bonferroni, benjamini-hochberg or count")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=18, help="rows of the ticket, with --rule count (default 18)")
    parser.add_argument("--budget", default="standard", choices=("small", "standard", "large"),
                        help="how many sentences, training steps and seeds (default standard)")  # fmt: skip
    corpus_options.add_arguments(parser, scoring=False)


def run(options: argparse.Namespace, line: Callable[[float, float, str], None]) -> int:
    """Run what is missing, print the verdict."""
    from ks_core.audit import verdict
    from ks_core.audit.evidence import gather
    from ks_core.audit.inquiry import PANELS, second_seed, structural_row
    from ks_core.tickets.calibration import Settings, calibrate

    if options.output and Path(options.output).suffix != ".json":
        raise SettingsError(f"{options.output} does not end in .json. Name a .json file.")
    audit = audit_of(options)
    have(audit.base, audit.tuned)
    if any(source.startswith("demo") for source in (audit.base, audit.tuned)):
        demo.prepare_base(line)
    scan = audit.study.scan(lambda done, total: line(done, total, "testing rows"))
    ticket = audit.positions(scan)
    device, allocation = resource_options.device_of(options), resource_options.allocation_of(options)
    if audit.run() is None:
        plan = audit.controls(structural_row(audit))
        resource_options.say_what_it_takes(plan, allocation)
        _done(
            queue.submit(
                "tune", plan.as_dict(), label=f"Controls: {len(plan.arms)} arms", device=device, allocation=allocation
            )
        )
    if any(audit.panel(name) is None for name in PANELS):
        _done(queue.submit("audit", audit.as_dict(), label="Audit", device=device, allocation=allocation))
    calibrate(audit.study, scan, Settings(alpha=audit.alpha), second_seed(audit), report=line)
    found = gather(audit, scan)
    if found.run is None or found.gains is None:
        raise JobError(
            "The run of the controls ended without the ticket's arm. The page Fine-tune shows what each arm said."
        )
    print(f"ticket     {len(ticket):,} rows of {audit.tuned}")
    print(f"controls   run {found.run.id}")
    print(f"\n{'in short':<12}{found.headline}")
    for finding in found.findings:
        print(f"\n{finding.panel:<12}{finding.sentence}")
    for name in found.missing:
        print(f"\nnot known   {verdict.NEEDS[name]}")
    print(f"\nsignature  {audit.signature}")
    if options.output:
        _save(Path(options.output), json.dumps({
            "headline": found.headline, "verdict": [asdict(f) for f in found.findings], "missing": found.missing, "controls": found.run.result,
            "gains": [asdict(g) for g in found.gains], "panels": found.panels, "signature": str(audit.signature),
        }, ensure_ascii=False, indent=1))  # fmt: skip
        print(f"wrote {options.output}")
    return 0


def report(options: argparse.Namespace, line: Callable[[float, float, str], None]) -> int:
    """Write what is known of a pair as one HTML file. Tests the rows if need be, and starts nothing else."""
    from ks_core.audit import report as reports
    from ks_core.audit.evidence import gather
    from ks_core.audit.verdict import NEEDS
    from ks_core.errors import TicketError

    path = Path(options.output)
    if path.suffix not in (".html", ".htm"):
        raise SettingsError(f"{path} does not end in .html. Name an .html file.")
    audit = audit_of(options)
    if any(source.startswith("demo") for source in (audit.base, audit.tuned)):
        demo.prepare_base(line)
    scan = audit.study.scan(lambda done, total: line(done, total, "testing rows"))
    try:
        found = gather(audit, scan)
    except TicketError:  # an empty ticket: the test alone is reported
        found = None
    _save(path, reports.build(audit.study, scan, audit.alpha, found))
    print(f"wrote {path}")
    if options.figures:
        from ks_core.figure_files import figure_bytes

        folder, signature = Path(options.figures), reports.signature_of(scan, audit.alpha, found)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for section in reports.make_sections(audit.study, scan, audit.alpha, found):
                for number, figure in enumerate(section.figures, 1):
                    file = folder / f"{section.anchor}-{number}.{options.format}"
                    file.write_bytes(figure_bytes(figure, file.suffix, signature))
                    print(f"wrote {file}")
        except OSError as error:
            raise SettingsError(f"{folder} cannot be written: {error.strerror}. Name another folder.") from None
    for name in found.missing if found else []:
        print(f"not in it: {NEEDS[name]}")
    return 0


def audit_of(options: argparse.Namespace) -> Audit:
    """The audit that the options describe."""
    from ks_core.audit.inquiry import Audit

    return Audit(
        options.base, options.tuned, options.rule, options.alpha, options.k, corpus_options.corpus_of(options),
        options.prompt.replace("\\n", "\n"), options.budget, options.max_new_tokens, options.device,
        resource_options.resources_of(options),
    )  # fmt: skip


def _done(job: queue.Job) -> None:
    print(f"job        {job.id}", flush=True)
    finish(job)


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name another file.") from None

"""The command ``audit``: every panel in one go, and the verdict as text. The same jobs as the page Audit's buttons."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ks_core.checkpoints import demo
from ks_core.commands import corpus_options, resource_options
from ks_core.commands.progress_line import Line, finish
from ks_core.commands.ticket import add_rule_arguments
from ks_core.commands.tune import have
from ks_core.errors import SettingsError
from ks_core.jobs.handle import Job

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
    add_rule_arguments(parser)
    corpus_options.add_budget_arguments(parser)
    corpus_options.add_arguments(parser, scoring=False)


def run(options: argparse.Namespace) -> int:
    """Run what is missing, print the verdict."""
    from ks_core.audit.verdict import needs
    from ks_core.audit.whole import carry_out

    if options.output and Path(options.output).suffix != ".json":
        raise SettingsError(f"{options.output} does not end in .json. Name a .json file.")
    audit, line = audit_of(options), Line("")
    have(audit.base, audit.tuned)
    if any(demo.is_name(source) for source in (audit.base, audit.tuned)):
        demo.prepare_base(line)
    scan = audit.study.scan(lambda done, total: line(done, total, "testing rows"))
    allocation = resource_options.allocation_of(options)
    found = carry_out(
        audit, scan, allocation=allocation, planned=lambda plan: resource_options.say_what_it_takes(plan, allocation),
        follow=_done, report=line,
    )  # fmt: skip
    assert found.run is not None and found.gains is not None  # or it had raised
    print(f"ticket     {len(found.ticket):,} rows of {audit.tuned}")
    print(f"controls   run {found.run.id}")
    if found.account:
        print(f"ledger     job {found.account.job}")
    print(f"\n{'in short':<12}{found.headline}")
    for finding in found.findings:
        print(f"\n{finding.panel:<12}{finding.sentence}")
    wanting = needs()
    for name in found.missing:
        print(f"\nnot known   {wanting[name]}")
    print(f"\nsignature  {audit.signature}")
    if options.output:
        save(Path(options.output), json.dumps({
            "headline": found.headline, "verdict": [asdict(f) for f in found.findings], "missing": found.missing, "controls": found.run.result,
            "gains": [asdict(g) for g in found.gains], "panels": found.panels, "ledger": found.account.result if found.account else None,
            "waterfall": asdict(found.waterfall) if found.waterfall else None, "signature": str(audit.signature),
        }, ensure_ascii=False, indent=1))  # fmt: skip
        print(f"wrote {options.output}")
    return 0


def audit_of(options: argparse.Namespace) -> Audit:
    """The audit that the options describe."""
    from ks_core.audit.inquiry import Audit

    return Audit(
        base=options.base, tuned=options.tuned, rule=options.rule, alpha=options.alpha, k=options.k,
        corpus=corpus_options.corpus_of(options), prompt=corpus_options.prompt_of(options, options.base), budget=options.budget,
        max_new_tokens=options.max_new_tokens, device=options.device, resources=resource_options.resources_of(options), generate=options.generate,
    )  # fmt: skip


def _done(job: Job) -> None:
    print(f"job        {job.id}", flush=True)
    finish(job)


def save(path: Path, text: str) -> None:
    """Write a file. Raises ``SettingsError`` where it cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name another file.") from None

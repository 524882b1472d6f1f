"""The command ``report``: what is known of a pair as one HTML file. It tests the rows if need be, and starts nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path

from ks_core.checkpoints import demo
from ks_core.commands.audit import add_audit_arguments, audit_of, save
from ks_core.commands.progress_line import Line
from ks_core.errors import SettingsError, TicketError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``report``."""
    add_audit_arguments(parser)
    parser.add_argument("--output", metavar="FILE", default="report.html", help="an .html file (default report.html)")
    parser.add_argument("--figures", metavar="FOLDER", help="write every figure into a folder as well")
    parser.add_argument(
        "--format", default="html", choices=("html", "svg", "png"), help="of the figures (default html)"
    )


def run(options: argparse.Namespace) -> int:
    """Write what is known of a pair as one HTML file. Tests the rows if need be, and starts nothing else."""
    from ks_core.audit import report as reports
    from ks_core.audit.evidence import gather
    from ks_core.audit.verdict import needs

    path = Path(options.output)
    if path.suffix not in (".html", ".htm"):
        raise SettingsError(f"{path} does not end in .html. Name an .html file.")
    audit, line = audit_of(options), Line("")
    if any(demo.is_name(source) for source in (audit.base, audit.tuned)):
        demo.prepare_base(line)
    scan = audit.study.scan(lambda done, total: line(done, total, "testing rows"))
    try:
        found = gather(audit, scan)
    except TicketError:  # an empty ticket: the test alone is reported
        found = None
    save(path, reports.build(audit.study, scan, audit.alpha, found))
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
    wanting = needs()
    for name in found.missing if found else []:
        print(f"not in it: {wanting[name]}")
    return 0

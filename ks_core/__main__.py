"""The command line: ``python -m ks_core``. Each command imports what it needs, when it needs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

from ks_core import __version__
from ks_core.commands.progress_line import Line
from ks_core.errors import Cancelled, KSLotteryError, of_machine
from ks_core.store import log


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or 2 with one line on standard error."""
    options = parser().parse_args(arguments)
    log.begin()
    try:
        return options.run(options) or 0
    except KSLotteryError as error:
        print(f"ks_core: {log.redact(str(error))}", file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        print("ks_core: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:  # a person gets a sentence, the log the rest
        print(f"ks_core: {of_machine(error) or log.unexpected(error, 'command line')}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Every command with its options and an example."""
    top = argparse.ArgumentParser(
        prog="python -m ks_core",
        description="KS-Lottery Explorer: which embedding rows did a fine-tuning shift, and is the ticket real?",
    )
    top.add_argument("--version", action="version", version=f"KS-Lottery Explorer {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    scan = _command(
        commands,
        "scan",
        _later("scan_command:scan"),
        "test every embedding row of a pair of checkpoints",
        "python -m ks_core scan demo:base demo:en-fr --alpha 0.05 --output ticket.csv",
    )
    from ks_core.commands import scan as scan_command

    scan_command.add_scan_arguments(scan)
    ticket = _command(
        commands,
        "ticket",
        _later("scan_command:ticket"),
        "save a pair's ticket as an adapter that peft loads",
        "python -m ks_core ticket demo:base demo:en-fr my-ticket --alpha 0.05",
    )
    scan_command.add_ticket_arguments(ticket)
    tune = _command(
        commands,
        "tune",
        _later("tune_command:tune"),
        "tune some arms on parallel text and compare them by BLEU",
        "python -m ks_core tune demo:base demo:en-fr --arms base,tuned,transfer,partial,matched:seed=1 --sentences 64",
    )
    evaluate = _command(
        commands,
        "evaluate",
        _later("tune_command:evaluate"),
        "let checkpoints translate held-out sentences, and score them under every extraction rule",
        "python -m ks_core evaluate demo:base demo:en-fr --corpus pack:fr-FR --sentences 64",
    )
    from ks_core.commands import tune as tune_command

    tune_command.add_tune_arguments(tune)
    tune_command.add_evaluate_arguments(evaluate)

    audit = _command(
        commands,
        "audit",
        _later("audit_command:run", ""),
        "ask whether a ticket is real: controls, position gating, other prompts, strength, calibration, stability",
        "python -m ks_core audit demo:base demo:en-fr --budget small",
    )
    from ks_core.commands import audit as audit_command

    audit_command.add_arguments(audit)
    report = _command(
        commands,
        "report",
        _later("audit_command:report", ""),
        "write what is known of a pair as one HTML file: test, verdict, panels; starts no training",
        "python -m ks_core report demo:base demo:en-fr --output report.html",
    )
    audit_command.add_audit_arguments(report)
    report.add_argument("--output", metavar="FILE", default="report.html", help="an .html file (default report.html)")
    report.add_argument("--figures", metavar="FOLDER", help="write every figure into a folder as well")
    report.add_argument(
        "--format", default="html", choices=("html", "svg", "png"), help="of the figures (default html)"
    )

    from ks_core.commands import jobs as jobs_command

    jobs = _command(
        commands,
        "jobs",
        _later("jobs_command:run"),
        "list the jobs, here and in Slurm's queue; cancel, requeue or resume one",
        "python -m ks_core jobs",
    )
    jobs_command.add_arguments(jobs)

    cache = _command(
        commands,
        "cache",
        _later("upkeep_commands:cache"),
        "show what the cache holds, or clear it",
        "python -m ks_core cache --clear scan",
    )
    cache.add_argument("--clear", nargs="?", const="all", metavar="KIND", help="remove all results, or those of a kind")

    bench = _command(
        commands,
        "bench",
        _later("bench:run"),
        "time this machine's ways of testing a matrix",
        "python -m ks_core bench --rows 8000 --dim 4096 --dtype float32",
    )
    from ks_core.commands import bench as bench_module

    bench_module.add_arguments(bench)

    prepare = _command(
        commands,
        "prepare",
        _later("upkeep_commands:prepare"),
        "name a pair and test it, so that a read-only server can show it; without a name, list them",
        'python -m ks_core prepare "My study" ~/models/base ~/models/tuned',
    )
    prepare.add_argument("name", nargs="?", help="how the study is called")
    prepare.add_argument("base", nargs="?")
    prepare.add_argument("tuned", nargs="?")
    prepare.add_argument("--forget", action="store_true", help="take the study off the list")

    serve = _command(
        commands,
        "serve",
        _later("upkeep_commands:serve"),
        "have the demo ready and start the app",
        "python -m ks_core serve --port 8501",
    )
    serve.add_argument("--port", type=int, default=8501, help="where the app listens (default 8501)")

    _command(
        commands,
        "doctor",
        _later("upkeep_commands:doctor"),
        "look at everything that the program stands on here, and say what to do where it is not well",
        "python -m ks_core doctor",
    )

    demo = _command(
        commands,
        "demo",
        _later("upkeep_commands:demo"),
        "prepare the demo (base model and its scan), or build its tuned rows",
        "python -m ks_core demo",
    )
    demo.add_argument(
        "action",
        nargs="?",
        default="prepare",
        choices=("prepare", "build", "recipe"),
        help="prepare: have base and results ready. build: tune again from nothing (minutes). "
        "recipe: print how the tuned rows were made",
    )
    demo.add_argument("name", nargs="?", default="en-fr", help="which tuned run (default en-fr)")
    return top


def _command(commands: Any, name: str, run: Any, what: str, example: str) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


def _later(name: str, unit: str | None = None) -> Callable[[argparse.Namespace], int]:
    """A function of ``module:name``, imported when it is called; with a ``unit`` it is given a line of progress."""

    def run(options: argparse.Namespace) -> int:
        module, _, function = name.partition(":")
        found = getattr(importlib.import_module(f"ks_core.{module}"), function)
        return found(options) if unit is None else found(options, Line(unit))

    return run


if __name__ == "__main__":
    sys.exit(main())

"""The command line: every command with its help, and how an error becomes a line.

A command is a file of this folder with ``add_arguments(parser)`` and ``run(options)``, and a line in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass

from ks_core import __version__
from ks_core.errors import Cancelled, KSLotteryError, of_machine
from ks_core.registry import Entry, Registry
from ks_core.store import log

EXAMPLE = "python -m ks_core "


@dataclass(frozen=True)
class Command(Entry):
    """A command: its file has its name, and ``example`` is what is typed after ``python -m ks_core``."""

    example: str = ""


COMMANDS = Registry("command", [
    Command("scan", "Scan", "test every embedding row of a pair of checkpoints", example="scan demo:base demo:en-fr --alpha 0.05 --output ticket.csv"),
    Command("ticket", "Ticket", "save a pair's ticket as an adapter that peft loads", example="ticket demo:base demo:en-fr my-ticket --rule wasserstein --k 18"),
    Command("tune", "Tune", "tune some arms on parallel text and compare them by BLEU", example="tune demo:base demo:en-fr --arms base,tuned,transfer,partial,matched:seed=1 --sentences 64"),
    Command("evaluate", "Evaluate", "let checkpoints translate held-out sentences, and score them under every extraction rule", example="evaluate demo:base demo:en-fr --corpus pack:fr-FR --sentences 64"),
    Command("trajectory", "Trajectory", "test every checkpoint of a training against its start, or read what was recorded of it: when did each token win?", example="trajectory demo:base demo:en-fr --output trajectory.csv"),
    Command("ask", "Ask", "let base, ticket and tuned model answer one prompt, and show where their probabilities part", example='ask "The file could not be opened." demo:base demo:en-fr'),
    Command("rules", "Rules", "compare D with every other rule that chooses rows, by what their rows keep of the gain in likelihood", example="rules demo:base demo:en-fr --sizes 1,5,18,112 --output rules.json"),
    Command("reproduce", "Reproduce", "run the paper's experiments, or a small one of the demo, as one suite with one table", example="reproduce --list"),
    Command("audit", "Audit", "ask whether a ticket is real: controls, position gating, other prompts, strength, calibration, stability", example="audit demo:base demo:en-fr --budget small"),
    Command("report", "Report", "write what is known of a pair as one HTML file: test, verdict, panels; starts no training", example="report demo:base demo:en-fr --output report.html"),
    Command("jobs", "Jobs", "list the jobs, here and in Slurm's queue; cancel, requeue or resume one", example="jobs"),
    Command("cache", "Cache", "show what the cache holds, or clear it", example="cache --clear scan"),
    Command("bench", "Bench", "time this machine's ways of testing a matrix", example="bench --rows 8000 --dim 4096 --dtype float32"),
    Command("prepare", "Prepare", "name a pair and test it, so that a read-only server can show it; without a name, list them", example='prepare "My study" ~/models/base ~/models/tuned'),
    Command("serve", "Serve", "have the demo ready and start the app", example="serve --port 8501"),
    Command("doctor", "Doctor", "look at everything that the program stands on here, and say what to do where it is not well", example="doctor"),
    Command("demo", "Demo", "prepare the demo (base model and its scan), or build its tuned rows", example="demo"),
])  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or 2 with one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser(next((a for a in arguments if not a.startswith("-")), "")).parse_args(arguments)
    log.begin()
    try:
        return importlib.import_module(f"ks_core.commands.{options.command}").run(options) or 0
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


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Every command with its options and an example; with ``only`` the options of that command alone are looked up,
    so that what the others stand on is not imported."""
    top = argparse.ArgumentParser(
        prog="python -m ks_core",
        description="KS-Lottery Explorer: which embedding rows did a fine-tuning shift, and is the ticket real?",
    )
    top.add_argument("--version", action="version", version=f"KS-Lottery Explorer {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS.values():
        made = commands.add_parser(
            command.name,
            help=command.about,
            description=command.about[0].upper() + command.about[1:] + ".",
            epilog=f"example:  {EXAMPLE}{command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if only in (None, command.name):
            importlib.import_module(f"ks_core.commands.{command.name}").add_arguments(made)
    return top

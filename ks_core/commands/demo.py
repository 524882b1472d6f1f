"""The command ``demo``: prepare it, build its tuned rows or what pages show of it from nothing, or show the rows' recipe."""

from __future__ import annotations

import argparse
import json

from ks_core.checkpoints import demo, demo_files
from ks_core.commands.progress_line import Line, finish
from ks_core.errors import SettingsError
from ks_core.store import shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``demo``."""
    parser.add_argument(
        "action",
        nargs="?",
        default="prepare",
        choices=("prepare", "build", "recipe"),
        help="prepare: have base and results ready. build: tune again from nothing (minutes). "
        "recipe: print how the tuned rows were made",
    )
    parser.add_argument("name", nargs="?", default="en-fr", help="which tuned run (default en-fr)")
    parser.add_argument(
        "--evidence", action="store_true",
        help="build: not the rows, but every result that the app shows of them at once (about 40 minutes, less what the workspace has)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Do what is asked for."""
    if options.action == "recipe":
        return recipe(options.name)
    if options.evidence:
        if options.action != "build":
            raise SettingsError(f"{options.action} takes no --evidence. Type: demo build --evidence")
        return evidence()
    return build(options.name) if options.action == "build" else prepare()


def recipe(name: str) -> int:
    """Print what is known of a run, without its long lists."""
    known = demo.recipe(name)
    known.pop("losses", None), known.pop("training_counts", None)
    print(json.dumps(known, indent=2, ensure_ascii=False))
    return 0


def build(name: str) -> int:
    """Train a run's rows from nothing, and write the sums of all files anew."""
    from ks_core.tuning.demo_runs import RUNS, build

    if name not in RUNS:
        raise SettingsError(f"The demo knows no run {name!r}. Expected one of: {', '.join(RUNS)}.")
    found = build(RUNS[name], Line(""))
    demo_files.write_sums()
    print(f"{found['rows_changed']:,} rows changed; written to {demo.ASSETS / name}")
    return 0


def evidence() -> int:
    """Make what of the shipped results the workspace lacks, collect all of them, and write the sums of all files anew."""
    from ks_core.commands.demos.evidence import build as collect

    size = collect(Line(""), finish)
    demo_files.write_sums()
    print(f"{size:,} bytes of results; written to {shipped.FOLDER}")
    return 0


def prepare() -> int:
    """Have the base model and the test of the demo's rows, as pages want them."""
    from ks_core.study.scan import Study

    line = Line("")
    demo.prepare_base(line)
    scan = Study(demo.BASE, demo.TUNED).scan(lambda done, total: line(done, total, "testing rows"))
    print(
        f"The demo is ready: {int(scan.winners(0.05).sum())} of {len(scan.pvalue):,} rows have p < 0.05. "
        "Look at it with: make app"
    )
    return 0

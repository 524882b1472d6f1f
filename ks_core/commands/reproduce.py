"""The command ``reproduce``: the paper's experiments, or a small one of the demo, as one suite of runs with one table.

What is not here is said, with what it would take; nothing is fetched.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core.commands import resource_options
from ks_core.commands.audit import save
from ks_core.commands.progress_line import finish
from ks_core.commands.tune import rows_of
from ks_core.errors import SettingsError, visible
from ks_core.jobs import queue
from ks_core.suites.presets import PRESETS

if TYPE_CHECKING:
    from ks_core.jobs.cluster import Allocation
    from ks_core.jobs.handle import Job
    from ks_core.suites.suite import Suite

ENDINGS = (".md", ".csv", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``reproduce``."""
    parser.add_argument("suite", nargs="?", default="", help=f"one of: {', '.join(PRESETS)}")
    parser.add_argument(
        "--list", action="store_true", help="list the suites with what each takes here, and start nothing"
    )
    what = parser.add_argument_group("what is run, in the place of the suite's own")
    what.add_argument("--model", default="", metavar="BASE", help="checkpoint that is tuned")
    what.add_argument(
        "--protocol", default="", help="how models are asked and scored: demo, replication, sibling; several by comma"
    )
    what.add_argument("--pairs", default="", help="language pairs by comma, such as en-ca,en-ro")
    what.add_argument(
        "--corpus", default="", metavar="TEXT", help="text to train on, with places for the pair: file:lego/{pair}.tsv"
    )
    what.add_argument("--test", default="", metavar="TEXT", help="text to test on: flores:flores101/devtest#eng,{code}; without "
                      "one, pairs of the text are held out")  # fmt: skip
    what.add_argument(
        "--arms", default="", help="arms by comma, with settings as tune takes them: base,embed:epochs=3,partial"
    )
    what.add_argument("--seeds", default="", help="seeds by comma, such as 0,1,2")
    what.add_argument("--rows", action="append", default=[], metavar="TOKEN", help="a token (its text or id) for the arm rows; "
                      "once per token")  # fmt: skip
    what.add_argument("--k", type=int, default=0, help="rows of every ticket (default: the paper's of the pair, or 18)")
    what.add_argument(
        "--steps", type=int, default=0, help="steps of every training, in the place of its epochs or steps"
    )
    what.add_argument("--sentences", type=int, help="held-out sentences to score, 0 for all")
    what.add_argument(
        "--written",
        type=int,
        help="of how many of the seeds answers are written, for BLEU, chrF and spBLEU (0: of none)",
    )
    parser.add_argument("--output", metavar="FILE", help="write the table to a .md, .csv or .json file")
    parser.add_argument(
        "--resume", metavar="JOB", help="go on with a suite that was stopped (starting it again does so too)"
    )
    parser.add_argument("--background", action="store_true", help="start it and return")
    parser.add_argument(
        "--measure", action="store_true", help="only say how long it takes; measure that first where it was not"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")
    resource_options.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """List the suites; or start one, follow it, print its table."""
    if options.output and Path(options.output).suffix not in ENDINGS:
        raise SettingsError(
            f"{options.output} ends in none of {', '.join(ENDINGS)}. Name a file of one of these kinds."
        )
    if options.resume:
        return _follow(queue.resume(queue.find(options.resume)), options)
    if options.list or not options.suite:
        return catalogue()
    suite, allocation = suite_of(options), resource_options.allocation_of(options)
    told = say_what_it_takes(suite, allocation)
    if told:
        raise SettingsError(
            f"The suite {suite.name} cannot start here: {len(told)} of what it needs {'is' if len(told) == 1 else 'are'} missing, as said above."
        )
    if options.measure:
        return _measure(suite, options, allocation)
    job = queue.submit(
        "suite", suite.as_dict(), label=f"Suite {suite.name}", device=resource_options.device_of(options), allocation=allocation
    )  # fmt: skip
    return _follow(job, options)


def suite_of(options: argparse.Namespace) -> Suite:
    """The suite that the options describe."""
    from ks_core.suites import presets

    preset = PRESETS.find(options.suite)
    changes: dict[str, Any] = {"device": options.device, "resources": resource_options.resources_of(options)}
    if options.protocol:
        changes["protocols"] = tuple(p.strip() for p in options.protocol.split(",") if p.strip())
    if options.seeds:
        try:
            changes["seeds"] = tuple(int(seed) for seed in options.seeds.split(",") if seed.strip())
        except ValueError:
            raise SettingsError(f"--seeds is {options.seeds!r}. Expected whole numbers, such as 0,1,2.") from None
    for name in ("sentences", "written"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if "seeds" in changes and "written" in preset.settings and "written" not in changes:
        changes["written"] = min(preset.settings["written"], len(changes["seeds"]))
    pairs = tuple(pair.strip() for pair in options.pairs.split(",") if pair.strip())
    return presets.suite_of(
        preset, base=options.model, pairs=pairs, corpus=options.corpus, test=options.test, k=options.k,
        arms=tuple(text for text in options.arms.split(",") if text.strip()), steps=options.steps,
        rows=rows_of(options.model or preset.base, options.rows) if options.rows else (), **changes,
    )  # fmt: skip


def catalogue() -> int:
    """Print every suite with what it takes here."""
    from ks_core.suites import costs

    for told in costs.catalogue():
        print(f"{told['suite']:<10} {told['what']}")
        print(visible(f"{'':<10} {told['about'] or 'How long it takes is not known.'}"))
        print(
            visible(f"{'':<10} " + (f"Missing: {told['missing']}" if told["missing"] else "All that it needs is here."))
        )
    print("\nOne with other texts or another model: python -m ks_core reproduce NAME --help")
    return 0


def say_what_it_takes(suite: Suite, allocation: Allocation | None) -> list[str]:
    """Print what a suite is, what it takes and what it lacks; returns what it lacks."""
    from ks_core.suites import costs

    print(visible(f"{suite.name}: {suite.sentence}"))
    cost = costs.of(suite, allocation)
    print(
        cost.sentence
        if cost
        else f"How long it takes is not known: {suite.base} is not here, and its name does not say how large it is."
    )
    for note in costs.notes(suite):
        print(visible(f"note: {note}"))
    lacking = costs.missing(suite)
    for number, sentence in enumerate(lacking, 1):
        print(visible(f"missing {number}: {sentence}"))
    sys.stdout.flush()
    return lacking


def _measure(suite: Suite, options: argparse.Namespace, allocation: Allocation | None) -> int:
    """Measure the machine for the suite's model where that was not done, and say what the suite takes by it."""
    from ks_core.suites import costs
    from ks_core.tuning import estimates

    plan = suite.runs[0].plan
    if estimates.known(plan, allocation) is None:
        finish(queue.submit(
            "estimate", plan.as_dict(), label="Measuring", device=resource_options.device_of(options), allocation=allocation
        ))  # fmt: skip
        cost = costs.of(suite, allocation)
        print(cost.sentence if cost else "")
    return 0


def _follow(job: Job, options: argparse.Namespace) -> int:
    """Follow a suite, and print its table."""
    from ks_core.suites import texts

    print(f"job {job.id}", flush=True)
    again = f"Go on with: python -m ks_core reproduce --resume {job.id}"
    if options.background:
        print(f"It goes on by itself. {again}")
        return 0
    finish(job, again)
    result = job.result
    print("\n".join(texts.lines(result)))
    if options.output:
        save(Path(options.output), texts.file(result, Path(options.output).suffix))
        print(f"wrote {options.output}")
    return 0

"""The command ``evaluate``: checkpoints as they are, side by side on held-out sentences."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ks_core.commands import corpus_options, resource_options
from ks_core.commands.progress_line import finish
from ks_core.commands.tune import have, table_lines
from ks_core.errors import SettingsError
from ks_core.jobs import queue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    parser.add_argument("checkpoints", nargs="+", help="what to score; the first is what the others are compared with")
    parser.add_argument("--baselines", metavar="NAMES", help="ask the first checkpoint without training in these manners too, by comma: "
                        "stop, examples, chat; empty for none (default: those that can be had of it)")  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="write scores and translations to a .json file")
    corpus_options.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Start the job ``evaluate`` and follow it to its table."""
    from ks_core.tuning import runnable
    from ks_core.tuning.exam import Exam

    if options.output and Path(options.output).suffix != ".json":
        raise SettingsError(f"{options.output} does not end in .json. Name a .json file.")
    named = options.baselines
    baselines = runnable.usual_baselines(options.checkpoints[0]) if named is None else named.replace(" ", "").split(",")
    exam = Exam(
        tuple(options.checkpoints), corpus_options.corpus_of(options), corpus_options.prompt_of(options, options.checkpoints[0]), options.sentences,
        options.max_new_tokens, options.beams, options.device, resource_options.resources_of(options),
        tuple(filter(None, baselines)),
    )  # fmt: skip
    exam.corpus.load()  # what is wrong with the text is said before anything starts
    have(*exam.sources)
    allocation = resource_options.allocation_of(options)
    resource_options.say_what_it_takes(exam.as_plan(), allocation)
    job = queue.submit(
        "evaluate", exam.as_dict(), label=f"{len(exam.sources)} checkpoints on {exam.corpus.name}",
        device=resource_options.device_of(options), allocation=allocation,
    )  # fmt: skip
    finish(job)
    print("\n".join(table_lines(job.result)))
    if options.output:
        try:
            Path(options.output).write_text(json.dumps(job.result, ensure_ascii=False, indent=1), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{options.output} cannot be written: {error.strerror}. Name another file.") from None
        print(f"wrote {options.output}")
    return 0

"""The commands ``tune`` and ``evaluate``: what the page Fine-tune does, without a browser.

``tune`` starts the same job as the page and follows it, so that a run begun here is seen there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ks_core import demo, jobs, resource_options, whole
from ks_core.errors import JobError, SettingsError, TicketError

#: Imported late elsewhere; here only for its names in the help.
ARM_HELP = (
    "arms by comma: base, tuned, embed, partial, transfer, rows, frequent, matched, random, prompt, noise, lora, full; "
    "settings after colons, as in matched:seed=1:steps=40"
)


def add_corpus_arguments(parser: argparse.ArgumentParser, *, scoring: bool = True) -> None:
    """What is translated, under which prompt; with ``scoring`` how many sentences and how they are searched."""
    parser.add_argument("--corpus", default="pack:fr-FR", help="pack:fr-FR, file:pairs.tsv, file:pairs.jsonl, "
                        "flores:folder#eng,cat or hub:org/name#source,target (default pack:fr-FR)")  # fmt: skip
    parser.add_argument("--fields", default="source,target", help="names of the two fields of a JSONL corpus")
    parser.add_argument("--languages", default="", help="names of the two languages where the corpus does not say, "
                        "such as English,French")  # fmt: skip
    parser.add_argument("--shortest", type=int, default=3, help="fewest words of a source sentence (default 3)")
    parser.add_argument("--longest", type=int, default=16, help="most words of a source sentence (default 16)")
    parser.add_argument("--prompt", default="short", help="a template's name (short, paper, source_target, "
                        "input_output) or its text with {source}")  # fmt: skip
    if scoring:
        parser.add_argument(
            "--sentences", type=int, default=64, help="held-out sentences to score, 0 for all (default 64)"
        )
    parser.add_argument("--max-new-tokens", type=int, default=48, help="most tokens of an answer (default 48)")
    if scoring:
        parser.add_argument("--beams", type=int, default=1, help="beams of the search; 1 is greedy (default)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")
    resource_options.add_arguments(parser)


def add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``tune``."""
    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument("tuned", nargs="?", default="", help="tuned checkpoint whose ticket is used; left out: the "
                        "ticket comes from this run's arm embed")  # fmt: skip
    parser.add_argument("--arms", default="base,tuned,transfer,partial,matched", help=ARM_HELP)
    parser.add_argument("--rows", action="append", default=[], metavar="TOKEN", help="a token (its text or id) for "
                        "the arm rows; give the option once per token")  # fmt: skip
    parser.add_argument("--rule", default="alpha", help="alpha, bonferroni, benjamini-hochberg or count")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=18, help="rows of the ticket, with --rule count (default 18)")
    parser.add_argument("--steps", type=int, help="training steps of every arm that does not say its own")
    parser.add_argument("--batch-size", type=int, help="pairs in a step")
    parser.add_argument("--learning-rate", type=float, help="of every arm that does not say its own")
    parser.add_argument("--seed", type=int, help="order of the batches")
    parser.add_argument("--sweep", default="", metavar="ALPHAS", help="score Partial Transfer at these alphas too, "
                        "such as 0.001,0.01,0.1")  # fmt: skip
    parser.add_argument("--output", metavar="FOLDER", help="copy the finished run there")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was interrupted")
    parser.add_argument("--background", action="store_true", help="start it and return")
    add_corpus_arguments(parser)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    parser.add_argument("checkpoints", nargs="+", help="what to score; the first is what the others are compared with")
    parser.add_argument("--output", metavar="FILE", help="write scores and translations to a .json file")
    add_corpus_arguments(parser)


def plan_of(options: argparse.Namespace) -> Any:
    """The ``Plan`` that the options describe."""
    from ks_core.arms import parse_arm
    from ks_core.plans import Plan

    recipe = {
        name: value
        for name in ("steps", "batch_size", "learning_rate", "seed")
        if (value := getattr(options, name)) is not None
    }
    rows = rows_of(options.base, options.rows) if options.rows else []
    try:
        sweep = tuple(float(a) for a in options.sweep.split(",") if a.strip())
    except ValueError:
        raise SettingsError(f"--sweep is {options.sweep!r}. Expected numbers, such as 0.001,0.01,0.1.") from None
    return Plan(
        base=options.base, tuned=options.tuned, rule=options.rule, alpha=options.alpha, k=options.k,
        corpus=corpus_of(options), prompt=options.prompt.replace("\\n", "\n"),
        arms=tuple(parse_arm(text, rows, **recipe) for text in options.arms.split(",") if text.strip()),
        sentences=options.sentences, max_new_tokens=options.max_new_tokens, beams=options.beams, sweep=sweep,
        device=options.device, resources=resource_options.resources_of(options),
    )  # fmt: skip


def rows_of(base: str, words: Sequence[str]) -> list[int]:
    """Token ids for words of the command line: an id, or a token's text (``\\n`` is the newline).

    Raises ``TicketError`` for a text that is no single token of the base's vocabulary.
    """
    from ks_core.checkpoints import open_checkpoint

    vocabulary = open_checkpoint(base).vocabulary
    ids = []
    for word in words:
        if word.isdecimal():
            ids.append(int(word))
            continue
        text = word.replace("\\n", "\n")
        found = vocabulary.ids_of(text) if vocabulary else []
        if not found:
            raise TicketError(
                f"{word!r} is no token of {base}. Name one as the page Winning tokens shows it, or give its id."
            )
        ids.append(found[0])
    return ids


def tune(options: argparse.Namespace) -> int:
    """Start a run (or resume one), follow it, print its table."""
    if options.resume:
        job = jobs.resume(jobs.find(options.resume))
    else:
        plan = plan_of(options)
        have(plan.base, plan.tuned)
        label = f"{len(plan.arms)} arms on {plan.corpus.name}"
        allocation = resource_options.allocation_of(options)
        resource_options.say_what_it_takes(plan, allocation)
        job = jobs.submit(
            "tune", plan.as_dict(), label=label, device=resource_options.device_of(options), allocation=allocation
        )
    print(f"run {job.id}", flush=True)
    if options.background:
        print(
            f"It goes on by itself. Follow it on the page Fine-tune, or with: python -m ks_core tune --resume {job.id}"
        )
        return 0
    try:
        state = follow(job)
    except KeyboardInterrupt:
        job.cancel()
        print("\nstopping; what was finished is kept", file=sys.stderr)
        job.wait(120)
        print(f"Go on with: python -m ks_core tune --resume {job.id}", file=sys.stderr)
        raise
    if state != "done":
        raise JobError(job.error or f"The run was {state}. Go on with: python -m ks_core tune --resume {job.id}")
    print("\n".join(table_lines(job.result)))
    if options.output:
        shutil.copytree(job.folder, options.output, dirs_exist_ok=True)
        print(f"copied to {options.output}")
    return 0


def have(*sources: str) -> None:
    """Raise an error for people before a run is begun in which every arm would fail."""
    for source in filter(None, sources):
        if not source.startswith("demo"):  # prepared by the run itself
            whole.check(source)


def follow(job: jobs.Job) -> str:
    """Show a job's progress until it is over; a line per stage where nobody watches a terminal."""
    shown = ""
    while (state := job.state) not in jobs.FINAL:
        progress = job.progress
        left = f", about {progress.seconds_left:,.0f} s left" if progress.seconds_left else ""
        text = f"{progress.message}: {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}{left}"
        stage = progress.message.partition(", loss")[0]
        if words := jobs.queue_words(job):
            text, stage = f"{words}; {text}", words
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif stage and stage != shown:
            shown = stage
            print(stage, file=sys.stderr, flush=True)
        time.sleep(0.5)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return state


def table_lines(summary: dict[str, Any]) -> list[str]:
    """The comparison as a Markdown table, its notes and its signature."""
    lines = [
        "| arm | rows | trained values | BLEU raw | BLEU first line | BLEU prompt restart | chrF raw | chrF first line | stops | length | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in summary["arms"]:
        if arm["error"]:
            lines.append(f"| {arm['name']} | - | - | {arm['error']} | | | | | | | |")
            continue
        e = arm["evaluation"]
        bleu = [e["scores"][rule]["bleu"] for rule in ("raw", "first_line", "prompt_restart")]
        seconds = arm.get("training_seconds", 0) + arm["translating_seconds"]
        lines.append(
            f"| {arm['name']} | {len(arm.get('rows', [])) or '-'} | {arm['trainable']:,} | "
            + " | ".join(f"{s['value']:.2f} [{s['low']:.1f}, {s['high']:.1f}]" for s in bleu)
            + f" | {e['scores']['raw']['chrf']['value']:.1f} | {e['scores']['first_line']['chrf']['value']:.1f} | "
            f"{e['stop_rate']:.0%} | {e['mean_length']:.0f} | {seconds:.0f} |"
        )
    for baseline, rules in summary["significance"].items():
        for name, found in rules["first_line"].items():
            b = found["bleu"]
            lines.append(f"first line, {name} against {baseline}: BLEU {b['difference']:+.2f}, p = {b['pvalue']:.3g}")
    for point in summary["sweep"]:
        e = point["evaluation"]["scores"]
        lines.append(
            f"alpha {point['alpha']:g}: {point['rows']:,} rows transferred, BLEU {e['raw']['bleu']['value']:.2f} raw, "
            f"{e['first_line']['bleu']['value']:.2f} first line, chrF {e['first_line']['chrf']['value']:.1f}"
        )
    lines += [f"note: {note}" for note in summary["notes"]]
    return [*lines, f"signature  {summary['signature']}"]


def evaluate(options: argparse.Namespace) -> int:
    """Score checkpoints as they are: the job ``evaluate``, followed to its table."""
    from ks_core.exam import Exam

    if options.output and Path(options.output).suffix != ".json":
        raise SettingsError(f"{options.output} does not end in .json. Name a .json file.")
    exam = Exam(
        tuple(options.checkpoints), corpus_of(options), options.prompt.replace("\\n", "\n"), options.sentences,
        options.max_new_tokens, options.beams, options.device, resource_options.resources_of(options),
    )  # fmt: skip
    exam.corpus.load()  # what is wrong with the text is said before anything starts
    have(*exam.sources)
    allocation = resource_options.allocation_of(options)
    resource_options.say_what_it_takes(exam.as_plan(), allocation)
    job = jobs.submit(
        "evaluate", exam.as_dict(), label=f"{len(exam.sources)} checkpoints on {exam.corpus.name}",
        device=resource_options.device_of(options), allocation=allocation,
    )  # fmt: skip
    try:
        state = follow(job)
    except KeyboardInterrupt:
        job.cancel()
        raise
    if state != "done":
        raise JobError(job.error or f"The job was {state}.")
    print("\n".join(table_lines(job.result)))
    if options.output:
        try:
            Path(options.output).write_text(json.dumps(job.result, ensure_ascii=False, indent=1), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{options.output} cannot be written: {error.strerror}. Name another file.") from None
        print(f"wrote {options.output}")
    return 0


def corpus_of(options: argparse.Namespace) -> Any:
    """The ``CorpusChoice`` that the options describe."""
    from ks_core.plans import CorpusChoice

    pairs = {}
    for name in ("fields", "languages"):
        found = [part.strip() for part in getattr(options, name).split(",")]
        if getattr(options, name) and len(found) != 2:
            raise SettingsError(f"--{name} is {getattr(options, name)!r}. Expected two names with a comma between.")
        pairs[name] = found if len(found) == 2 else ["", ""]
    return CorpusChoice(
        options.corpus, options.shortest, options.longest, *pairs["fields"], *pairs["languages"]
    )  # fmt: skip

"""The command ``tune``: what the page Fine-tune does, without a browser.

It starts the same job as the page and follows it, so that a run begun here is seen there.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ks_core.checkpoints import demo
from ks_core.commands import corpus_options, resource_options
from ks_core.commands.progress_line import finish
from ks_core.commands.ticket import RULE_HELP
from ks_core.errors import JobError, KSLotteryError, SettingsError, TicketError, visible
from ks_core.jobs import queue
from ks_core.jobs.handle import duration
from ks_core.store import workspace
from ks_core.translation.metrics import TITLES
from ks_core.tuning.arms import ARMS, parse_arm
from ks_core.values import table_cell

if TYPE_CHECKING:
    from ks_core.jobs.cluster import Allocation
    from ks_core.jobs.handle import Job
    from ks_core.tuning.plans import Plan

ARM_HELP = f"arms by comma: {', '.join(ARMS)}; settings after colons, as in partners:seed=1:steps=40"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``tune``."""
    from ks_core.tuning.plans import DEFAULT_ARMS

    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument("tuned", nargs="?", default="", help="tuned checkpoint whose ticket is used; left out: the "
                        "ticket comes from this run's arm embed")  # fmt: skip
    parser.add_argument("--arms", help=f"{ARM_HELP} (default: {','.join(a.kind for a in DEFAULT_ARMS)}, and the baselines that "
                        "cost no training: stop, examples, and chat where the base has a chat template)")  # fmt: skip
    parser.add_argument("--rows", action="append", default=[], metavar="TOKEN", help="a token (its text or id) for "
                        "the arm rows; give the option once per token")  # fmt: skip
    parser.add_argument("--rule", default="alpha", help=RULE_HELP)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument(
        "--k", type=int, default=18, help="rows of the ticket, with a rule that takes so many (default 18)"
    )
    parser.add_argument("--steps", type=int, help="training steps of every arm that does not say its own")
    parser.add_argument("--batch-size", type=int, help="pairs in a step")
    parser.add_argument("--learning-rate", type=float, help="of every arm that does not say its own")
    parser.add_argument("--seed", type=int, help="order of the batches")
    parser.add_argument("--sweep", default="", metavar="ALPHAS", help="score Partial Transfer at these alphas too, "
                        "such as 0.001,0.01,0.1")  # fmt: skip
    parser.add_argument("--output", metavar="FOLDER", help="copy the finished run there")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was interrupted")
    parser.add_argument("--background", action="store_true", help="start it and return")
    parser.add_argument("--measure", action="store_true", help="only say how long it takes; measure that first, here or on "
                        "the cluster, where it was not")  # fmt: skip
    corpus_options.add_arguments(parser)


def plan_of(options: argparse.Namespace) -> Any:
    """The ``Plan`` that the options describe."""
    from ks_core.tuning import runnable
    from ks_core.tuning.plans import DEFAULT_ARMS, Plan

    recipe = {
        name: value
        for name in ("steps", "batch_size", "learning_rate", "seed")
        if (value := getattr(options, name)) is not None
    }
    rows = rows_of(options.base, options.rows) if options.rows else []
    arms = options.arms
    if arms is None:
        first, *others = (a.kind for a in DEFAULT_ARMS)
        arms = ",".join([first, *runnable.usual_baselines(options.base), *others])
    try:
        sweep = tuple(float(a) for a in options.sweep.split(",") if a.strip())
    except ValueError:
        raise SettingsError(f"--sweep is {options.sweep!r}. Expected numbers, such as 0.001,0.01,0.1.") from None
    return Plan(
        base=options.base, tuned=options.tuned, rule=options.rule, alpha=options.alpha, k=options.k,
        corpus=corpus_options.corpus_of(options), prompt=corpus_options.prompt_of(options, options.base),
        arms=tuple(parse_arm(text, rows, **recipe) for text in arms.split(",") if text.strip()),
        sentences=options.sentences, max_new_tokens=options.max_new_tokens, beams=options.beams, sweep=sweep,
        device=options.device, resources=resource_options.resources_of(options),
    )  # fmt: skip


def rows_of(base: str, words: Sequence[str]) -> list[int]:
    """Token ids for words of the command line: an id, or a token's text (``\\n`` is the newline).

    Raises ``TicketError`` for a text that is no single token of the base's vocabulary.
    """
    from ks_core.checkpoints.opening import open_checkpoint

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


def run(options: argparse.Namespace) -> int:
    """Start a run (or resume one), follow it, print its table."""
    if options.resume:
        job = queue.resume(queue.find(options.resume))
    else:
        plan = plan_of(options)
        have(plan.base, plan.tuned)
        label = f"{len(plan.arms)} arms on {plan.corpus.name}"
        allocation = resource_options.allocation_of(options)
        if options.measure:
            return measure(plan, options, allocation)
        resource_options.say_what_it_takes(plan, allocation)
        job = queue.submit(
            "tune", plan.as_dict(), label=label, device=resource_options.device_of(options), allocation=allocation
        )
    print(f"run {job.id}", flush=True)
    if options.background:
        print(
            f"It goes on by itself. Follow it on the page Fine-tune, or with: python -m ks_core tune --resume {job.id}"
        )
        return 0
    finish(job, f"Go on with: python -m ks_core tune --resume {job.id}")
    print("\n".join(table_lines(job.result, job.request["parameters"].get("tuned", ""))))
    print("\n".join(as_well_lines(job)))
    if options.output:
        shutil.copytree(job.folder, options.output, dirs_exist_ok=True)
        print(f"copied to {options.output}")
    return 0


def measure(plan: Plan, options: argparse.Namespace, allocation: Allocation | None) -> int:
    """Say how long a plan takes, and start nothing of it; measure first where that was not done."""
    from ks_core.tuning import estimates

    if estimates.known(plan, allocation) is None:
        finish(queue.submit(
            "estimate", plan.as_dict(), label="Measuring", device=resource_options.device_of(options),
            allocation=allocation,
        ))  # fmt: skip
    rates = estimates.known(plan, allocation)
    if rates is None:
        raise JobError(f"What was measured is not in {workspace.home()}. Measure again.")
    corpus = plan.corpus.load()
    for name, spent in estimates.seconds(plan, corpus, rates):
        print(f"{name}: {duration(spent)}")
    print(estimates.sentence(plan, corpus, rates, allocation))
    return 0


def have(*sources: str) -> None:
    """Raise an error for people before a run is begun in which every arm would fail."""
    from ks_core.tuning import runnable

    for source in filter(None, sources):
        if not demo.is_name(source):  # prepared by the run itself
            runnable.check(source)


def as_well_lines(job: Job) -> list[str]:
    """Whether a run's ticket does as well as full tuning and the most frequent rows, in sentences."""
    from ks_core.ledger import as_well  # loads scipy

    try:
        return [visible(f.sentence) for f in as_well.of_run(job.folder, job.request["parameters"], job.result)]
    except KSLotteryError as error:  # the tables stand without it
        return [visible(f"note: {error}")]


def table_lines(summary: dict[str, Any], tuned: str = "") -> list[str]:
    """The comparison as Markdown tables, by likelihood and by answers, with its notes and its signature. ``tuned``: the checkpoint
    that the run was given."""
    from ks_core.tuning import comparison, notes  # load what reads trainings

    judgement = comparison.judgement_of(summary)
    lines = [*_likelihood_lines(summary, judgement), *_answer_lines(summary)]
    rule, metric = comparison.rule_of(summary), comparison.metric_of(summary)
    for baseline, rules in summary["significance"].items():
        for name, found in rules[rule].items():
            b = found[metric]
            lines.append(
                f"{rule.replace('_', ' ')}, {name} against {baseline}: {TITLES[metric]} {b['difference']:+.2f}, "
                + (
                    f"p = {b['holm']:.3g} by Holm ({b['pvalue']:.3g} alone)"
                    if "holm" in b
                    else f"p = {b['pvalue']:.3g}, not corrected"
                )
            )
    for baseline, gains in judgement.get("gains", {}).items():
        for name, gain in gains.items():
            lines.append(
                f"likelihood, {name} against {baseline}: {_bounded(gain['all'], '+.3f')} nats a target token, "
                f"p = {gain['holm']:.3g} by Holm ({gain['pvalue']:.3g} alone)"
            )
    for point in summary["sweep"]:
        said = f"alpha {point['alpha']:g}: {point['rows']:,} rows transferred"
        if point.get("likelihood"):
            said += f", {_bounded(comparison.nats_of([point])[0], '.3f')} nats a target token"
        if point["evaluation"]:
            e = point["evaluation"]["scores"]
            said += (
                f", {TITLES[metric]} {_bounded(e['raw'][metric], '.2f', '.1f')} raw, "
                f"{_bounded(e['first_line'][metric], '.2f', '.1f')} first line, chrF {_bounded(e['first_line']['chrf'], '.1f')}"
            )
        lines.append(said)
    lines += [f"note: {note}" for note in [*notes.notes(summary, tuned), *summary["notes"]]]
    return [visible(line) for line in [*lines, f"signature  {summary['signature']}"]]


def _likelihood_lines(summary: Mapping[str, Any], judgement: Mapping[str, Any]) -> list[str]:
    """A row an arm that has a likelihood; nothing for a run of before there was one."""
    if not judgement.get("arms"):
        return []
    gains: Mapping[str, Any]
    baseline, gains = next(iter(judgement["gains"].items()), ("the base", {}))
    whole = judgement["whole"]
    columns = [
        "nats a target token", "of the end token", "of the content", "bits a character", f"gain over {baseline}", "of it the end's",
        f"of {whole}'s gain" if whole else "",
    ]  # fmt: skip
    titles = ["arm", *filter(None, columns)]
    lines = [f"| {' | '.join(map(table_cell, titles))} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    for arm in summary["arms"]:
        own = judgement["arms"].get(arm["name"])
        if own is None:
            continue
        gain: Mapping[str, Any] = gains.get(arm["name"], {})
        cells = [
            _bounded(own["all"], ".3f"), *(_bounded(own.get(part), ".2f") for part in ("end", "content")),
            f"{own['bits_per_character']:.2f}", _bounded(gain.get("all"), "+.3f"), _share(gain.get("shares", {}).get("end")),
            *([_share(gain.get("of_whole"))] if whole else []),
        ]  # fmt: skip
        lines.append(f"| {table_cell(arm['name'])} | {' | '.join(cells)} |")
    return [*lines, ""]


def _answer_lines(summary: Mapping[str, Any]) -> list[str]:
    """A row an arm: its rows and training, and how its answers scored, where it wrote some."""
    from ks_core.tuning import comparison

    metric = comparison.metric_of(summary)
    # The leading metric under three rules, chrF under two; of text to text how many answers are the reference.
    columns = [(metric, rule, ".2f") for rule in ("raw", "first_line", "prompt_restart")]
    columns += [("chrf", rule, ".1f") for rule in ("raw", "first_line")]
    columns += [("exact", comparison.rule_of(summary), ".1f")] if metric == "rouge" else []
    titles = [f"{TITLES[name]} {rule.replace('_', ' ')}" for name, rule, _ in columns]
    titles = ["arm", "rows", "in ticket", "steps", "trained values", *titles, "stops", "length", "seconds"]
    lines = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    for arm in summary["arms"]:
        name = table_cell(arm["name"])
        if arm["error"]:
            lines.append(f"| {name} | - | - | - | - | {table_cell(arm['error'])} |{' |' * (len(titles) - 6)}")
            continue
        inside, e = arm.get("in_ticket"), arm["evaluation"]
        scores = ["-"] * (len(columns) + 2)
        if e:
            low, high = comparison.wilson(e["stop_rate"], e["sentences"])
            scores = [
                *(_bounded(e["scores"][rule][name], form, ".1f") for name, rule, form in columns),
                f"{e['stop_rate']:.0%} [{100 * low:.0f}, {100 * high:.0f}]", f"{e['mean_length']:.0f}",
            ]  # fmt: skip
        seconds = arm.get("training_seconds", 0) + arm["translating_seconds"]
        lines.append(
            f"| {name} | {len(arm.get('rows', [])) or '-'} | {'-' if inside is None else inside} | "
            f"{comparison.steps_of(arm) or '-'} | {arm['trainable']:,} | {' | '.join(scores)} | {seconds:.0f} |"
        )
    return lines


def _bounded(found: Mapping[str, Any] | None, form: str, bounds: str = "") -> str:
    """A value with its interval; a dash where there is none."""
    if not found:
        return "-"
    if found["low"] is None:
        return f"{found['value']:{form}}"
    return f"{found['value']:{form}} [{found['low']:{bounds or form}}, {found['high']:{bounds or form}}]"


def _share(found: Mapping[str, Any] | None) -> str:
    """A share in percent with its interval; a dash where there is no clear gain to be a share of."""
    if not found or found["low"] is None:
        return "-"
    return f"{found['value']:.0%} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"

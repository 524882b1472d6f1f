"""The command ``rules``: D against every other rule that chooses rows, by what their rows keep of the gain in likelihood."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ks_core.checkpoints import demo
from ks_core.commands import corpus_options, resource_options
from ks_core.commands.audit import save
from ks_core.commands.progress_line import Line, finish
from ks_core.commands.tune import have
from ks_core.errors import SettingsError
from ks_core.jobs import queue
from ks_core.ledger.inquiry import BUDGETS, Inquiry, ticket_of_smallest
from ks_core.ledger.rules import RULES

FORMATS = (".json", ".csv", ".md")
#: The numbers that a budget sets, in words; 0 is all, or none of what can be left out.
ASKED = {
    "sentences": "references of the test part, 0 for all",
    "development": "references of the development part, for what is chosen by the model, 0 for all",
    "training": "training pairs for gradients at the base, 0 for none",
    "points": "points of the line for integrated gradients",
    "singles": "rows left out, and put in, one by one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rules``."""
    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument(
        "tuned", nargs="*", default=[demo.TUNED],
        help="checkpoint after tuning (default demo:en-fr); several are trainings of one recipe with other seeds, taken together",
    )  # fmt: skip
    parser.add_argument(
        "--budget", default="whole", choices=list(BUDGETS),
        help="how much of it; what another option says goes before it (default whole)",
    )  # fmt: skip
    parser.add_argument("--rules", default="", metavar="NAMES", help=f"by comma: {', '.join(RULES)} (default all)")
    parser.add_argument(
        "--sizes",
        default="",
        metavar="NUMBERS",
        help="how many rows are copied, by comma (default the budget's, 1 to 1,000 of the whole, and the ticket's)",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="whose ticket gives one of the sizes (default 0.05)")
    for name, about in ASKED.items():
        usual = ", ".join(f"{budget} {BUDGETS[budget].get(name, getattr(Inquiry, name))}" for budget in BUDGETS)
        parser.add_argument(f"--{name}", type=int, help=f"{about} (by budget: {usual})")
    parser.add_argument(
        "--draws", type=int, default=19, help="trainings on noise, where the training is known; 0 for none (default 19)"
    )
    parser.add_argument(
        "--persistence", type=float, default=0.0, help="how much of a noise gradient stays in the next (default 0)"
    )
    parser.add_argument(
        "--smallest",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="look for the fewest rows that keep this share of the gain, such as 0.5",
    )
    parser.add_argument(
        "--ticket", metavar="FOLDER", help="with --smallest: save these rows as a ticket that peft loads"
    )
    parser.add_argument(
        "--train", default="", metavar="NAMES", help="train the first rows of these rules from the base, by comma"
    )
    parser.add_argument("--k", type=int, default=18, help="with --train: how many rows of each rule (default 18)")
    parser.add_argument("--seeds", type=int, default=3, help="with --train: how many trainings of each (default 3)")
    parser.add_argument("--steps", type=int, default=80, help="with --train: steps of each training (default 80)")
    parser.add_argument(
        "--margin", type=float, default=0.1,
        help="by how many nats a token one may be worse and still do as well as another (default 0.1)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of rows at random and of noise (default 0)")
    parser.add_argument("--output", metavar="FILE", help=f"write the answer to a file: {', '.join(FORMATS)}")
    corpus_options.add_arguments(parser, scoring=False, writing=False)


def run(options: argparse.Namespace) -> int:
    """Start the job ``rules`` and follow it to its table."""
    from ks_core.ledger import tables

    if options.output and Path(options.output).suffix not in FORMATS:
        raise SettingsError(f"{options.output} is no file that can be written. Expected one of: {', '.join(FORMATS)}.")
    folder = Path(options.ticket) if options.ticket else None
    if folder and not options.smallest:
        raise SettingsError(
            "--ticket saves the smallest ticket, and none is looked for. Add --smallest with a share, such as 0.5."
        )
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already and is not an empty folder. Name a new one.")
    inquiry = inquiry_of(options)
    inquiry.corpus.load()  # what is wrong with the text is said before anything starts
    have(inquiry.base, *inquiry.sources)
    job = queue.submit(
        "rules", inquiry.as_dict(), label=f"rules on {inquiry.corpus.name}", device=resource_options.device_of(options),
        allocation=resource_options.allocation_of(options),
    )  # fmt: skip
    finish(job)
    result = job.result
    print("\n".join(tables.lines(result)))
    if options.output:
        write(Path(options.output), result)
        print(f"wrote {options.output}")
    if folder:
        print(f"wrote {ticket_of_smallest(inquiry, result).save(folder)}: {len(result['smallest']['token_ids'])} rows")
    return 0


def inquiry_of(options: argparse.Namespace) -> Inquiry:
    """The ``Inquiry`` that the options describe."""
    try:
        sizes = tuple(int(n) for n in options.sizes.split(",") if n.strip())
    except ValueError:
        raise SettingsError(f"--sizes is {options.sizes!r}. Expected whole numbers, such as 1,5,18.") from None
    base, (tuned, *others) = options.base, options.tuned or [demo.TUNED]
    chosen = {
        **BUDGETS[options.budget], **({"sizes": sizes} if sizes else {}),
        **{name: value for name in ASKED if (value := getattr(options, name)) is not None},
    }  # fmt: skip
    asked = Inquiry(
        base=base, tuned=tuned, others=tuple(others), corpus=corpus_options.corpus_of(options),
        prompt=corpus_options.prompt_of(options, base), rules=_names(options.rules), alpha=options.alpha, draws=options.draws,
        persistence=options.persistence, share=options.smallest, train=_names(options.train), k=options.k, seeds=options.seeds,
        steps=options.steps, margin=options.margin, seed=options.seed, device=options.device,
        resources=resource_options.resources_of(options), **chosen,
    )  # fmt: skip
    return asked if sizes or not asked.sizes else _with_ticket(asked)


def _with_ticket(asked: Inquiry) -> Inquiry:
    """The same with the ticket's own size among a budget's, as the page has it: the pair is tested for that."""
    line = Line("")
    if any(demo.is_name(source) for source in (asked.base, asked.tuned)):
        demo.prepare_base(line)
    scan = asked.study.scan(lambda done, total: line(done, total, "testing rows"))
    return asked.with_ticket(int(scan.winners(asked.alpha).sum()))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def write(path: Path, result: dict[str, Any]) -> None:
    """The answer as a file: everything as JSON, the table as CSV, or what is printed as Markdown."""
    from ks_core.ledger import tables
    from ks_core.study.export import table_bytes

    if path.suffix == ".csv":
        save(path, table_bytes(tables.frame(result), ".csv", result["signature"]).decode())
    elif path.suffix == ".md":
        save(path, "\n".join(tables.lines(result)) + "\n")
    else:
        save(path, json.dumps(result, ensure_ascii=False, indent=1))

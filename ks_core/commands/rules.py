"""The command ``rules``: D against every other rule that chooses rows, by what their rows keep of the gain in likelihood."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core.checkpoints import demo
from ks_core.commands import corpus_options, resource_options
from ks_core.commands.audit import save
from ks_core.commands.progress_line import finish
from ks_core.commands.tune import have
from ks_core.errors import SettingsError
from ks_core.jobs import queue
from ks_core.ledger.rules import RULES

if TYPE_CHECKING:
    from ks_core.ledger.inquiry import Inquiry

FORMATS = (".json", ".csv", ".md")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``rules``."""
    parser.add_argument("base", nargs="?", default=demo.BASE, help="checkpoint before tuning (default demo:base)")
    parser.add_argument("tuned", nargs="?", default=demo.TUNED, help="checkpoint after tuning (default demo:en-fr)")
    parser.add_argument("--rules", default="", metavar="NAMES", help=f"by comma: {', '.join(RULES)} (default all)")
    parser.add_argument(
        "--sizes",
        default="",
        metavar="NUMBERS",
        help="how many rows are copied, by comma (default 1 to 1,000, and the ticket's)",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="whose ticket gives one of the sizes (default 0.05)")
    parser.add_argument("--sentences", type=int, default=0, help="references of the test part (default 0, all)")
    parser.add_argument(
        "--development",
        type=int,
        default=0,
        help="references of the development part, for what is chosen by the model (default 0, all)",
    )
    parser.add_argument(
        "--training", type=int, default=200, help="training pairs for gradients at the base, 0 for none (default 200)"
    )
    parser.add_argument("--points", type=int, default=8, help="points of the line for integrated gradients (default 8)")
    parser.add_argument("--singles", type=int, default=24, help="rows left out, and put in, one by one (default 24)")
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
    parser.add_argument("--seed", type=int, default=0, help="of rows at random and of noise (default 0)")
    parser.add_argument("--output", metavar="FILE", help=f"write the answer to a file: {', '.join(FORMATS)}")
    corpus_options.add_arguments(parser, scoring=False, writing=False)


def run(options: argparse.Namespace) -> int:
    """Start the job ``rules`` and follow it to its table."""
    from ks_core.ledger import tables
    from ks_core.ledger.inquiry import ticket_of_smallest

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
    have(inquiry.base, inquiry.tuned)
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
    from ks_core.ledger.inquiry import Inquiry

    try:
        sizes = tuple(int(n) for n in options.sizes.split(",") if n.strip())
    except ValueError:
        raise SettingsError(f"--sizes is {options.sizes!r}. Expected whole numbers, such as 1,5,18.") from None
    return Inquiry(
        base=options.base, tuned=options.tuned, corpus=corpus_options.corpus_of(options),
        prompt=corpus_options.prompt_of(options, options.base), rules=tuple(n.strip() for n in options.rules.split(",") if n.strip()),
        sizes=sizes, alpha=options.alpha, sentences=options.sentences, development=options.development, training=options.training,
        points=options.points, singles=options.singles, draws=options.draws, persistence=options.persistence, share=options.smallest,
        seed=options.seed, device=options.device, resources=resource_options.resources_of(options),
    )  # fmt: skip


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

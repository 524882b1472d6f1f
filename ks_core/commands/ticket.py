"""The command ``ticket``: the winners of a pair as an adapter that peft loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from ks_core.commands.progress_line import Line
from ks_core.errors import SettingsError
from ks_core.tickets.selection import SELECTION_RULES, SelectionRule, select

_SIDES = {
    "pair": "of the pair", "training": "where the training is known", "model": "once the command rules put the rows through the model",
    "control": "controls",
}  # fmt: skip


def _side(rule: SelectionRule) -> str:
    return "model" if rule.needs == "scored" else rule.side


RULE_HELP = "how rows are chosen (default alpha); " + "; ".join(
    f"{words}: {', '.join(rule.name for rule in SELECTION_RULES.values() if _side(rule) == side)}"
    for side, words in _SIDES.items()
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``ticket``."""
    parser.add_argument("base")
    parser.add_argument("tuned")
    parser.add_argument("folder", help="folder to write; it must not exist or be empty")
    parser.add_argument("--rule", default="alpha", help=RULE_HELP)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=18, help="how many rows, with a rule that takes so many (default 18)")
    parser.add_argument("--device", default="auto")


def run(options: argparse.Namespace) -> int:
    """Choose rows by a rule and write them."""
    from ks_core.study.scan import Study
    from ks_core.tickets.ticket import ticket_of

    folder = Path(options.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already and is not an empty folder. Name a new one.")
    study, line = Study(options.base, options.tuned, options.device), Line("")
    scan = study.scan()
    positions = select(scan, rule=options.rule, alpha=options.alpha, k=options.k, study=study, report=line)
    ticket = ticket_of(study, scan, positions, rule=options.rule, alpha=options.alpha)
    ticket.save(folder)
    print(f'wrote {folder}: {len(ticket)} rows. Load it with peft:\n  PeftModel.from_pretrained(model, "{folder}")')
    return 0

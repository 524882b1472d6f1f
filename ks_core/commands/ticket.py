"""The command ``ticket``: the winners of a pair as an adapter that peft loads, and if wanted onto the hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ks_core.commands.progress_line import Line
from ks_core.errors import SettingsError
from ks_core.tickets.selection import SELECTION_RULES, SelectionRule, select

if TYPE_CHECKING:
    from ks_core.study.scan import Scan, Study
    from ks_core.tickets.ticket import Ticket

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


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """Which rows: the options that ``ticket``, ``audit`` and ``report`` share."""
    parser.add_argument("--rule", default="alpha", help=RULE_HELP)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=18, help="how many rows, with a rule that takes so many (default 18)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``ticket``."""
    from ks_core.commands import corpus_options
    from ks_core.jobs.resources import PRECISIONS

    parser.add_argument("base")
    parser.add_argument("tuned")
    parser.add_argument(
        "folder", help="folder to write; it must not exist or be empty, or with --push-to-hub hold this ticket"
    )
    add_rule_arguments(parser)
    parser.add_argument("--device", default="auto")
    hub = parser.add_argument_group("onto the hub")
    hub.add_argument("--push-to-hub", metavar="OWNER/NAME", default="",
                     help="send it there, with a card that says what the audit found; private unless --public")  # fmt: skip
    hub.add_argument(
        "--dry-run", action="store_true", help="write the folder, say what would be sent, touch no network"
    )
    hub.add_argument("--public", action="store_true", help="open to all; needed for a repository that is already")
    hub.add_argument(
        "--base-model", metavar="OWNER/NAME", default="", help="the base's id on the hub, where the base here is none"
    )
    hub.add_argument("--license", default="", help="of the rows, as the hub writes it, such as apache-2.0")
    asked = parser.add_argument_group("which audit the card tells of: as that was asked")
    corpus_options.add_budget_arguments(asked)
    asked.add_argument("--precision", default="float32", help=f"{' or '.join(PRECISIONS)} (default float32)")
    corpus_options.add_arguments(asked, scoring=False, computing=False)


def run(options: argparse.Namespace) -> int:
    """Choose rows by a rule and write them; if wanted, send them to the hub."""
    from ks_core.study.scan import Study
    from ks_core.tickets.ticket import TICKET_FILE, ticket_of

    folder, pushed = Path(options.folder), bool(options.push_to_hub)
    again = pushed and (folder / TICKET_FILE).is_file()
    if folder.exists() and not again and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already and is not an empty folder. Name a new one.")
    token = _allowed(options)
    study, line = Study(options.base, options.tuned, options.device), Line("")
    scan = study.scan()
    positions = select(scan, rule=options.rule, alpha=options.alpha, k=options.k, study=study, report=line)
    ticket = ticket_of(study, scan, positions, rule=options.rule, alpha=options.alpha)
    if pushed:
        if again:
            _check_same(ticket, folder)
        return _publish(options, study, scan, ticket, token)
    ticket.save(folder)
    print(f'wrote {folder}: {len(ticket)} rows. Load it with peft:\n  PeftModel.from_pretrained(model, "{folder}")')
    return 0


def _allowed(options: argparse.Namespace) -> str:
    """The token, where one is needed; looked for before anything that takes time, as are the names. Raises ``SettingsError``
    and ``TicketError``."""
    if not options.push_to_hub:
        given = [
            f"--{name.replace('_', '-')}"
            for name in ("dry_run", "public", "base_model", "license")
            if getattr(options, name)
        ]
        if given:
            raise SettingsError(
                f"{', '.join(given)} says how a ticket is published. Expected --push-to-hub OWNER/NAME beside it."
            )
        return ""
    from ks_core.audit.card import base_on_hub
    from ks_core.tickets import upload
    from ks_core.tickets.card_metadata import Publication

    Publication(options.push_to_hub, base_on_hub(options.base, options.base_model), options.license)
    return "" if options.dry_run else upload.token()


def _check_same(ticket: Ticket, folder: Path) -> None:
    """Raise ``SettingsError`` where a folder holds another ticket."""
    import numpy as np

    from ks_core.tickets.ticket import Ticket

    found = Ticket.load(folder)
    if found.token_ids != ticket.token_ids or not np.array_equal(found.rows, ticket.rows):  # type: ignore[arg-type]
        raise SettingsError(f"{folder} holds another ticket: other rows, or other values of them. Name a new folder.")


def _publish(options: argparse.Namespace, study: Study, scan: Scan, ticket: Ticket, token: str) -> int:
    """Write the folder with its full card, and send it, or say what would be sent."""
    from ks_core.audit import card
    from ks_core.audit.evidence import gather
    from ks_core.audit.inquiry import Audit
    from ks_core.commands import corpus_options
    from ks_core.jobs.resources import Resources
    from ks_core.tickets import upload
    from ks_core.tickets.card_metadata import metadata

    audit = Audit.of(
        study, rule=options.rule, alpha=options.alpha, k=options.k, corpus=corpus_options.corpus_of(options),
        prompt=corpus_options.prompt_of(options, options.base), budget=options.budget, max_new_tokens=options.max_new_tokens,
        resources=Resources(precision=options.precision), generate=options.generate,
    )  # fmt: skip
    more = card.publication(audit, gather(audit, scan), options.push_to_hub, options.base_model, options.license)
    folder = card.of_hub(ticket, audit, more).save(options.folder, more)
    print(f"wrote {folder}: {len(ticket)} rows")
    print(f"card: {len(more.said)} sentences of the audit, {len(more.missing)} questions not asked")
    if not more.said:
        print("note: nothing of this ticket was audited, and its card says so. To ask first: python -m ks_core audit")
    if not more.license:
        print("note: the card names no licence. Name one with --license.")
    if options.dry_run:
        print(f"nothing was sent. To {more.repository}, {'open to all' if options.public else 'private'}, would go:")
        print("\n".join(f"  {name}  {size:,} bytes" for name, size in upload.planned(folder)))
        print("\n".join(metadata(ticket.base, more)))
        return 0
    sender = upload.account(token)
    address = upload.send(folder, more.repository, sender, public=options.public)
    print(f"sent, as {sender.name}: {address}")
    return 0

"""The command ``prepare``: name and test a pair, so that a read-only server can show it."""

from __future__ import annotations

import argparse

from ks_core.checkpoints import whole
from ks_core.commands.progress_line import Line
from ks_core.errors import SettingsError
from ks_core.store import prepared
from ks_core.study import named
from ks_core.study.scan import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``prepare``."""
    parser.add_argument("name", nargs="?", help="how the study is called")
    parser.add_argument("base", nargs="?")
    parser.add_argument("tuned", nargs="?")
    parser.add_argument("--forget", action="store_true", help="take the study off the list")


def run(options: argparse.Namespace) -> int:
    """Put a study on the list or take it off; without a name, list them."""
    line = Line("rows")
    if options.forget and options.name:
        prepared.forget(options.name)
    elif options.name and options.base and options.tuned:
        pair = Study(options.base, options.tuned)
        under = whole.bases_of(pair.base) + whole.bases_of(pair.tuned)
        # A read-only server opens nothing that was not opened now, whatever an adapter comes to name later.
        made = prepared.named(options.name, options.base, options.tuned, under)
        pair.scan(lambda done, total: line(done, total, "testing rows"))
        prepared.keep(made)
        print(f"prepared {made.name}: {made.base} and {made.tuned}")
        return 0
    elif options.name:
        raise SettingsError(
            "A study needs a name, a base and a tuned checkpoint. See: python -m ks_core prepare --help"
        )
    for study in named.studies():
        print(f"{study.name}: {study.base} and {study.tuned}")
    return 0

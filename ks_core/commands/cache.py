"""The command ``cache``: what is kept, how large, where; and to clear it."""

from __future__ import annotations

import argparse

from ks_core.errors import SettingsError
from ks_core.store.cache import Cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cache``."""
    parser.add_argument(
        "--clear", nargs="?", const="all", metavar="KIND", help="remove all results, or those of a kind"
    )


def run(options: argparse.Namespace) -> int:
    """List the kinds of results, or remove some."""
    cache = Cache()
    if options.clear:
        kinds = sorted({entry.kind for entry in cache.entries()})
        if options.clear not in ("all", *kinds):
            raise SettingsError(
                f"The cache holds no results of kind {options.clear!r}. It holds: {', '.join(kinds) or 'nothing'}."
            )
        removed = cache.clear(None if options.clear == "all" else options.clear)
        print(f"removed {removed} results from {cache.folder}")
        return 0
    entries = cache.entries()
    print(
        f"{cache.folder}: {len(entries)} results, {sum(e.bytes for e in entries) / 1e6:,.1f} MB "
        f"of {cache.limit / 1e6:,.0f} MB"
    )
    for kind in sorted({e.kind for e in entries}):
        chosen = [e for e in entries if e.kind == kind]
        print(f"  {kind:<10} {len(chosen):>5}  {sum(e.bytes for e in chosen) / 1e6:>10,.1f} MB")
    return 0

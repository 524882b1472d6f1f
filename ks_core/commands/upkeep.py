"""The commands that keep a house: ``cache``, ``demo``, ``prepare``, ``doctor``, and ``serve`` that opens its door."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys

from ks_core.commands.progress_line import Line
from ks_core.errors import SettingsError
from ks_core.places import ROOT


def cache(options: argparse.Namespace) -> int:
    """``cache``: what is kept, how large, where."""
    from ks_core.store.cache import Cache

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


def demo(options: argparse.Namespace) -> int:
    """``demo``: prepare, build, or show the recipe."""
    from ks_core.checkpoints import demo, demo_files

    line = Line("")
    if options.action == "recipe":
        known = demo.recipe(options.name)
        known.pop("losses", None), known.pop("training_counts", None)
        print(json.dumps(known, indent=2, ensure_ascii=False))
        return 0
    if options.action == "build":
        from ks_core.tuning.demo_runs import RUNS, build

        if options.name not in RUNS:
            raise SettingsError(f"The demo knows no run {options.name!r}. Expected one of: {', '.join(RUNS)}.")
        found = build(RUNS[options.name], line)
        demo_files.write_sums()
        print(f"{found['rows_changed']:,} rows changed; written to {demo.ASSETS / options.name}")
        return 0
    from ks_core.study.scan import Study

    demo.prepare_base(line)
    scan = Study(demo.BASE, demo.TUNED).scan(lambda done, total: line(done, total, "testing rows"))
    print(
        f"The demo is ready: {int(scan.winners(0.05).sum())} of {len(scan.pvalue):,} rows have p < 0.05. "
        "Look at it with: make app"
    )
    return 0


def prepare(options: argparse.Namespace) -> int:
    """``prepare``: name and test a pair for a read-only server; list what there is."""
    from ks_core.store import prepared
    from ks_core.study import named

    line = Line("rows")
    if options.forget and options.name:
        prepared.forget(options.name)
    elif options.name and options.base and options.tuned:
        from ks_core.study.scan import Study

        made = prepared.named(options.name, options.base, options.tuned)
        Study(made.base, made.tuned).scan(lambda done, total: line(done, total, "testing rows"))
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


def doctor(options: argparse.Namespace) -> int:
    """``doctor``: look at everything that the program stands on."""
    from ks_core.commands import doctor

    return doctor.run()


def serve(options: argparse.Namespace) -> int:
    """``serve``: the app, in this process's place. Raises ``SettingsError`` when its port is taken."""
    if not 1 <= options.port <= 65535:
        raise SettingsError(f"The port is {options.port}. Expected 1 to 65535.")
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just left is free
        try:
            door.bind(("127.0.0.1", options.port))
        except OSError as error:
            raise SettingsError(
                f"Port {options.port} cannot be had ({error.strerror}). Perhaps the app runs there already: open "
                f"http://127.0.0.1:{options.port}. Otherwise choose another: make app PORT={options.port % 65535 + 1}"
            ) from None
    print("Preparing the demo model (20 to 40 s the first time, nothing after that) ...", flush=True)
    demo(argparse.Namespace(action="prepare", name=""))
    print(f"Starting the app. Open http://127.0.0.1:{options.port} (stop it with Ctrl-C).", flush=True)
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(options.port)])

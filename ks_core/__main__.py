"""The command line: ``python -m ks_core``. Each command imports what it needs, when it needs it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core import __version__, log
from ks_core.errors import Cancelled, KSLotteryError, SettingsError, of_machine

if TYPE_CHECKING:
    import pandas as pd

TABLE_FORMATS = (".csv", ".parquet", ".json")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or 2 with one line on standard error."""
    options = parser().parse_args(arguments)
    log.begin()
    try:
        return options.run(options) or 0
    except KSLotteryError as error:
        print(f"ks_core: {log.redact(str(error))}", file=sys.stderr)
        return 2
    except (Cancelled, KeyboardInterrupt):
        print("ks_core: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:  # a person gets a sentence, the log the rest
        print(f"ks_core: {of_machine(error) or log.unexpected(error, 'command line')}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Every command with its options and an example."""
    top = argparse.ArgumentParser(
        prog="python -m ks_core",
        description="KS-Lottery Explorer: which embedding rows did a fine-tuning shift, and is the ticket real?",
    )
    top.add_argument("--version", action="version", version=f"KS-Lottery Explorer {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    scan = _command(
        commands,
        "scan",
        run_scan,
        "test every embedding row of a pair of checkpoints",
        "python -m ks_core scan demo:base demo:en-fr --alpha 0.05 --output ticket.csv",
    )
    scan.add_argument("base", help="checkpoint before tuning: folder, file, hub id, or demo:base")
    scan.add_argument("tuned", help="checkpoint after tuning, or an adapter: folder, file, hub id, or demo:en-fr")
    scan.add_argument("--alpha", type=float, default=0.05, help="a row wins when its p-value is below (default 0.05)")
    scan.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")
    scan.add_argument("--output", metavar="FILE", help="write a row per token to FILE: .csv, .parquet or .json")
    scan.add_argument("--top", type=int, default=20, metavar="N", help="print the N largest shifts (default 20)")

    scan.add_argument("--layers", action="store_true", help="test every tensor, not only the embedding")

    ticket = _command(
        commands,
        "ticket",
        run_ticket,
        "save a pair's ticket as an adapter that peft loads",
        "python -m ks_core ticket demo:base demo:en-fr my-ticket --alpha 0.05",
    )
    ticket.add_argument("base")
    ticket.add_argument("tuned")
    ticket.add_argument("folder", help="folder to write; it must not exist or be empty")
    ticket.add_argument("--rule", default="alpha", help="alpha, bonferroni, benjamini-hochberg or count")
    ticket.add_argument("--alpha", type=float, default=0.05)
    ticket.add_argument("--k", type=int, default=18, help="how many rows, with --rule count (default 18)")
    ticket.add_argument("--device", default="auto")

    tune = _command(
        commands,
        "tune",
        _run_tune,
        "tune some arms on parallel text and compare them by BLEU",
        "python -m ks_core tune demo:base demo:en-fr --arms base,tuned,transfer,partial,matched:seed=1 --sentences 64",
    )
    evaluate = _command(
        commands,
        "evaluate",
        _run_evaluate,
        "let checkpoints translate held-out sentences, and score them under every extraction rule",
        "python -m ks_core evaluate demo:base demo:en-fr --corpus pack:fr-FR --sentences 64",
    )
    from ks_core import tune_command

    tune_command.add_tune_arguments(tune)
    tune_command.add_evaluate_arguments(evaluate)

    audit = _command(
        commands,
        "audit",
        _run_audit,
        "ask whether a ticket is real: controls, position gating, other prompts, strength, calibration, stability",
        "python -m ks_core audit demo:base demo:en-fr --budget small",
    )
    from ks_core import audit_command

    audit_command.add_arguments(audit)
    report = _command(
        commands,
        "report",
        _run_report,
        "write what is known of a pair as one HTML file: test, verdict, panels; starts no training",
        "python -m ks_core report demo:base demo:en-fr --output report.html",
    )
    audit_command.add_audit_arguments(report)
    report.add_argument("--output", metavar="FILE", default="report.html", help="an .html file (default report.html)")
    report.add_argument("--figures", metavar="FOLDER", help="write every figure into a folder as well")
    report.add_argument(
        "--format", default="html", choices=("html", "svg", "png"), help="of the figures (default html)"
    )

    cache = _command(
        commands,
        "cache",
        run_cache,
        "show what the cache holds, or clear it",
        "python -m ks_core cache --clear scan",
    )
    cache.add_argument("--clear", nargs="?", const="all", metavar="KIND", help="remove all results, or those of a kind")

    bench = _command(
        commands,
        "bench",
        _run_bench,
        "time this machine's ways of testing a matrix",
        "python -m ks_core bench --rows 8000 --dim 4096 --dtype float32",
    )
    from ks_core import bench as bench_module

    bench_module.add_arguments(bench)

    prepare = _command(
        commands,
        "prepare",
        _run_prepare,
        "name a pair and test it, so that a read-only server can show it; without a name, list them",
        'python -m ks_core prepare "My study" ~/models/base ~/models/tuned',
    )
    prepare.add_argument("name", nargs="?", help="how the study is called")
    prepare.add_argument("base", nargs="?")
    prepare.add_argument("tuned", nargs="?")
    prepare.add_argument("--forget", action="store_true", help="take the study off the list")

    _command(
        commands,
        "doctor",
        _run_doctor,
        "look at everything that the program stands on here, and say what to do where it is not well",
        "python -m ks_core doctor",
    )

    demo = _command(
        commands,
        "demo",
        run_demo,
        "prepare the demo (base model and its scan), or build its tuned rows",
        "python -m ks_core demo",
    )
    demo.add_argument(
        "action",
        nargs="?",
        default="prepare",
        choices=("prepare", "build", "recipe"),
        help="prepare: have base and results ready. build: tune again from nothing (minutes). "
        "recipe: print how the tuned rows were made",
    )
    demo.add_argument("name", nargs="?", default="en-fr", help="which tuned run (default en-fr)")
    return top


def _command(commands: Any, name: str, run: Any, what: str, example: str) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


class Line:
    """A line of progress on standard error, with rate and time left; silent where nobody watches."""

    def __init__(self, unit: str) -> None:
        self.unit, self.started, self.shown = unit, time.monotonic(), 0.0
        self.stage = ""

    def __call__(self, done: float, total: float, message: str = "") -> None:
        now = time.monotonic()
        if message != self.stage:
            self.stage, self.started = message, now
        if not sys.stderr.isatty() or (now - self.shown < 0.2 and done < total):
            return
        self.shown = now
        spent = now - self.started
        rate = done / spent if spent > 0 else 0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        amount = f"{100 * done / total:3.0f}%" if total else ""
        speed = f", {rate:,.0f} {self.unit}/s" if self.unit and rate >= 1 else ""
        end = "\n" if done >= total else ""
        print(f"\r\033[K{message or 'working'}: {amount}{speed}{left}", end=end, file=sys.stderr, flush=True)


def run_scan(options: argparse.Namespace) -> int:
    """``scan``: a summary, and with ``--output`` a table of all rows."""
    from ks_core.study import Study, check_alpha

    alpha = check_alpha(options.alpha)
    output = _table_path(options.output) if options.output else None
    if options.layers:
        return _scan_layers(options, alpha, output)
    study = Study(options.base, options.tuned, options.device)
    line = Line("rows")
    scan = study.scan(lambda done, total: line(done, total, "testing rows"))
    winners = scan.winners(alpha)
    print(f"base     {study.base.label}: {study.base.kind}, {_shape(study.base)}")
    print(f"tuned    {study.tuned.label}: {study.tuned.kind}, {_shape(study.tuned)}")
    for note in study.pair.notes:
        print(f"note     {note}")
    if scan.note:
        print(f"note     {scan.note}")
    if not scan.changed.any():
        print("result   The two are identical: every D is 0, every p is 1, and the ticket is empty.")
    else:
        print(
            f"result   {int(scan.changed.sum()):,} of {len(winners):,} rows changed; {int(winners.sum()):,} have "
            f"p < {alpha:g} ({_critical(scan.dim, alpha)})"
        )
    order = scan.order()
    top = order[scan.changed[order]][: max(options.top, 0)]
    if len(top):
        print(f"\n{'rank':>4}  {'id':>7}  {'D':>7}  {'p':>9}  {'shift':>8}  token")
    for rank, i in enumerate(top, 1):
        mark = "*" if winners[i] else " "
        print(
            f"{rank:>4}{mark} {int(scan.token_ids[i]):>7}  {scan.statistic[i]:>7.4f}  {scan.pvalue[i]:>9.3g}  "
            f"{scan.l2[i]:>8.4f}  {study.token_string(int(scan.token_ids[i]))}"
        )
    signature = scan.signature.with_fields(alpha=f"{alpha:g}")
    how = "from the cache" if scan.from_cache else f"{scan.seconds:.2f} s on {scan.device}"
    print(f"\n{how}\nsignature  {signature}")
    if output:
        from ks_core.study import table

        write_table(table(study, scan, alpha), output, str(signature))
        print(f"wrote {output} ({len(winners):,} rows)")
    return 0


def _scan_layers(options: argparse.Namespace, alpha: float, output: Path | None) -> int:
    from ks_core.layers import scan_layers, table

    line = Line("MB")
    scan = scan_layers(
        options.base,
        options.tuned,
        device=options.device,
        report=lambda done, total, name: line(done / 1e6, total / 1e6, "testing tensors"),
    )
    for note in scan.left_out:
        print(f"left out  {note}")
    frame = table(scan, alpha)
    touched = frame[frame.changed > 0].sort_values(["share_below_alpha", "largest_D"], ascending=False)
    size = sum(t.bytes for t in scan.tensors)
    print(
        f"{len(touched):,} of {len(frame):,} tensors changed ({size / 1e6:,.0f} MB in {scan.seconds:.1f} s, {scan.reused:,} tensors "
        "equal or from the cache)"
    )
    if len(touched):
        print(f"\n{'rows':>8}  {'changed':>8}  {'p < ' + format(alpha, 'g'):>9}  {'largest D':>9}  tensor")
    for _, row in touched.head(max(options.top, 0)).iterrows():
        print(
            f"{row.rows:>8,}  {row.changed:>8.1%}  {row.share_below_alpha:>9.1%}  {row.largest_D:>9.4f}  {row.tensor}"
        )
    signature = scan.signature.with_fields(alpha=f"{alpha:g}")
    print(f"\nsignature  {signature}")
    if output:
        write_table(frame, output, str(signature))
        print(f"wrote {output} ({len(frame):,} tensors)")
    return 0


def run_ticket(options: argparse.Namespace) -> int:
    """``ticket``: choose rows by a rule and write them as an adapter."""
    from ks_core.study import Study
    from ks_core.tickets import select, ticket_of

    folder = Path(options.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already and is not an empty folder. Name a new one.")
    study = Study(options.base, options.tuned, options.device)
    scan = study.scan()
    positions = select(scan, rule=options.rule, alpha=options.alpha, k=options.k)
    ticket = ticket_of(study, scan, positions, rule=options.rule, alpha=options.alpha)
    ticket.save(folder)
    print(f'wrote {folder}: {len(ticket)} rows. Load it with peft:\n  PeftModel.from_pretrained(model, "{folder}")')
    return 0


def run_cache(options: argparse.Namespace) -> int:
    """``cache``: what is kept, how large, where."""
    from ks_core.cache import Cache

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


def run_demo(options: argparse.Namespace) -> int:
    """``demo``: prepare, build, or show the recipe."""
    from ks_core import demo, demo_files

    line = Line("")
    if options.action == "recipe":
        known = demo.recipe(options.name)
        known.pop("losses", None), known.pop("training_counts", None)
        print(json.dumps(known, indent=2, ensure_ascii=False))
        return 0
    if options.action == "build":
        if options.name not in demo.RUNS:
            raise SettingsError(f"The demo knows no run {options.name!r}. Expected one of: {', '.join(demo.RUNS)}.")
        found = demo.build(demo.RUNS[options.name], line)
        demo_files.write_sums()
        print(f"{found['rows_changed']:,} rows changed; written to {demo.ASSETS / options.name}")
        return 0
    from ks_core.study import Study

    demo.prepare_base(line)
    scan = Study(demo.BASE, demo.TUNED).scan(lambda done, total: line(done, total, "testing rows"))
    print(
        f"The demo is ready: {int(scan.winners(0.05).sum())} of {len(scan.pvalue):,} rows have p < 0.05. "
        "Look at it with: make app"
    )
    return 0


def _run_tune(options: argparse.Namespace) -> int:
    from ks_core import tune_command

    return tune_command.tune(options)


def _run_evaluate(options: argparse.Namespace) -> int:
    from ks_core import tune_command

    return tune_command.evaluate(options, Line("sentences"))


def _run_audit(options: argparse.Namespace) -> int:
    from ks_core import audit_command

    return audit_command.run(options, Line(""))


def _run_report(options: argparse.Namespace) -> int:
    from ks_core import audit_command

    return audit_command.report(options, Line(""))


def _run_doctor(options: argparse.Namespace) -> int:
    from ks_core import doctor

    return doctor.run()


def _run_prepare(options: argparse.Namespace) -> int:
    from ks_core import prepared

    line = Line("rows")
    if options.forget and options.name:
        prepared.forget(options.name)
    elif options.name and options.base and options.tuned:
        made = prepared.prepare(
            options.name, options.base, options.tuned, lambda done, total: line(done, total, "testing rows")
        )
        print(f"prepared {made.name}: {made.base} and {made.tuned}")
        return 0
    elif options.name:
        raise SettingsError(
            "A study needs a name, a base and a tuned checkpoint. See: python -m ks_core prepare --help"
        )
    for study in prepared.studies():
        print(f"{study.name}: {study.base} and {study.tuned}")
    return 0


def _run_bench(options: argparse.Namespace) -> int:
    from ks_core import bench

    return bench.run(options)


def _table_path(name: str) -> Path:
    path = Path(name)
    if path.suffix not in TABLE_FORMATS:
        raise SettingsError(f"{name} ends in {path.suffix or 'nothing'}. Expected one of: {', '.join(TABLE_FORMATS)}.")
    if not path.parent.is_dir():
        raise SettingsError(f"The folder {path.parent} does not exist. Create it, or name another output file.")
    return path


def write_table(frame: pd.DataFrame, path: Path, signature: str) -> None:
    """Write a table with its signature to a .csv, .parquet or .json file."""
    from ks_core.export import table_bytes

    try:
        path.write_bytes(table_bytes(frame, path.suffix, signature))
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name another output file.") from None


def _shape(checkpoint: Any) -> str:
    rows, width = checkpoint.shape
    return f"{rows:,} rows of {width:,}, {checkpoint.dtype}"


def _critical(dim: int, alpha: float) -> str:
    from ks_core.ks import critical_value

    value = critical_value(dim, alpha)
    return f"D >= {value:.4f}" if value <= 1 else f"no D can reach that with rows of {dim}"


if __name__ == "__main__":
    sys.exit(main())

"""The command ``scan``: the test of every row of a pair, or of every tensor, as a summary and a table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ks_core.commands.progress_line import Line
from ks_core.errors import SettingsError, visible
from ks_core.store import stopwatch

if TYPE_CHECKING:
    import pandas as pd

TABLE_FORMATS = (".csv", ".parquet", ".json")
#: The parts of ``--timings``, in the order in which they come first; what is in none of them is the rest.
PARTS = ("start and imports", "opening", "hashing", "kernel", "testing", "writing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``scan``."""
    parser.add_argument(
        "base",
        help="checkpoint before tuning: folder, file, hub id, or demo:base; ::encoder behind it chooses one of several embeddings",
    )
    parser.add_argument("tuned", help="checkpoint after tuning, or an adapter: folder, file, hub id, or demo:en-fr")
    parser.add_argument("--alpha", type=float, default=0.05, help="a row wins when its p-value is below (default 0.05)")
    parser.add_argument("--device", default="auto", help="auto (the CPU, the fastest for this test), cuda, mps or cpu")
    parser.add_argument("--output", metavar="FILE", help="write a row per token to FILE: .csv, .parquet or .json")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="print the N largest shifts (default 20)")
    parser.add_argument("--layers", action="store_true", help="test every tensor, not only the embedding")
    parser.add_argument("--processes", type=int, default=1, help="with --layers: processes that share the tensors, "
                        "a GPU each where there are (default 1)")  # fmt: skip
    parser.add_argument("--timings", action="store_true", help="print where the time of this process went")


def run(options: argparse.Namespace) -> int:
    """Print a summary, and with ``--output`` write a table of all rows."""
    from ks_core.study.scan import check_alpha

    imported = stopwatch.since_start() if options.timings else 0.0
    alpha = check_alpha(options.alpha)
    output = table_path(options.output) if options.output else None
    (_scan_layers if options.layers else _scan_rows)(options, alpha, output)
    if options.timings:
        print("\n".join(["", "seconds, by part", *timings(imported, stopwatch.parts(), stopwatch.since_start())]))
    return 0


def timings(imported: float, parts: Mapping[str, float], whole: float) -> list[str]:
    """A line for each part of a process, and one for the whole; they add up, as far as they are printed.

    >>> timings(0.25, {"hashing": 0.5}, 1.0)[-1]
    '  whole                1.00'
    """
    seconds = {name: parts.get(name, 0.0) for name in PARTS}
    seconds[PARTS[0]] += imported
    seconds["the rest"] = max(0.0, whole - sum(seconds.values()))
    return [f"  {name:<20} {spent:.2f}" for name, spent in {**seconds, "whole": whole}.items()]


def _scan_rows(options: argparse.Namespace, alpha: float, output: Path | None) -> None:
    from ks_core.study.scan import Study

    study = Study(options.base, options.tuned, options.device)
    with stopwatch.part("opening"):
        _ = study.pair
    line = Line("rows")
    scan = study.scan(lambda done, total: line(done, total, "testing rows"))
    winners = scan.winners(alpha)
    print(f"base     {study.base.label}: {study.base.kind}, {_shape(study.base)}")
    print(f"tuned    {study.tuned.label}: {study.tuned.kind}, {_shape(study.tuned)}")
    for note in study.pair.notes:
        print(f"note     {visible(note)}")
    if scan.note:
        print(f"note     {scan.note}")
    if not scan.changed.any():
        print(f"result   {visible(study.alike)}")
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
        from ks_core.study.scan import table

        with stopwatch.part("writing"):
            write_table(table(study, scan, alpha), output, str(signature))
        print(f"wrote {output} ({len(winners):,} rows)")


def _scan_layers(options: argparse.Namespace, alpha: float, output: Path | None) -> None:
    from ks_core.study.layers import scan_layers, table

    line = Line("MB")
    scan = scan_layers(
        options.base,
        options.tuned,
        device=options.device,
        processes=options.processes,
        report=lambda done, total, name: line(done / 1e6, total / 1e6, "testing tensors"),
    )
    for note in scan.left_out:
        print(f"left out  {visible(note)}")
    for note in scan.notes:
        print(f"note      {visible(note)}")
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
            f"{row.rows:>8,}  {row.changed:>8.1%}  {row.share_below_alpha:>9.1%}  {row.largest_D:>9.4f}  {visible(row.tensor)}"
        )
    signature = scan.signature.with_fields(alpha=f"{alpha:g}")
    print(f"\nsignature  {signature}")
    if output:
        with stopwatch.part("writing"):
            write_table(frame, output, str(signature))
        print(f"wrote {output} ({len(frame):,} tensors)")


def table_path(name: str) -> Path:
    """A file that a table can be written to. Raises ``SettingsError`` for another."""
    path = Path(name)
    if path.suffix not in TABLE_FORMATS:
        raise SettingsError(f"{name} ends in {path.suffix or 'nothing'}. Expected one of: {', '.join(TABLE_FORMATS)}.")
    if not path.parent.is_dir():
        raise SettingsError(f"The folder {path.parent} does not exist. Create it, or name another output file.")
    return path


def write_table(frame: pd.DataFrame, path: Path, signature: str) -> None:
    """Write a table with its signature to a .csv, .parquet or .json file."""
    from ks_core.study.export import table_bytes

    try:
        path.write_bytes(table_bytes(frame, path.suffix, signature))
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name another output file.") from None


def _shape(checkpoint: Any) -> str:
    rows, width = checkpoint.shape
    return f"{rows:,} rows of {width:,}, {checkpoint.dtype}"


def _critical(dim: int, alpha: float) -> str:
    from ks_core.ks.statistic import critical_value

    value = critical_value(dim, alpha)
    return f"D >= {value:.4f}" if value <= 1 else f"no D can reach that with rows of {dim}"

"""The command ``trajectory``: the test at many steps of one training, by its checkpoints or by what was recorded of it."""

from __future__ import annotations

import argparse

from ks_core.commands.progress_line import Line
from ks_core.commands.scan import table_path, write_table
from ks_core.errors import visible


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``trajectory``."""
    parser.add_argument(
        "base",
        help="checkpoint that the training began with; with nothing behind it, a recorded file, whose tokens then go by their ids",
    )
    parser.add_argument(
        "checkpoints",
        nargs="*",
        help="checkpoints of the training; or a Trainer's output folder with checkpoint-* in it; or a recorded file (trajectory.arrow)",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="a row wins when its p-value is below (default 0.05)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="print the N largest shifts (default 10)")
    parser.add_argument(
        "--losses",
        metavar="FILE",
        help="write the recorded losses, a line per step and part, to FILE: .csv, .parquet or .json",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write a line per row and point to FILE: .csv, .parquet or .json"
    )


def run(options: argparse.Namespace) -> int:
    """Print a line for each point and the rows that moved most, and with ``--output`` write a table of all."""
    from ks_core.study.scan import Study, check_alpha
    from ks_core.trajectory import tables
    from ks_core.trajectory.opening import open_trajectory

    alpha = check_alpha(options.alpha)
    output, losses = (table_path(path) if path else None for path in (options.output, options.losses))
    base, sources = (options.base, options.checkpoints) if options.checkpoints else ("", [options.base])
    trajectory = open_trajectory(base, sources, Line("checkpoints"))
    strings = Study(base, base).token_strings() if base else None
    for note in trajectory.notes:
        print(f"note     {visible(note)}")
    print("\n".join(visible(line) for line in tables.lines(trajectory, strings, alpha, options.top)))
    signature = trajectory.signature.with_fields(alpha=f"{alpha:g}")
    print(f"signature  {signature}")
    for path, frame in (
        (output, tables.points(trajectory, strings, alpha) if output else None),
        (losses, tables.losses(trajectory) if losses else None),
    ):
        if path and frame is not None:
            write_table(frame, path, str(signature))
            print(f"wrote {path} ({len(frame):,} lines)")
    return 0

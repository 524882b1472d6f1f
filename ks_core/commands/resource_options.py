"""The options that ``tune``, ``evaluate`` and ``audit`` share: how much of a machine, and which: this one or a cluster."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ks_core.errors import JobError, SettingsError
from ks_core.jobs import cluster, devices
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.resources import PRECISIONS, Resources

if TYPE_CHECKING:
    from ks_core.tuning.plans import Plan


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """The options, in two groups."""
    group = parser.add_argument_group("how it is computed")
    group.add_argument("--processes", type=int, default=0, metavar="N", help="processes that share batches and sentences, a GPU "
                       "each where there are (default 1; with --slurm: as many as GPUs)")  # fmt: skip
    group.add_argument(
        "--sharded", action="store_true", help="spread the model over the processes (FSDP), when it fits no single GPU"
    )
    group.add_argument("--precision", default="float32", help=f"of the frozen body: {' or '.join(PRECISIONS)}; rows are "
                       "float32 in either case (default float32)")  # fmt: skip
    group.add_argument("--checkpointing", action="store_true", help="keep no activations inside layers: less memory, a third "
                       "to a half more time")  # fmt: skip
    slurm = parser.add_argument_group("where it is computed")
    slurm.add_argument("--slurm", action="store_true", help="on a cluster, through Slurm; without it on this machine")
    slurm.add_argument("--partition", default="", help="of Slurm (default: its own)")
    slurm.add_argument("--gpus", type=int, default=0, help="GPUs of one node (default 0)")
    slurm.add_argument("--cpus", type=int, default=2, help="cores (default 2)")
    slurm.add_argument("--memory", type=int, default=0, metavar="GB", help="memory (default: the partition's)")
    slurm.add_argument(
        "--minutes", type=int, default=240, help="time after which Slurm ends and requeues it (default 240)"
    )
    slurm.add_argument("--no-array", action="store_true", help="run the arms one after the other in one job, instead of each "
                       "as a task of an array")  # fmt: skip


def resources_of(options: argparse.Namespace) -> Resources:
    """The ``Resources`` that the options name."""
    if options.processes < 0:
        raise SettingsError(f"--processes is {options.processes}. Expected at least 1.")
    if options.slurm and options.gpus and options.processes > options.gpus:
        raise SettingsError(
            f"{options.processes} processes are asked for, a GPU each, and {options.gpus} GPUs. Name as many of both."
        )
    processes = options.processes or (max(options.gpus, 1) if options.slurm else 1)
    return Resources(processes, options.sharded, options.precision, options.checkpointing)


def allocation_of(options: argparse.Namespace) -> Allocation | None:
    """What is asked of Slurm; ``None`` for this machine. Raises ``JobError`` where Slurm cannot be asked."""
    if not options.slurm:
        return None
    if reason := cluster.why_not():
        raise JobError(reason)
    return Allocation(
        options.partition, options.gpus, options.minutes, options.cpus, options.memory, not options.no_array
    )  # fmt: skip


def device_of(options: argparse.Namespace) -> str:
    """The device behind a wish such as auto: the lane in which a job waits. A node's is known there alone."""
    return "slurm" if options.slurm else devices.select(options.device).removeprefix("torch:")


def say_what_it_takes(plan: Plan, allocation: Allocation | None) -> None:
    """Print memory against what is there, and the time where it was measured, on standard error."""
    from ks_core.tuning import estimates, memory

    corpus = plan.corpus.load()
    if shape := memory.shape_of(plan.base):
        work = memory.work_of(plan, corpus, shape)
        if allocation:
            _, words = memory.sentence_on_node(shape, plan.resources, work, allocation)
        else:
            device = devices.select(plan.device).removeprefix("torch:")
            _, words = memory.sentence(shape, plan.resources, work, device)
        print(words, file=sys.stderr)
    if rates := estimates.known(plan, allocation):
        print(estimates.sentence(plan, corpus, rates, allocation), file=sys.stderr)

"""The command ``jobs``: what is going on and how it ended, here and in Slurm's queue; to cancel, requeue, resume."""

from __future__ import annotations

import argparse
import time

from ks_core.errors import visible
from ks_core.jobs import queue
from ks_core.jobs.handle import FINAL, queue_words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``jobs`` takes."""
    parser.add_argument("--all", action="store_true", help="every job there is, not only the last twenty")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cancel", metavar="JOB", help="ask a job to stop; what it finished is kept")
    what.add_argument("--requeue", metavar="JOB", help="have Slurm end a running job and start it again later")
    what.add_argument("--resume", metavar="JOB", help="start a failed or cancelled job again where it was")


def run(options: argparse.Namespace) -> int:
    """List the jobs, the newest first, or do what an option asks for."""
    if options.cancel:
        job = queue.find(options.cancel)
        job.cancel()
        print(
            f"{job.id}: {job.state}; it stops at its next step" if job.state not in FINAL else f"{job.id}: {job.state}"
        )
        return 0
    if options.requeue:
        job = queue.find(options.requeue)
        queue.requeue(job)
        print(f"{job.id}: Slurm starts it again when there is room; it goes on from what it has saved")
        return 0
    if options.resume:
        print(f"{queue.resume(queue.find(options.resume)).id}: started again")
        return 0
    every = queue.all_jobs()
    shown = every if options.all else every[:20]
    for job in shown:
        state, progress = job.state, job.progress
        where = queue_words(job) or "this machine"
        far = f", {progress.share:.0%} {progress.message}" if state == "running" else ""
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(job.request.get("created") or 0)))
        print(visible(f"{job.id}  {made}  {state}{far}  [{where}]  {job.request.get('label', '')}"))
        if state == "failed":
            print(f"    {visible(job.error)}")
    if not every:
        print("There is no job in this workspace yet.")
    elif len(every) > len(shown):
        print(f"... and {len(every) - len(shown)} older ones: --all")
    return 0

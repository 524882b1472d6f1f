"""A line of progress on a terminal: of work in this process, and of a job."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ks_core.errors import JobError, visible

if TYPE_CHECKING:  # work in this process waits for nothing that jobs stand on
    from ks_core.jobs.handle import Job


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
        print(f"\r\033[K{visible(message) or 'working'}: {amount}{speed}{left}", end=end, file=sys.stderr, flush=True)


def follow(job: Job) -> str:
    """Show a job's progress until it is over; a line per stage where nobody watches a terminal."""
    from ks_core.jobs.handle import FINAL, queue_words

    shown = ""
    while (state := job.state) not in FINAL:
        progress = job.progress
        left = f", about {progress.seconds_left:,.0f} s left" if progress.seconds_left else ""
        text = f"{progress.message}: {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}{left}"
        stage = progress.message.partition(", loss")[0]
        if words := queue_words(job):
            text, stage = f"{words}; {text}", words
        if sys.stderr.isatty():
            print(f"\r\033[K{visible(text)}", end="", file=sys.stderr, flush=True)
        elif stage and stage != shown:
            shown = stage
            print(visible(stage), file=sys.stderr, flush=True)
        time.sleep(0.5)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return state


def finish(job: Job, again: str = "") -> None:
    """Follow a job to its end, which an interrupt cancels. ``again`` says how a job goes on that keeps what was finished: its end is
    waited for then. Raises ``JobError`` when it is not done."""
    try:
        state = follow(job)
    except KeyboardInterrupt:
        job.cancel()
        if again:
            print("\nstopping; what was finished is kept", file=sys.stderr)
            job.wait(120)
            print(again, file=sys.stderr)
        raise
    if state != "done":
        raise JobError(job.error or f"Job {job.id} was {state}. {again or 'Give the command again.'}")

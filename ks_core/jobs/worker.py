"""What runs in a job's process: ``python -m ks_core.jobs.worker FOLDER``. The other side of ``jobs``."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ks_core.errors import Cancelled
from ks_core.jobs import processes, queue, world
from ks_core.jobs.handle import Job, update
from ks_core.jobs.kinds import KINDS
from ks_core.jobs.running import Running, sentence
from ks_core.store import log, workspace

logger = logging.getLogger(__name__)

#: How often the last word of a job is tried to be written, and seconds between: a full disk may get room again.
ATTEMPTS, PAUSE = 5, 2.0


def main(folder: Path) -> int:
    """Run the job of a folder in this process. Returns the exit code."""
    log.begin()
    job = Job(folder)
    try:
        queue.note_process(folder, os.getpid())
        running = Running(folder)
        if job.request.get("device") == "slurm":
            _heed_slurm(folder)
        update(folder, state="queued")
        with _turn(job):
            update(folder, state="running", started=time.time())
            request = job.request
            logger.info("job %s began", job.id)
            kind = KINDS.find(request.get("kind"))
            result = world.carry_out(kind.work, request["parameters"], running, shared=kind.shared)
            workspace.write_json(folder / "result.json", result)
            _last_word(folder, state="done")
            logger.info("job %s is done", job.id)
            return 0
    except Cancelled:
        if running.is_replaced():
            logger.info("job %s is another process's now; this one leaves", job.id)
            return 0
        if (folder / "interrupt").exists() and not (folder / "cancel").exists():
            logger.info("job %s was interrupted by Slurm", job.id)
            _last_word(folder, state="queued", message="interrupted by Slurm; goes on when it is started again")
            return 0
        logger.info("job %s was cancelled", job.id)
        _last_word(folder, state="cancelled")
        return 0
    except BaseException as error:
        print(log.redact(traceback.format_exc()), file=sys.stderr)  # into log.txt, for whoever looks after the program
        logger.error("job %s failed: %s", job.id, error)
        _last_word(folder, state="failed", error=sentence(error))
        return 1


def _last_word(folder: Path, **change: Any) -> None:
    """Write a job's final state; where the folder does not take it, again after a while."""
    for attempt in range(ATTEMPTS):
        if not folder.is_dir():
            return  # it was removed meanwhile
        try:
            return update(folder, **change, finished=time.time())
        except OSError as error:
            logger.error("the state of job %s could not be written (%s)", folder.name, error.strerror)
            time.sleep(PAUSE if attempt < ATTEMPTS - 1 else 0)


def _heed_slurm(folder: Path) -> None:
    """Have the work save and stop when Slurm says that its time is over, or that another job needs the place."""
    (folder / "interrupt").unlink(missing_ok=True)

    def interrupted(number: int, frame: Any) -> None:
        (folder / "interrupt").write_text(signal.Signals(number).name)

    signal.signal(signal.SIGUSR2, interrupted)
    signal.signal(signal.SIGTERM, interrupted)


@contextlib.contextmanager
def _turn(job: Job) -> Iterator[None]:
    """Wait until no older job of the same device is waiting or running, then hold the device."""
    request = job.request
    if request.get("device") == "slurm":  # whose queue it has been through
        yield
        return
    device = str(request.get("device", "cpu")).replace("/", "_")
    while True:
        if (job.folder / "cancel").exists():
            raise Cancelled
        every = queue.all_jobs()
        older = every[[j.id for j in every].index(job.id) + 1 :] if job in every else []
        ahead = [
            j
            for j in older
            if j.request.get("device") == request.get("device")
            and j.status.get("state", "queued") in ("queued", "running")  # none yet: its process is starting
            and j.is_alive()
        ]
        if not ahead:
            break
        update(job.folder, message=f"waiting for {len(ahead)} other job{'s' if len(ahead) > 1 else ''}")
        time.sleep(0.5)
    with processes.locked(workspace.folder("jobs") / f".{device}.lock"):
        yield


if __name__ == "__main__":
    from ks_core.jobs.worker import main as run  # the module by its name, so that there is one of it

    sys.exit(run(Path(sys.argv[1])))

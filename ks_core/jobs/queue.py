"""Long work in a process of its own: submit, follow, cancel, resume.

A job is a folder under the workspace's ``jobs``. Everything about it is in its files, so any process
can follow it, and none has to stay alive for it:

    request.json    what was asked: kind, parameters, label, device, when
    process.json    pid and identity of its process
    status.json     state and progress; replaced as a whole, never written in place
    events.jsonl    what happened, a line each: losses, finished parts
    log.txt         what the process printed
    result.json     what came out (larger results are files beside it)
    cancel          there when the user asked for it to stop
    interrupt       there when Slurm asked for it to stop: it saves, and goes on later

States: ``queued``, ``running``, ``done``, ``failed``, ``cancelled``. A job whose process is gone without a final
state has failed, whatever its last status said; unless its result is there, which is written last.
``worker`` is the other side: what runs in the process, and ``handle`` how it is seen from here.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ks_core.errors import AccessError, JobError
from ks_core.jobs import cluster, processes
from ks_core.jobs.cluster import Allocation
from ks_core.jobs.handle import Job, number, queue_words, read
from ks_core.jobs.kinds import KINDS
from ks_core.registry import named
from ks_core.store import access, shipped, workspace

logger = logging.getLogger(__name__)

#: The lane of short kinds. Each lane runs one job at a time.
SHORT_LANE = "short"


def submit(
    kind: str,
    parameters: Mapping[str, Any],
    *,
    label: str = "",
    device: str = "cpu",
    allocation: Allocation | None = None,
) -> Job:
    """Start a job, or find the one that already does exactly this, there.

    ``parameters`` are plain JSON values. Jobs of one ``device`` run one after the other, in the order
    in which they were submitted; those of short kinds have a lane of their own beside them. With an
    ``allocation`` the job goes to Slurm instead, which has its own order. Raises ``JobError`` for an unknown kind or
    a folder that cannot be written.
    """
    short = KINDS.find(kind).short
    if access.read_only():
        raise AccessError(access.NOTHING_STARTS)
    try:
        with processes.locked(workspace.folder("jobs") / ".submit.lock"):
            asked = asdict(allocation) if allocation else None
            for job in all_jobs():
                known = job.request
                same = known.get("kind") == kind and known.get("parameters") == dict(parameters)
                if same and known.get("allocation") == asked and job.state in ("queued", "running"):
                    return job
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{secrets.token_hex(3)}"
            folder = workspace.folder("jobs") / name
            folder.mkdir()
            workspace.write_json(
                folder / "request.json",
                {
                    "kind": kind,
                    "parameters": dict(parameters),
                    "label": label or kind,
                    "device": "slurm" if allocation else SHORT_LANE if short else device,
                    "allocation": asked,
                    "number": _next_number(),
                    "cwd": os.getcwd(),
                    "created": time.time(),
                },
            )
            try:
                _start(folder)
            except JobError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            logger.info("job %s was submitted: %s", name, label or kind)
    except OSError as error:
        raise JobError(
            f"A job could not be written to {workspace.home()}: {error.strerror}. "
            "Free some disk, or set KS_LOTTERY_HOME to a folder that can be written to."
        ) from None
    return Job(folder)


def resume(job: Job) -> Job:
    """Start a failed or cancelled job again in its own folder, so that it goes on from what it kept."""
    if job.state not in ("failed", "cancelled"):
        raise JobError(f"Job {job.id} is {job.state}. Only a failed or cancelled job can be resumed.")
    if access.read_only():
        raise AccessError(access.NOTHING_STARTS)
    for name in ("cancel", "interrupt", "status.json", "process.json", "queue.json", "result.json"):
        (job.folder / name).unlink(missing_ok=True)
    with processes.locked(workspace.folder("jobs") / ".submit.lock"):
        request = {**job.request, "number": _next_number(), "created": time.time()}
        workspace.write_json(job.folder / "request.json", request)
        _start(job.folder)
    return job


def all_jobs(kind: str | None = None) -> list[Job]:
    """Every job there is, the newest first: by the number that each was given, as a clock can be set back. Those that are shipped
    (``store.shipped``) come after all of the workspace's."""
    folders = [p for p in (workspace.home() / "jobs").glob("*-*") if (p / "request.json").is_file()]
    requests = {p: read(p / "request.json") for p in folders}
    folders.sort(key=lambda p: (number(requests[p].get("number")), p.name), reverse=True)
    own = [Job(p) for p in folders if kind in (None, requests[p].get("kind"))]
    return own + [job for job in map(Job, shipped.jobs()) if kind in (None, job.request.get("kind"))]


def _next_number() -> int:
    """One more than any job has. Asked for with the lock held."""
    own = (job for job in all_jobs() if not job.shipped)
    return 1 + max((int(number(job.request.get("number"))) for job in own), default=0)


def find(job_id: str) -> Job:
    """The job of this id. Raises ``JobError`` when there is none."""
    folder = workspace.home() / "jobs" / Path(job_id).name
    if not (folder / "request.json").is_file():
        raise JobError(f"There is no job {job_id!r} in this workspace. It may have been removed.")
    return Job(folder)


def _start(folder: Path) -> None:
    """Start the process of a job, with its output in a file; or hand it to Slurm."""
    request = read(folder / "request.json")
    if request.get("allocation"):
        allocation = Allocation.from_dict(request["allocation"])
        parts = _parts(folder, request) if allocation.array else []
        return cluster.submit(folder, allocation, request["kind"], parts)
    with (folder / "log.txt").open("ab") as output:
        pid = processes.start(
            *processes.worker(folder, workspace.home().resolve()), output, str(request.get("cwd", ""))
        )
    note_process(folder, pid)


def _parts(folder: Path, request: dict[str, Any]) -> list[Path]:
    """A folder for each part of a job that can be a task of its own and is not finished: an array of Slurm."""
    made = []
    cut = KINDS.find(request["kind"]).parts
    for place, (label, kind, parameters) in (named(cut)(request["parameters"]) if cut else {}).items():
        part = folder / "parts" / f"{place:02d}"
        if Job(part).status.get("state") == "done":
            continue
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        workspace.write_json(part / "request.json", {
            "kind": kind, "parameters": {**parameters, "run": str(folder.resolve())}, "label": label, "device": "slurm",
            "created": request["created"],
        })  # fmt: skip
        made.append(part)
    return made


def requeue(job: Job) -> None:
    """Have Slurm end a job that it runs (of an array: all that runs), and start it again where there is room: it goes on
    from what it saves.

    Raises ``JobError`` for a job of this machine, or one that Slurm does not run.
    """
    found = on_nodes(job)
    if not found:
        raise JobError(
            f"Job {job.id} is not run by Slurm now ({queue_words(job) or 'it is on this machine'}). Only a running job of "
            "Slurm can be requeued; one that has ended can be resumed."
        )
    if access.read_only():
        raise AccessError(access.NOTHING_STARTS)
    for one in found:
        cluster.requeue(one.folder)


def on_nodes(job: Job) -> list[Job]:
    """What of a job and of its array Slurm runs this moment."""
    return [one for one in (job, *job.parts) if (place := one.place) and place.state in cluster.RUNNING]


def note_process(folder: Path, pid: int) -> None:
    """Write down which process is the job's. Its parent does, and the process itself: either may be killed before."""
    known = processes.identity(pid)
    if known:
        workspace.write_json(folder / "process.json", {"pid": pid, "identity": known})

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
``job_process`` is the other side: what runs in the process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ks_core import access, cluster, processes, workspace
from ks_core.cluster import Allocation, Place
from ks_core.errors import AccessError, JobError

logger = logging.getLogger(__name__)

#: Which function does the work of a kind: ``run(parameters, running) -> result``.
KINDS = {
    "scan": "ks_core.study:run_scan",
    "drift": "ks_core.drift:run_drift",
    "layers": "ks_core.layers:run_layers",
    "demo": "ks_core.demo:run_prepare",
    "tune": "ks_core.tuning:run_tune",
    "arm": "ks_core.tuning:run_one_arm",
    "evaluate": "ks_core.exam:run_evaluate",
    "estimate": "ks_core.estimates:run_estimate",
    "audit": "ks_core.audit:run_audit",
    "calibration": "ks_core.calibration:run_calibration",
}

#: Kinds that take seconds: they do not wait behind a training. Each lane runs one job at a time.
SHORT, SHORT_LANE = ("scan", "drift", "layers", "demo", "calibration"), "short"

#: Kinds that several processes can share, as their parameters' resources say.
SHARED = ("tune", "arm", "evaluate", "estimate")

FINAL = ("done", "failed", "cancelled")

#: Seconds a job has to stop by itself after a cancel, before it is ended.
PATIENCE = 20.0


@dataclass(frozen=True)
class Progress:
    """How far a job is: ``done`` of ``total`` (in ``unit``), per second, seconds left (None: unknown)."""

    done: float
    total: float
    unit: str
    message: str
    rate: float | None
    seconds_left: float | None

    @property
    def share(self) -> float:
        """0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Job:
    """A job as seen from outside. Every property is read from its files when asked for."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def request(self) -> dict[str, Any]:
        return _read(self.folder / "request.json")

    @property
    def status(self) -> dict[str, Any]:
        return _read(self.folder / "status.json")

    @property
    def state(self) -> str:
        """The true state: a job whose process is gone without a final state has failed."""
        state = self._noted()
        if state in FINAL:
            return state
        place = self.place
        if place:
            return self._queued_state(state, place)
        if self.is_alive():
            return state
        if not (self.folder / "process.json").exists() and 0 <= time.time() - _number(self.request.get("created")) < 10:
            return "queued"  # its process is being started this moment
        # It may have ended between the two looks; or it was killed after its result and before it could say so.
        state = self._noted()
        if state in FINAL:
            return state
        return "done" if _read(self.folder / "result.json") else "failed"

    def _queued_state(self, noted: str, place: Place) -> str:
        """The state of a job that Slurm has: what it wrote counts while it runs, and Slurm's word before and after."""
        if cluster.is_alive(place):
            return "queued" if place.state in cluster.WAITING else noted
        noted = self._noted()  # it may have ended between the two looks
        if noted in FINAL:
            return noted
        if (self.folder / "cancel").exists():
            return "cancelled"
        return "done" if _read(self.folder / "result.json") else "failed"

    @property
    def place(self) -> Place | None:
        """Where it stands in Slurm's queue; ``None`` for a job of this machine."""
        return cluster.place(self.folder)

    @property
    def parts(self) -> list[Job]:
        """The tasks of its array, each a job in a folder of its own; mostly none."""
        return [Job(p) for p in cluster.parts_of(self.folder)]

    def _noted(self) -> str:
        """The state that the process wrote last."""
        state = self.status.get("state", "queued")
        return state if state in (*FINAL, "running") else "queued"

    @property
    def error(self) -> str:
        """One sentence for a failed job; empty otherwise."""
        if self.state != "failed":
            return ""
        error = self.status.get("error")
        place = None if error else self.place
        if place:
            why = cluster.ENDS.get(place.state.rstrip("+"), f"state {place.state or 'unknown'}")
            return f"Slurm ended job {place.id}: {why}. Resume it: it goes on from what it had finished."
        return (
            str(error)
            if error
            else (
                "The process ended without a word (killed, out of memory, the disk full, or the machine was restarted). "
                "Start the job again: it goes on from what it had finished."
            )
        )

    @property
    def progress(self) -> Progress:
        status = self.status
        if status.get("state", "queued") == "queued" and (parts := self.parts):
            return _of_parts(parts)
        done, total = _number(status.get("done")), _number(status.get("total"))
        spent = _number(status.get("updated")) - _number(status.get("stage_started"))
        moved = done - _number(status.get("stage_done"))
        rate = moved / spent if spent > 0 and moved > 0 else None
        return Progress(
            done,
            total,
            str(status.get("unit", "")),
            str(status.get("message", "")),
            rate,
            (total - done) / rate if rate else None,
        )

    @property
    def result(self) -> dict[str, Any]:
        """What came out. Raises ``JobError`` when the job is not done."""
        if self.state != "done":
            raise JobError(f"Job {self.id} is {self.state}: it has no result.")
        found = _read(self.folder / "result.json")
        if not found:
            raise JobError(f"The result of job {self.id} is missing or damaged. Start it again.")
        return found

    def events(self) -> list[dict[str, Any]]:
        """Every event so far, oldest first, those of an array's tasks before. A half-written line is left for later."""
        found = [event for part in self.parts for event in part.events()]
        with (
            contextlib.suppress(OSError),
            (self.folder / "events.jsonl").open(encoding="utf-8", errors="replace") as file,
        ):
            for line in file:
                with contextlib.suppress(ValueError, RecursionError):
                    found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]

    def log_tail(self, lines: int = 20) -> str:
        """The end of what its process printed."""
        with contextlib.suppress(OSError):
            text = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def is_alive(self) -> bool:
        """Whether the very process that was started for this job still runs, or Slurm has the job."""
        place = self.place
        if place:
            return cluster.is_alive(place)
        process = _read(self.folder / "process.json")
        return processes.is_running(process.get("pid"), process.get("identity"))

    def cancel(self) -> None:
        """Ask the job to stop at its next step. ``insist`` is for one that does not."""
        if self.state not in FINAL:
            workspace.write_atomically(self.folder / "cancel", str(time.time()).encode())
            place = self.place
            if place:
                if place.state in cluster.WAITING:  # its array may be running; what is ended by Slurm saves first
                    cluster.cancel(self.folder)
                    update(self.folder, state="cancelled", finished=time.time())
                return
            if self.status.get("state", "queued") == "queued" and not self.is_alive():
                update(self.folder, state="cancelled", finished=time.time())

    def insist(self) -> None:
        """End a job that was asked to stop more than ``PATIENCE`` seconds ago and still runs."""
        try:
            asked = float((self.folder / "cancel").read_text())
        except (OSError, ValueError):
            return
        spent = time.time() - asked
        if spent < 0:  # the clock was set back meanwhile
            workspace.write_atomically(self.folder / "cancel", str(time.time()).encode())
        elif spent > PATIENCE and self.is_alive():
            if self.place:
                cluster.cancel(self.folder)
            else:
                processes.end(_read(self.folder / "process.json")["pid"])
            update(self.folder, state="cancelled", finished=time.time())

    def wait(self, seconds: float = 600) -> str:
        """Wait until the job is over, and say its state. Raises ``JobError`` when time runs out."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.state in FINAL:
                return self.state
            self.insist()
            time.sleep(0.1)
        raise JobError(f"Job {self.id} is still {self.state} after {seconds:.0f} s. It goes on; look again later.")


def submit(
    kind: str,
    parameters: Mapping[str, Any],
    *,
    label: str = "",
    device: str = "cpu",
    allocation: Allocation | None = None,
) -> Job:
    """Start a job, or find the one that already does exactly this.

    ``parameters`` are plain JSON values. Jobs of one ``device`` run one after the other, in the order
    in which they were submitted; those of ``SHORT`` kinds have a lane of their own beside them. With an
    ``allocation`` the job goes to Slurm instead, which has its own order. Raises ``JobError`` for an unknown kind or a folder that cannot be written.
    """
    if kind not in KINDS:
        raise JobError(f"{kind!r} is no kind of job. Expected one of: {', '.join(KINDS)}.")
    if access.read_only():
        raise AccessError(access.NOTHING_STARTS)
    try:
        with processes.locked(workspace.folder("jobs") / ".submit.lock"):
            for job in all_jobs():
                same = job.request.get("kind") == kind and job.request.get("parameters") == dict(parameters)
                if same and job.state in ("queued", "running"):
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
                    "device": "slurm" if allocation else SHORT_LANE if kind in SHORT else device,
                    "allocation": asdict(allocation) if allocation else None,
                    "number": _next_number(),
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
    """Every job there is, the newest first: by the number that each was given, as a clock can be set back."""
    folders = [p for p in (workspace.home() / "jobs").glob("*-*") if (p / "request.json").is_file()]
    requests = {p: _read(p / "request.json") for p in folders}
    folders.sort(key=lambda p: (_number(requests[p].get("number")), p.name), reverse=True)
    return [Job(p) for p in folders if kind in (None, requests[p].get("kind"))]


def _next_number() -> int:
    """One more than any job has. Asked for with the lock held."""
    return 1 + max((int(_number(job.request.get("number"))) for job in all_jobs()), default=0)


def find(job_id: str) -> Job:
    """The job of this id. Raises ``JobError`` when there is none."""
    folder = workspace.home() / "jobs" / Path(job_id).name
    if not (folder / "request.json").is_file():
        raise JobError(f"There is no job {job_id!r} in this workspace. It may have been removed.")
    return Job(folder)


def _start(folder: Path) -> None:
    """Start the process of a job, with its output in a file; or hand it to Slurm."""
    request = _read(folder / "request.json")
    if request.get("allocation"):
        allocation = Allocation.from_dict(request["allocation"])
        parts = _parts(folder, request) if request["kind"] == "tune" and allocation.array else []
        return cluster.submit(folder, allocation, request["kind"], parts)
    home = {"KS_LOTTERY_HOME": str(workspace.home().resolve()), "PYTHONUNBUFFERED": "1"}
    with (folder / "log.txt").open("ab") as output:
        pid = processes.start([sys.executable, "-m", "ks_core.job_process", str(folder)], output, home)
    note_process(folder, pid)


def _parts(folder: Path, request: dict[str, Any]) -> list[Path]:
    """A folder for each arm that can be a task of its own and is not finished: the array of a run."""
    from ks_core.plans import Plan

    plan, made = Plan.from_dict(request["parameters"]), []
    for number in plan.independent if len(plan.independent) > 1 else ():
        part = folder / "parts" / f"{number:02d}"
        if Job(part).status.get("state") == "done":
            continue
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        parameters = {**request["parameters"], "arm": number, "run": str(folder.resolve())}
        workspace.write_json(part / "request.json", {
            "kind": "arm", "parameters": parameters, "label": plan.arms[number].name, "device": "slurm",
            "created": request["created"],
        })  # fmt: skip
        made.append(part)
    return made


def queue_words(job: Job) -> str:
    """Where a job and its array stand in Slurm's queue, in its words; empty for a job of this machine."""
    place = job.place
    if place is None:
        return ""
    parts = job.parts
    counted = Counter(
        state if (state := part.state) in FINAL or not (p := part.place) else p.words.partition(": ")[2]
        for part in parts
    )
    array = f"; {len(parts)} arms as an array: " + ", ".join(f"{n} {w}" for w, n in counted.items()) if parts else ""
    return place.words + array


def requeue(job: Job) -> None:
    """Have Slurm end a job that it runs, and start it again where there is room: it goes on from what it saves.

    Raises ``JobError`` for a job of this machine, or one that Slurm does not run.
    """
    place = job.place
    if place is None or place.state not in cluster.RUNNING:
        raise JobError(
            f"Job {job.id} is not run by Slurm now ({place.words if place else 'it is on this machine'}). Only a running job of "
            "Slurm can be requeued; one that has ended can be resumed."
        )
    if access.read_only():
        raise AccessError(access.NOTHING_STARTS)
    cluster.requeue(job.folder)


def note_process(folder: Path, pid: int) -> None:
    """Write down which process is the job's. Its parent does, and the process itself: either may be killed before."""
    known = processes.identity(pid)
    if known:
        workspace.write_json(folder / "process.json", {"pid": pid, "identity": known})


def _of_parts(parts: list[Job]) -> Progress:
    """How far the tasks of an array are, together. The time left is known once the last of them runs."""
    states = [part.status.get("state", "queued") for part in parts]
    found = [part.progress for part in parts]
    far = sum(1.0 if state in FINAL else p.share for state, p in zip(states, found, strict=True))
    left = [p.seconds_left for state, p in zip(states, found, strict=True) if state not in FINAL]
    known = [seconds for seconds in left if seconds is not None]
    return Progress(
        far,
        len(parts),
        "arms",
        "arms side by side",
        None,
        max(known, default=None) if len(known) == len(left) else None,
    )


def _number(value: Any) -> float:
    """A number of a job's file; 0 for what is none. Files may be damaged."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if good else 0.0


def _read(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty when it is not there or not whole (it is replaced atomically)."""
    found = workspace.read_json(path)
    return found if isinstance(found, dict) else {}


def update(folder: Path, **change: Any) -> None:
    """Change fields of a job's status."""
    workspace.write_json(folder / "status.json", {**_read(folder / "status.json"), **change}, durable="state" in change)

"""Long work in a process of its own: submit, follow, cancel, resume.

A job is a folder under the workspace's ``jobs``. Everything about it is in its files, so any process
can follow it, and none has to stay alive for it:

    request.json    what was asked: kind, parameters, label, device, when
    process.json    pid and start time of its process
    status.json     state and progress; replaced as a whole, never written in place
    events.jsonl    what happened, a line each: losses, finished parts
    log.txt         what the process printed
    result.json     what came out (larger results are files beside it)
    cancel          there when the user asked for it to stop

States: ``queued``, ``running``, ``done``, ``failed``, ``cancelled``. A process is known by its pid and
its start time together, so a pid that was given to another process is not mistaken for the job; one
that is gone without a final state has failed, whatever its last status said.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ks_core import access, log, workspace
from ks_core.errors import AccessError, Cancelled, JobError, KSLotteryError

logger = logging.getLogger(__name__)

#: Which function does the work of a kind: ``run(parameters, running) -> result``.
KINDS = {
    "scan": "ks_core.study:run_scan",
    "drift": "ks_core.drift:run_drift",
    "layers": "ks_core.layers:run_layers",
    "demo": "ks_core.demo:run_prepare",
    "tune": "ks_core.tuning:run_tune",
    "estimate": "ks_core.estimates:run_estimate",
    "audit": "ks_core.audit:run_audit",
    "calibration": "ks_core.calibration:run_calibration",
}

#: Kinds that take seconds: they do not wait behind a training. Each lane runs one job at a time.
SHORT, SHORT_LANE = ("scan", "drift", "layers", "demo", "calibration"), "short"

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
        status = self.status
        state = status.get("state", "queued")
        if state in FINAL or self.is_alive():
            return state
        if not (self.folder / "process.json").exists() and time.time() - self.request.get("created", 0) < 10:
            return "queued"  # its process is being started this moment
        # It may have ended between the two looks.
        state = self.status.get("state", "failed")
        return state if state in FINAL else "failed"

    @property
    def error(self) -> str:
        """One sentence for a failed job; empty otherwise."""
        if self.state != "failed":
            return ""
        return self.status.get("error") or (
            "The process ended without a word (killed, out of memory, or the machine was restarted). "
            "Start the job again: it goes on from what it had finished."
        )

    @property
    def progress(self) -> Progress:
        status = self.status
        done, total = float(status.get("done", 0)), float(status.get("total", 0))
        spent = status.get("updated", 0) - status.get("stage_started", 0)
        moved = done - status.get("stage_done", 0)
        rate = moved / spent if spent > 0 and moved > 0 else None
        return Progress(
            done,
            total,
            status.get("unit", ""),
            status.get("message", ""),
            rate,
            (total - done) / rate if rate else None,
        )

    @property
    def result(self) -> dict[str, Any]:
        """What came out. Raises ``JobError`` when the job is not done."""
        if self.state != "done":
            raise JobError(f"Job {self.id} is {self.state}: it has no result.")
        return _read(self.folder / "result.json")

    def events(self) -> list[dict[str, Any]]:
        """Every event so far, oldest first. A line that is half written is left for the next look."""
        found = []
        with contextlib.suppress(OSError), (self.folder / "events.jsonl").open(encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def log_tail(self, lines: int = 20) -> str:
        """The end of what its process printed."""
        with contextlib.suppress(OSError):
            text = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def is_alive(self) -> bool:
        """Whether the very process that was started for this job still runs."""
        process = _read(self.folder / "process.json")
        return _is_same_process(process.get("pid"), process.get("started"))

    def cancel(self) -> None:
        """Ask the job to stop at its next step. ``insist`` is for one that does not."""
        if self.state not in FINAL:
            workspace.write_atomically(self.folder / "cancel", str(time.time()).encode())
            if self.status.get("state", "queued") == "queued" and not self.is_alive():
                _update(self.folder, state="cancelled", finished=time.time())

    def insist(self) -> None:
        """End a job that was asked to stop more than ``PATIENCE`` seconds ago and still runs."""
        try:
            asked = float((self.folder / "cancel").read_text())
        except (OSError, ValueError):
            return
        if time.time() - asked > PATIENCE and self.is_alive():
            with contextlib.suppress(OSError):
                os.killpg(_read(self.folder / "process.json")["pid"], signal.SIGKILL)
            _update(self.folder, state="cancelled", finished=time.time())

    def wait(self, seconds: float = 600) -> str:
        """Wait until the job is over, and say its state. Raises ``JobError`` when time runs out."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.state in FINAL:
                return self.state
            self.insist()
            time.sleep(0.1)
        raise JobError(f"Job {self.id} is still {self.state} after {seconds:.0f} s. It goes on; look again later.")


def submit(kind: str, parameters: Mapping[str, Any], *, label: str = "", device: str = "cpu") -> Job:
    """Start a job, or find the one that already does exactly this.

    ``parameters`` are plain JSON values. Jobs of one ``device`` run one after the other, in the order
    in which they were submitted; those of ``SHORT`` kinds have a lane of their own beside them. Raises ``JobError`` for an unknown kind or a folder that cannot be written.
    """
    if kind not in KINDS:
        raise JobError(f"{kind!r} is no kind of job. Expected one of: {', '.join(KINDS)}.")
    if access.read_only():
        raise AccessError(access.NOTHING_STARTS)
    try:
        with _locked(workspace.folder("jobs") / ".submit.lock"):
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
                    "device": SHORT_LANE if kind in SHORT else device,
                    "created": time.time(),
                },
            )
            _start(folder)
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
    (job.folder / "cancel").unlink(missing_ok=True)
    for name in ("status.json", "process.json"):
        (job.folder / name).unlink(missing_ok=True)
    request = job.request
    workspace.write_json(job.folder / "request.json", {**request, "created": time.time()})
    _start(job.folder)
    return job


def all_jobs(kind: str | None = None) -> list[Job]:
    """Every job there is, the newest first."""
    folders = sorted((p for p in (workspace.home() / "jobs").glob("*-*") if p.is_dir()), reverse=True)
    jobs = [Job(p) for p in folders if (p / "request.json").is_file()]
    return [j for j in jobs if kind in (None, j.request.get("kind"))]


def find(job_id: str) -> Job:
    """The job of this id. Raises ``JobError`` when there is none."""
    folder = workspace.home() / "jobs" / Path(job_id).name
    if not (folder / "request.json").is_file():
        raise JobError(f"There is no job {job_id!r} in this workspace. It may have been removed.")
    return Job(folder)


class Running:
    """A job as seen from inside: the function that does the work tells it how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = 0.0
        self._stage: str | None = None

    def progress(self, done: float, total: float, message: str = "", *, unit: str = "", stage: str = "") -> None:
        """Say how far the work is; raises ``Cancelled`` when it was asked to stop.

        A new ``stage`` restarts the clock from which rate and time left are computed.
        """
        now = time.time()
        fresh = stage != self._stage
        if fresh or done >= total or now - self._written > 0.25:
            self._written = now
            change: dict[str, Any] = {"done": done, "total": total, "unit": unit, "message": message, "updated": now}
            if fresh:
                self._stage = stage
                change |= {"stage_started": now, "stage_done": done}
            _update(self.folder, **change)
        if self.should_stop():
            raise Cancelled

    def event(self, **fields: Any) -> None:
        """Append one event."""
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **fields}) + "\n")

    def should_stop(self) -> bool:
        """Whether the user asked for the job to stop."""
        return (self.folder / "cancel").exists()


def _start(folder: Path) -> None:
    """Start the process of a job: its own session, output to a file, nothing inherited."""
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ks_core.jobs", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=Path(__file__).resolve().parent.parent,
            close_fds=True,
            env={**os.environ, "KS_LOTTERY_HOME": str(workspace.home().resolve()), "PYTHONUNBUFFERED": "1"},
        )
    with contextlib.suppress(psutil.Error):
        workspace.write_json(
            folder / "process.json",
            {"pid": process.pid, "started": psutil.Process(process.pid).create_time()},
        )
    # The parent may live for days: without this its ended children would stay as zombies.
    import threading

    threading.Thread(target=process.wait, daemon=True).start()


def main(folder: Path) -> int:
    """Run the job of a folder in this process. Returns the exit code."""
    log.begin()
    _update(folder, state="queued")
    running = Running(folder)
    job = Job(folder)
    try:
        with _turn(job):
            _update(folder, state="running", started=time.time())
            request = job.request
            logger.info("job %s began", job.id)
            module, _, name = KINDS[request["kind"]].partition(":")
            result = getattr(importlib.import_module(module), name)(request["parameters"], running)
            workspace.write_json(folder / "result.json", result)
            _update(folder, state="done", finished=time.time())
            logger.info("job %s is done", job.id)
            return 0
    except Cancelled:
        logger.info("job %s was cancelled", job.id)
        _update(folder, state="cancelled", finished=time.time())
        return 0
    except BaseException as error:
        print(log.redact(traceback.format_exc()), file=sys.stderr)  # into log.txt, for whoever looks after the program
        logger.error("job %s failed: %s", job.id, error)
        _update(folder, state="failed", finished=time.time(), error=_sentence(error))
        return 1


def _sentence(error: BaseException) -> str:
    """What a person can do about an error that ended a job."""
    if isinstance(error, KSLotteryError):
        return log.redact(str(error))
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "The machine ran out of memory. Choose a smaller batch, fewer rows or a smaller model."
    if isinstance(error, OSError) and error.errno == 28:
        return "The disk is full. Free some space, then resume the job: what was finished is kept."
    return f"Something went wrong that this program did not expect ({type(error).__name__}). Its log says more."


@contextlib.contextmanager
def _turn(job: Job) -> Iterator[None]:
    """Wait until no older job of the same device is waiting or running, then hold the device."""
    request = job.request
    device = str(request.get("device", "cpu")).replace("/", "_")
    while True:
        if (job.folder / "cancel").exists():
            raise Cancelled
        ahead = [
            j
            for j in all_jobs()
            if j.id != job.id
            and j.request.get("device") == request.get("device")
            and (j.request.get("created", 0), j.id) < (request["created"], job.id)
            and j.status.get("state", "queued") in ("queued", "running")  # none yet: its process is starting
            and j.is_alive()
        ]
        if not ahead:
            break
        _update(job.folder, message=f"waiting for {len(ahead)} other job{'s' if len(ahead) > 1 else ''}")
        time.sleep(0.5)
    # The lock is the system's: it is gone with the process that held it, however that ended.
    with _locked(workspace.folder("jobs") / f".{device}.lock"):
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _is_same_process(pid: int | None, started: float | None) -> bool:
    if not pid or started is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _read(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty when it is not there or not whole (it is replaced atomically)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _update(folder: Path, **change: Any) -> None:
    workspace.write_json(folder / "status.json", {**_read(folder / "status.json"), **change}, durable="state" in change)


if __name__ == "__main__":
    from ks_core.jobs import main as run  # the module by its name, so that there is one of it

    sys.exit(run(Path(sys.argv[1])))

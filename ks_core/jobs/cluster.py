"""Slurm, through submitit: a job's process on a node of a cluster instead of on this machine.

The job's folder is as ever, on a file system that the node sees too; what Slurm is asked and answers is kept beside it:

    queue.json      Slurm's ids for it, and the last that Slurm said of it
    parts/03/       an arm that is a task of an array: a job folder of its own
    slurm/          what submitit writes: the submission and its logs

A job goes on after preemption, after its time ran out and after a requeue from what it had kept: it is told some time
before, saves, and Slurm starts it again.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ks_core import values
from ks_core.errors import JobError, SettingsError
from ks_core.jobs import processes
from ks_core.places import ROOT
from ks_core.store import access, workspace

INSTALL = "pip install -r requirements-cluster.txt"
#: States in which Slurm still has something to do for a job; the others are ends.
WAITING = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SUSPENDED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
)
RUNNING = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")
#: What Slurm calls an end -> what a person reads.
ENDS = {
    "TIMEOUT": "its time ran out", "NODE_FAIL": "its node failed", "OUT_OF_MEMORY": "it took more memory than it had asked for",
    "PREEMPTED": "another job took its place", "CANCELLED": "it was cancelled in the queue", "BOOT_FAIL": "its node did not start",
    "DEADLINE": "its deadline passed", "FAILED": "its process failed",
}  # fmt: skip
#: Why a job waits, in Slurm's word -> in other words.
REASONS = {
    "Resources": "what it asks for is taken", "Priority": "others come first", "Dependency": "it waits for its arms",
    "PartitionTimeLimit": "it asks for more time than the partition gives", "BeginTime": "Slurm starts it again in a while",
    "PartitionNodeLimit": "it asks for more than the partition has", "ReqNodeNotAvail": "its node is down or reserved",
    "JobHeldUser": "it was held", "JobHeldAdmin": "an administrator holds it",
}  # fmt: skip
#: Seconds before the end at which a job is told, and that its process has to save; how long an answer of Slurm is held.
NOTICE, SAVING, FRESH = 120, 90.0, 1.5


@dataclass(frozen=True)
class Allocation:
    """What is asked of Slurm: ``partition`` (empty: its default), ``gpus`` on one node, ``minutes``, ``cpus``, and
    ``memory`` in GB (0: the partition's default). ``array``: each arm is a task of its own, so that they run side by side.
    Raises ``SettingsError`` for what cannot be."""

    partition: str = ""
    gpus: int = 0
    minutes: int = 240
    cpus: int = 2
    memory: int = 0
    array: bool = True

    def __post_init__(self) -> None:
        name = values.text("The partition", self.partition)
        if not all(c.isalnum() or c in "_-.+" for c in name) or name.startswith("-"):
            raise SettingsError(f"{name[:80]!r} is no partition of Slurm. Expected a name as sinfo shows it.")
        for what, least, most in (
            ("gpus", 0, 64),
            ("minutes", 1, 60 * 24 * 60),
            ("cpus", 1, 4096),
            ("memory", 0, 1 << 20),
        ):
            values.whole(f"Slurm: {what}", getattr(self, what), least, most)
        if not isinstance(self.array, bool):
            raise SettingsError(f"array is {str(self.array)[:80]!r}. Expected true or false.")

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Allocation:
        """From plain values. Raises ``SettingsError`` for a field that is not known."""
        return cls(**values.of_fields(cls, given))


def why_not() -> str:
    """Why nothing can be submitted from here, and what to do; empty when it can."""
    if importlib.util.find_spec("submitit") is None:
        return f"Slurm needs a package that is not installed. Install it with: {INSTALL}"
    if not shutil.which("sbatch"):
        return (
            "This machine has no Slurm: sbatch was not found. Start the app on a machine from which jobs are submitted."
        )
    if not partitions():
        return "Slurm is installed here and does not answer, or lets you use no partition. What sinfo says tells more."
    return ""


def partitions() -> dict[str, int | None]:
    """The partitions that Slurm has, its default first, with the minutes that each gives at most (``None``: no limit).
    Empty when it does not answer."""
    return dict(_partitions(int(time.monotonic() / 30)))


@functools.lru_cache(maxsize=1)
def _partitions(_moment: int) -> dict[str, int | None]:
    """Held for half a minute, as a page asks each time it is drawn."""
    lines = [line.strip().split("|") for line in (_ask("sinfo", "-h", "-o", "%P|%l") or "").splitlines()]
    known = [(line[0], line[1]) for line in lines if len(line) == 2 and line[0]]
    return {name.rstrip("*"): minutes(limit) for name, limit in sorted(known, key=lambda k: not k[0].endswith("*"))}


def minutes(limit: str) -> int | None:
    """A time limit as sinfo writes it; ``None`` for one that is none.

    >>> minutes("1:00:00"), minutes("2-12:00:00"), minutes("30:00"), minutes("infinite")
    (60, 3600, 30, None)
    """
    days, _, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in (*parts, days or "0")) or len(parts) not in (2, 3):
        return None
    hours, whole = (int(parts[0]), int(parts[1])) if len(parts) == 3 else (0, int(parts[0]))
    return int(days or 0) * 24 * 60 + hours * 60 + whole


class Task:
    """What submitit runs on a node: the process of a job folder, which it starts, watches, and has save in time."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        command, environment = processes.worker(self.folder, self.home)
        cwd = str((workspace.read_json(self.folder / "request.json") or {}).get("cwd", ""))
        with (self.folder / "log.txt").open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment},
                cwd=cwd if os.path.isdir(cwd) else ROOT,
            )  # fmt: skip
        code = self._process.wait()
        with contextlib.suppress(OSError):
            if (self.folder / "interrupt").read_text() == signal.SIGUSR2.name:
                time.sleep(SAVING)  # Slurm tells both processes, and that one was quicker: this one is told any moment
        return code

    def checkpoint(self) -> Any:
        """Called before the end of its time, or when another job needs the place: let the work save, then be requeued."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            pid, end = self._process.pid, time.monotonic() + SAVING
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)
            # This interrupts the wait above, which holds subprocess's lock: its own way of waiting would never return.
            while processes.identity(pid) is not None:
                if time.monotonic() > end:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.2)
        return DelayedSubmission(Task(self.folder, self.home))


def submit(folder: Path, allocation: Allocation, name: str, parts: Sequence[Path] = ()) -> None:
    """Hand a job's folder to Slurm; its ``parts`` (job folders too) as an array before it.

    Raises ``JobError`` with what Slurm said when it refuses.
    """
    if reason := why_not():
        raise JobError(reason)
    import submitit
    from submitit.core.utils import FailedJobError

    home = workspace.home().resolve()
    executor = submitit.SlurmExecutor(folder=folder.resolve() / "slurm", max_num_timeout=100)
    asked: dict[str, Any] = {
        "job_name": f"ks-{name}"[:60], "time": allocation.minutes, "cpus_per_task": allocation.cpus, "ntasks_per_node": 1,
        "nodes": 1, "signal_delay_s": min(NOTICE, 20 * allocation.minutes), "array_parallelism": 64,
        "setup": [f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"], "stderr_to_stdout": True,
    }  # fmt: skip
    if allocation.partition:
        asked["partition"] = allocation.partition
    if allocation.gpus:
        asked["gpus_per_node"] = allocation.gpus
    if allocation.memory:
        asked["mem"] = f"{allocation.memory}GB"
    try:
        executor.update_parameters(**asked, additional_parameters={"requeue": True})
        array: list[str] = []
        if parts:
            with executor.batch():
                made = [executor.submit(Task(part.resolve(), home)) for part in parts]
            array = [job.job_id for job in made]
            # The last one waits for the arms, however they ended, does what is left, and writes the table.
            executor.update_parameters(dependency=f"afterany:{array[0].partition('_')[0]}")
        last = executor.submit(Task(folder.resolve(), home)).job_id
    except (FailedJobError, subprocess.CalledProcessError, OSError, RuntimeError) as error:
        said = getattr(error, "stderr", None) or getattr(error, "output", None) or error
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        reason = next((line for line in text.splitlines() if "error" in line.lower()), text.strip().split("\n")[0])
        raise JobError(
            f"Slurm did not take the job ({reason[:300]}). Look at partition, GPUs, memory and time."
        ) from None
    for part, number in zip(parts, array, strict=True):
        workspace.write_json(part / "queue.json", {"id": number})
    workspace.write_json(folder / "queue.json", {"id": last, "array": array})


@dataclass(frozen=True)
class Place:
    """Where a job stands in the queue: Slurm's ``id``, its ``state`` (empty: Slurm did not answer or has forgotten it),
    the ``node``, and the ``reason`` why it waits."""

    id: str
    state: str
    node: str = ""
    reason: str = ""

    @property
    def words(self) -> str:
        """For people: what Slurm says, as it says it, and what its reason means."""
        where = f" on {self.node}" if self.node and self.state in RUNNING else ""
        plain = f": {REASONS[self.reason]}" if self.reason in REASONS else ""
        why = f" ({self.reason}{plain})" if self.reason not in ("", "None") and self.state in WAITING else ""
        return f"Slurm {self.id}: {(self.state or 'not in the queue').lower().replace('_', ' ')}{where}{why}"


def place(folder: Path) -> Place | None:
    """Where a job's folder stands in the queue; ``None`` for a job of this machine."""
    noted = workspace.read_json(folder / "queue.json")
    if not isinstance(noted, dict) or not isinstance(noted.get("id"), str):
        return None
    number = noted["id"]
    found = _queue(int(time.monotonic() / FRESH))
    if found is None:
        return Place(number, "UNKNOWN")  # the controller does not answer; what it has goes on
    if number in found:
        return found[number]
    # Slurm forgets what has ended after some minutes, so its last word is kept.
    last = noted.get("ended") or _last(number)
    if last and not noted.get("ended") and last not in (*WAITING, *RUNNING) and not access.read_only():
        workspace.write_json(folder / "queue.json", {**noted, "ended": last})
    return Place(number, str(last))


def is_alive(place: Place) -> bool:
    """Whether Slurm still has something to do for it."""
    return place.state in (*WAITING, *RUNNING, "UNKNOWN")


def cancel(folder: Path) -> None:
    """Take a job and its array out of the queue; what runs is ended."""
    noted = workspace.read_json(folder / "queue.json") or {}
    _ask("scancel", noted.get("id", ""), *noted.get("array", []))
    _queue.cache_clear()


def requeue(folder: Path) -> None:
    """Have Slurm end a running job and start it again when there is room. Raises ``JobError`` when it does not."""
    noted = workspace.read_json(folder / "queue.json") or {}
    number = str(noted.get("id", ""))
    if _ask("scontrol", "requeue", number) is None:
        raise JobError(f"Slurm did not requeue {number}. It may have ended: look at its state, then resume it.")
    _queue.cache_clear()


def parts_of(folder: Path) -> list[Path]:
    """The folders of a job's array, in order."""
    return sorted(p for p in (folder / "parts").glob("*") if (p / "request.json").is_file())


@functools.lru_cache(maxsize=1)
def _queue(_moment: int) -> dict[str, Place] | None:
    """Everything of this user's in the queue, by id; ``None`` when Slurm does not answer. Held for a moment, as a page
    asks for many jobs."""
    told = _ask("squeue", "-h", "-r", "--me", "-o", "%i|%T|%N|%r")
    if told is None:
        return None
    parts = (line.split("|", 3) for line in told.splitlines() if line.count("|") >= 3)
    return {part[0].strip(): Place(*(p.strip() for p in part)) for part in parts}


def _last(number: str) -> str:
    """The state of a job that squeue does not list: as a rule how it ended. Empty when nothing knows."""
    told = _ask("scontrol", "show", "job", number, "--oneliner") or ""
    if "JobState=" in told:
        return told.partition("JobState=")[2].split()[0]
    told = _ask("sacct", "-n", "-X", "-P", "-j", number, "-o", "State") or ""  # where accounting is kept
    return told.split()[0] if told.split() else ""


def _ask(*command: str) -> str | None:
    """What a client of Slurm prints; ``None`` when it fails or does not answer."""
    try:
        found = subprocess.run([c for c in command if c], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout

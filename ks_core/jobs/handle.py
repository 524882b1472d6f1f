"""A job as seen from outside: state, progress, place in the queue; read from its folder each time it is asked for.

``queue`` says what is in the folder, and starts one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ks_core.errors import AccessError, JobError
from ks_core.jobs import cluster, processes
from ks_core.jobs.cluster import Place
from ks_core.store import access, shipped, workspace
from ks_core.store.shipped import Provenance

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
    def shipped(self) -> Provenance | None:
        """Where it comes from, if it was not run here but came with the program."""
        return shipped.provenance(self.folder)

    @property
    def request(self) -> dict[str, Any]:
        return read(self.folder / "request.json")

    @property
    def status(self) -> dict[str, Any]:
        return read(self.folder / "status.json")

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
        if not (self.folder / "process.json").exists() and 0 <= time.time() - number(self.request.get("created")) < 10:
            return "queued"  # its process is being started this moment
        # It may have ended between the two looks; or it was killed after its result and before it could say so.
        state = self._noted()
        if state in FINAL:
            return state
        return "done" if read(self.folder / "result.json") else "failed"

    def _queued_state(self, noted: str, place: Place) -> str:
        """The state of a job that Slurm has: what it wrote counts while it runs, and Slurm's word before and after."""
        if cluster.is_alive(place):
            if place.state not in cluster.WAITING:
                return noted
            return "running" if any(part.state == "running" for part in self.parts) else "queued"
        noted = self._noted()  # it may have ended between the two looks
        if noted in FINAL:
            return noted
        if (self.folder / "cancel").exists():
            return "cancelled"
        return "done" if read(self.folder / "result.json") else "failed"

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
        done, total = number(status.get("done")), number(status.get("total"))
        spent = number(status.get("updated")) - number(status.get("stage_started"))
        moved = done - number(status.get("stage_done"))
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
        found = read(self.folder / "result.json")
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
        process = read(self.folder / "process.json")
        return processes.is_running(process.get("pid"), process.get("identity"))

    def cancel(self) -> None:
        """Ask the job to stop at its next step. ``insist`` is for one that does not. Raises ``AccessError`` on a read-only server."""
        if access.read_only():
            raise AccessError(access.NOTHING_STARTS)
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
        """End a job that was asked to stop more than ``PATIENCE`` seconds ago and still runs; a read-only server only looks on."""
        if access.read_only():
            return
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
                processes.end(read(self.folder / "process.json")["pid"])
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


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(8), duration(75), duration(4000)
    ('8 s', '1 min 15 s', '1 h 6 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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


def number(value: Any) -> float:
    """A number of a job's file; 0 for what is none. Files may be damaged."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if good else 0.0


def read(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty when it is not there or not whole (it is replaced atomically)."""
    found = workspace.read_json(path)
    return found if isinstance(found, dict) else {}


def update(folder: Path, **change: Any) -> None:
    """Change fields of a job's status."""
    workspace.write_json(folder / "status.json", {**read(folder / "status.json"), **change}, durable="state" in change)

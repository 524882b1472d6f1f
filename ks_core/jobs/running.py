"""A job as seen from inside: what the work tells of how far it is, asks about being stopped, and how its end is worded.

``handle`` is the view from outside; ``worker`` runs the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from ks_core.errors import Cancelled, KSLotteryError, of_machine
from ks_core.jobs import handle
from ks_core.jobs.cluster import Allocation
from ks_core.store import log


class Running:
    """A job as seen from inside: the function that does the work tells it how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = 0.0
        self._stage: str | None = None
        self._begun = False
        request = handle.read(folder / "request.json")
        self._on_slurm = request.get("device") == "slurm"
        #: What was asked of Slurm for it; ``None`` on this machine.
        self.allocation = Allocation.from_dict(request["allocation"]) if request.get("allocation") else None
        self._process = handle.read(folder / "process.json")

    def progress(self, done: float, total: float, message: str = "", *, unit: str = "", stage: str = "") -> None:
        """Say how far the work is; raises ``Cancelled`` when it was asked to stop.

        A new ``stage`` restarts the clock from which rate and time left are computed.
        """
        if self.is_replaced():
            raise Cancelled
        now = time.time()
        fresh = stage != self._stage
        if fresh or done >= total or now - self._written > 0.25:
            self._written = now
            change: dict[str, Any] = {"done": done, "total": total, "unit": unit, "message": message, "updated": now}
            if fresh:
                self._stage = stage
                change |= {"stage_started": now, "stage_done": done}
            with contextlib.suppress(OSError):  # a full disk does not end the work for the sake of its progress
                handle.update(self.folder, **change)
        if self.should_stop():
            raise Cancelled

    def event(self, **fields: Any) -> None:
        """Append one event, on a line of its own also after a process that was killed in the middle of one."""
        with (self.folder / "events.jsonl").open("ab+") as file:
            if file.tell() and not self._begun:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            self._begun = True
            file.write(json.dumps({"time": time.time(), **fields}).encode() + b"\n")

    def should_stop(self) -> bool:
        """Whether the user or Slurm asked for the job to stop, or its folder was taken away."""
        return (
            any((self.folder / name).exists() for name in ("cancel", "interrupt"))
            or not (self.folder / "request.json").exists()
            or self.is_replaced()
        )

    def is_replaced(self) -> bool:
        """Whether another process is the job's now: Slurm gave this one's node up, where it lives on, and began anew."""
        return self._on_slurm and handle.read(self.folder / "process.json") != self._process


def sentence(error: BaseException) -> str:
    """What a person can do about an error that ended a job."""
    if isinstance(error, KSLotteryError):
        return log.redact(str(error))
    known = of_machine(error)
    if known:
        return known
    return f"Something went wrong that this program did not expect ({type(error).__name__}). Its log says more."

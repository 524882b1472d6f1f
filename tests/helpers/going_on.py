"""A job that goes on for as long as a test needs, in a process that does nothing."""

import contextlib
import subprocess

from ks_core.jobs import processes, queue
from ks_core.store import workspace


@contextlib.contextmanager
def going_on(kind, parameters):
    """The job, and its process: whether somebody has ended it can be seen there."""
    folder = workspace.home() / "jobs" / f"20990101-000000-{kind}-abcdef"
    request = {"kind": kind, "parameters": parameters, "label": "It goes on", "number": 99, "created": 0}
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            workspace.write_json(folder / "request.json", request)
            workspace.write_json(
                folder / "process.json", {"pid": process.pid, "identity": processes.identity(process.pid)}
            )
            workspace.write_json(
                folder / "status.json", {"state": "running", "done": 1, "total": 9, "message": "working"}
            )
            yield queue.find(folder.name), process
        finally:
            process.kill()

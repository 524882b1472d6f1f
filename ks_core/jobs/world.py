"""Several processes at one piece of work: start them, let them agree, and tell how it ended.

Every process runs the same function. The first one (rank 0) is the one that reports, writes and returns the result;
the others help it to train and to translate. Without ``launch`` there is one process, and everything here is free.

torch starts the processes and ends all when one ends early; accelerate lets them talk (gloo between CPUs, nccl
between GPUs).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from ks_core.errors import Cancelled, JobError, SettingsError
from ks_core.jobs import devices, processes
from ks_core.jobs.running import Running, sentence
from ks_core.registry import named
from ks_core.store import log, workspace

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A process waits for the others as long as they live: who started them ends all when one is gone.
WAIT = timedelta(days=7)
#: Whether this process is one that ``launch`` started; the variables of torch's environment may come from elsewhere.
_started = False


def size() -> int:
    """How many processes work together; 1 where none were started."""
    return int(os.environ["WORLD_SIZE"]) if _started else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def is_main() -> bool:
    """Whether this is the one that reports and writes."""
    return rank() == 0


def device(name: str) -> str:
    """The device of this process: on a machine with several GPUs each process has its own."""
    return f"cuda:{int(os.environ['LOCAL_RANK'])}" if name == "cuda" and size() > 1 else name


def agree(value: Any) -> Any:
    """The first process's ``value``, in all of them. They wait for each other here."""
    if size() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    said = [value]
    broadcast_object_list(said, from_process=0)
    return said[0]


def gather(items: list[Any]) -> list[Any]:
    """Every process's ``items``, one list after the other by rank, in all of them. They wait for each other here."""
    if size() == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


def deal(items: Sequence[T], in_step: bool) -> Iterator[tuple[T, bool, int]]:
    """This process's share of ``items``: each with whether it counts, and how many all have taken with this turn.

    They are dealt out in turn. Where all have to work at once (``in_step``, as with a sharded model), a process that is
    left without an item in the last turn goes along with the last one, and that does not count.

    >>> list(deal(["a", "b"], in_step=False))
    [('a', True, 1), ('b', True, 2)]
    """
    for turn in range(0, len(items), size()):
        own = turn + rank()
        if own < len(items) or in_step:
            yield items[min(own, len(items) - 1)], own < len(items), min(turn + size(), len(items))


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """What is computed here goes into a cache: the first process does it, then the others find it."""
    if not is_main():
        agree(None)
    try:
        yield
    finally:
        if is_main():
            agree(None)


def launch(work: str, parameters: dict[str, Any], folder: Path, count: int, device: str) -> dict[str, Any]:
    """Run ``work`` (``module:function`` of a job) in ``count`` processes for the job in ``folder``. Returns its result.

    Raises ``Cancelled`` when the job was cancelled, ``JobError`` with the sentence that the work ended with, or saying
    which process was killed, and ``SettingsError`` for more processes than there are GPUs.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    check(count, device)
    said = folder / "ranks"
    shutil.rmtree(said, ignore_errors=True)
    said.mkdir()
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        run_id=folder.name, max_restarts=0, start_method="spawn", monitor_interval=0.2, shutdown_timeout=10,
        signals_to_handle="SIGHUP",  # a job's process has its own way with the others
    )  # fmt: skip
    try:
        with processes.without_main():
            elastic_launch(config, _rank)(work, parameters, str(folder), device)
    except ChildFailedError as failure:
        killed = {place: error.exitcode for place, error in failure.failures.items()}
        raise _why(said, killed, count) from None
    found = workspace.read_json(said / "0.json")
    if not isinstance(found, dict) or "result" not in found:
        raise JobError(f"The {count} processes ended without a result. Start it again: it goes on from what is kept.")
    return found["result"]


def check(count: int, device: str) -> None:
    """Raise ``SettingsError`` for more processes than there are GPUs, or several on one that is named."""
    if device.startswith("cuda:") and count > 1:
        raise SettingsError(
            f"{count} processes are asked for, a GPU each, and {device} is one. Name cuda, and they take the first {count}."
        )
    if device != "cpu" and count > (there := devices.count(device)):
        raise SettingsError(
            f"{count} processes are asked for, a GPU each, and this machine has {there}. Name at most {there}."
        )


def _why(said: Path, codes: dict[int, int], count: int) -> Exception:
    """What ended the work: the first process's own word if there is one, another's, or that one was killed."""
    words = [workspace.read_json(said / f"{number}.json") for number in range(count)]
    told = [word for word in words if isinstance(word, dict)]
    if any(word.get("cancelled") for word in told):
        return Cancelled()
    # Those who lost another process end with an error too, which says nothing of what happened.
    if errors := [word["error"] for word in told if word.get("error") and not word.get("lost")]:
        return JobError(errors[0])
    silent = [number for number, word in enumerate(words) if not word]
    # torch tells the code of the first that ended alone, and ends the others, some before they can say a word.
    suspects = [n for n in silent if codes.get(n, -signal.SIGTERM) != -signal.SIGTERM] or silent
    one = f"Process {suspects[0] + 1}" if len(suspects) == 1 else "One"
    return JobError(
        f"{one} of {count}{' processes' * (one == 'One')} was killed, by someone or because memory ran out, and the others "
        "were ended with it. Start it again: it goes on from what is kept."
    )


def _rank(work: str, parameters: dict[str, Any], folder: str, device: str) -> None:
    """One of the processes, from its start to its word on how it ended."""
    processes.end_with_parent()
    if "SLURM_JOB_ID" in os.environ:  # it tells all processes of a job at once; the job's own heeds it for all
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    global _started
    _started = True
    number = int(os.environ["RANK"])
    said = Path(folder) / "ranks" / f"{number}.json"
    running = Running(Path(folder)) if number == 0 else _Silent(Path(folder))
    try:
        _join(device)
        result = named(work)(parameters, running)
        if number == 0:
            workspace.write_json(said, {"result": result})
        agree(None)  # nobody leaves before the result is there
    except Cancelled:
        workspace.write_json(said, {"cancelled": True})
        _leave()
    except BaseException as error:
        print(log.redact(traceback.format_exc()), file=sys.stderr)
        with contextlib.suppress(OSError):
            workspace.write_json(said, {"error": sentence(error), "lost": _has_lost(error)})
        _leave()


def _has_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone: gloo's is a RuntimeError with words of its own."""
    import torch

    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in str(error).lower() or "onnection" in str(error))
    )


def _leave() -> None:
    """End at once: a process that waits for the others would not see an exception."""
    sys.stderr.flush()
    os._exit(1)


def _join(device: str) -> None:
    """Meet the other processes."""
    import torch
    from accelerate import PartialState

    log.begin()
    if device == "cpu":
        # Processes that each take all cores slow each other many times over.
        torch.set_num_threads(max(1, devices.count("cpu") // size()))
        os.environ["ACCELERATE_USE_CPU"] = "true"
    PartialState(cpu=device == "cpu", timeout=WAIT)


class _Silent:
    """What a process that is not the first reports to: nobody. It is stopped through the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def progress(self, *words: Any, **more: Any) -> None:
        """Nothing."""

    def event(self, **fields: Any) -> None:
        """Nothing."""

    def should_stop(self) -> bool:
        """Never by itself."""
        return False


def carry_out(work: str, parameters: dict[str, Any], running: Running, *, shared: bool) -> dict[str, Any]:
    """The work of a job: in this process, or in as many as its parameters ask for where they can share it."""
    asked = parameters.get("resources")
    count = asked.get("processes", 1) if isinstance(asked, dict) else 1
    if shared and isinstance(count, int) and count > 1:
        chosen = devices.select(str(parameters.get("device", "auto"))).removeprefix("torch:")
        return launch(work, parameters, running.folder, count, chosen)
    return named(work)(parameters, running)

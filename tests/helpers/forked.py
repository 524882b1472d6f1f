"""Jobs of the tests, forked from one process that has the libraries loaded: a job of a tiny model takes longer to load them than to work.

``Forked.start`` stands in for ``processes.start``: the same module runs in a process and a session of its own, with the same arguments,
environment, folder and output. Nothing of the program is loaded before the fork, so a job's process imports all of it by itself.
The tests of jobs themselves (marked ``real_start``), and all that a program other than the test starts, begin as on a user's machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from helpers.places import ROOT
from ks_core.jobs.processes import start as real_start, worker

#: Variables that libraries read when they are loaded: where a test has changed one, the job begins as on a user's machine.
READ_EARLY = ("HF_", "TRANSFORMERS_", "TOKENIZERS_", "OMP_", "MKL_", "TORCH_", "CUDA_", "NUMBA_", "PYTHON", "LD_")
#: What a program says last.
END = "It came to its end."


class Forked:
    """The process that jobs are forked from (``fork_source``): it begins with the first of them, and ends with the tests."""

    def __init__(self) -> None:
        self._usual = early(dict(os.environ) | worker(ROOT, ROOT)[1])
        self._source: subprocess.Popen | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str], output: BinaryIO, cwd: str = "") -> int:
        """Start a job as ``processes.start`` does. Returns its pid."""
        whole = {**os.environ, **environment}
        if list(command[:3]) != [sys.executable, "-P", "-m"] or early(whole) != self._usual:
            return real_start(command, environment, output, cwd)
        return self._ask(list(command[3:]), whole, output, cwd if os.path.isdir(cwd) else str(ROOT))

    def program(self, code: str, *arguments: object, folder: Path) -> Callable[[], str]:
        """Start ``python -c CODE``, with the tests' helpers within its reach. What is returned waits for its end and gives what it
        said; it fails where the code did not come to its end. It is not forked: two programs that train together begin threads of
        their own, and forked ones waited for each other for ever, once in several runs."""
        log = folder / f"program-{os.urandom(4).hex()}.txt"
        whole = {**os.environ, **worker(ROOT, ROOT)[1], "KS_LOTTERY_HOME": os.environ["KS_LOTTERY_HOME"]}
        whole["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'tests'}"
        command = [sys.executable, "-P", "-c", f"{code}\nprint('{END}')", *map(str, arguments)]
        with log.open("wb") as output:
            started = subprocess.Popen(command, env=whole, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

        def finish() -> str:
            started.wait(300)
            said, found, _ = log.read_text().rpartition(f"{END}\n")
            assert found, log.read_text()
            return said

        return finish

    def _ask(self, words: list[str], environment: Mapping[str, str], output: BinaryIO, cwd: str) -> int:
        if self._source is None:
            self._begin(environment)
        asked = {"words": words, "environment": environment, "cwd": cwd}
        socket.send_fds(self._socket, [json.dumps(asked).encode()], [output.fileno()])
        return int(self._socket.recv(64))

    def _begin(self, environment: Mapping[str, str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            program = [sys.executable, "-P", str(Path(__file__).with_name("fork_source.py")), str(other.fileno())]
            self._source = subprocess.Popen(
                program,
                pass_fds=[other.fileno()],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def end(self) -> None:
        """End it. What was forked from it goes on."""
        if self._source is not None:
            self._socket.close()
            self._source.wait(20)
            self._source = None


def early(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries read when they are loaded."""
    return {name: value for name, value in environment.items() if name.startswith(READ_EARLY)}

"""The process that ``forked`` has jobs forked from: ``python -P fork_source.py SOCKET``. It loads libraries, then waits to be asked."""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys

#: What jobs load, and what transformers loads late; nothing of the program.
LIBRARIES = (
    "numpy", "scipy.stats", "pandas", "safetensors.torch", "tokenizers", "sacrebleu", "torch", "torch.distributed.launcher.api",
    "transformers.trainer", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama", "transformers.generation.utils", "peft", "accelerate",
)  # fmt: skip
#: Bytes of the longest request: a command and its environment.
LONGEST = 1 << 18


def collect(*_):
    """Take leave of those that have ended, as ``processes.start`` does: none stays as a zombie."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def become(words, environment, cwd, output):
    """In the new process: be what ``python -P -m WORDS`` would be, with this environment, folder and output."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdout.reconfigure(write_through=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [p for p in environment["PYTHONPATH"].split(os.pathsep) if p not in sys.path]
    sys.argv = words
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def main(place):
    for name in LIBRARIES:
        importlib.import_module(name)
    assert "ks_core" not in sys.modules
    gc.freeze()  # a job does not look through what it shares with the others, which would copy it
    signal.signal(signal.SIGCHLD, collect)
    while True:
        data, files, *_ = socket.recv_fds(place, LONGEST, 1)
        if not data:
            return
        pid = os.fork()
        if not pid:
            place.close()
            return become(**json.loads(data), output=files[0])
        os.close(files[0])
        place.send(str(pid).encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))

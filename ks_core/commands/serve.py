"""The command ``serve``: have the demo ready, then be the app."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from ks_core.commands import demo
from ks_core.errors import SettingsError
from ks_core.places import APP
from ks_core.store import access, hosts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``serve``."""
    parser.add_argument("--port", type=int, default=8501, help="where the app listens (default 8501)")
    parser.add_argument(
        "--host-name", action="append", default=[], metavar="NAME",
        help="a name that the app answers to besides 127.0.0.1 and localhost, such as that of a proxy before it; may be given again",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Start the app in this process's place. Raises ``SettingsError`` when its port is taken, or for a setting that is none."""
    if not 1 <= options.port <= 65535:
        raise SettingsError(f"The port is {options.port}. Expected 1 to 65535.")
    environment = _environment(options.host_name)
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just left is free
        try:
            door.bind(("127.0.0.1", options.port))
        except OSError as error:
            raise SettingsError(
                f"Port {options.port} cannot be had ({error.strerror}). Perhaps the app runs there already: open "
                f"http://127.0.0.1:{options.port}. Otherwise choose another: make app PORT={options.port % 65535 + 1}"
            ) from None
    print("Preparing the demo model (20 to 40 s the first time, nothing after that) ...", flush=True)
    os.environ.pop(access.READ_ONLY, None)  # it binds visitors: whoever runs the server has the demo made ready
    demo.prepare()
    print(f"Starting the app. Open http://127.0.0.1:{options.port} (stop it with Ctrl-C).", flush=True)
    os.chdir(APP)
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(options.port)]
    os.execve(sys.executable, command, environment)


def _environment(names: list[str]) -> dict[str, str]:
    """What the app is started with: this process's environment, with names added. Looks at the settings that bind visitors
    now, so that a slip in one is a line here and not a server that refuses everybody."""
    for name in names:
        hosts.checked(name)
    hosts.added(), hosts.frames(), access.roots(), access.read_only()
    return {**os.environ, hosts.HOSTS: " ".join([os.environ.get(hosts.HOSTS, ""), *names]).strip()}

"""The command ``serve``: have the demo ready, then be the app."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from ks_core.commands import demo
from ks_core.errors import SettingsError
from ks_core.places import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``serve``."""
    parser.add_argument("--port", type=int, default=8501, help="where the app listens (default 8501)")


def run(options: argparse.Namespace) -> int:
    """Start the app in this process's place. Raises ``SettingsError`` when its port is taken."""
    if not 1 <= options.port <= 65535:
        raise SettingsError(f"The port is {options.port}. Expected 1 to 65535.")
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
    demo.prepare()
    print(f"Starting the app. Open http://127.0.0.1:{options.port} (stop it with Ctrl-C).", flush=True)
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(options.port)])

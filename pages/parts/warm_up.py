"""A visitor who is nobody: after a server's first answer it opens the other pages, one after the other.

What a page loads, reads and draws is loaded, read and drawn by its first visitor, who waits for it. After nobody's visit it is there for
everybody: libraries, the tokenizer, what is shipped with the demo, and the figures of the pair that was looked at first. Nobody is a session
like any other, and comes by the same door (an ASGI application); a page of its own is asked for when no visitor's is being made.
``KS_LOTTERY_WARM_UP=0`` leaves it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Scope
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from ks_core.jobs import turns

log = logging.getLogger("ks_core.warm_up")

SETTING = "KS_LOTTERY_WARM_UP"
#: Seconds for which no visitor's page may have been at work before one is opened, and between two looks whether it is so.
QUIET, LOOK = 0.5, 0.1
#: Seconds that a page may take. Then nobody goes home.
PATIENCE = 600.0


@dataclass(frozen=True)
class Answer:
    """The first answer of a server: the names of all pages, without that which was shown, and the pair as a link names it."""

    pages: Sequence[str]
    pair: dict[str, str]


_first: Answer | None = None


def answered(pages: Sequence[str], pair: dict[str, str]) -> None:
    """A page was shown. The first of a server says which ``pages`` are left, and of which ``pair``."""
    global _first
    _first = _first or Answer(pages, pair)


async def after_first_answer(app: ASGIApp, base: str) -> None:
    """Wait for a first answer of ``app``, whose pages lie under the path ``base``, and go round then. Raises nothing."""
    if os.environ.get(SETTING, "").strip().lower() in ("0", "no", "false", "off"):
        return
    while _first is None:
        await asyncio.sleep(QUIET)
    with contextlib.suppress(Exception):  # it is nobody's loss
        opened = await go_round(app, base, _first)
        log.debug("opened beforehand: %s", ", ".join(opened) or "no page")


async def go_round(app: ASGIApp, base: str, answer: Answer) -> list[str]:
    """Open all pages of an answer; those that were shown. It ends where one is not shown in time, and where the server ends it."""
    asked: asyncio.Queue[Message] = asyncio.Queue()
    shown: asyncio.Queue[bool] = asyncio.Queue()
    asked.put_nowait({"type": "websocket.connect"})

    async def send(message: Message) -> None:
        if message["type"] == "websocket.close":
            shown.put_nowait(False)
        elif data := message.get("bytes"):
            said = ForwardMsg.FromString(data)
            if (
                said.WhichOneof("type") == "script_finished"
                and said.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
            ):
                shown.put_nowait(True)

    visit = asyncio.ensure_future(app(_scope(base), asked.get, send))
    visit.add_done_callback(lambda _: shown.put_nowait(False))
    opened = []
    try:
        for page in answer.pages:
            await _quiet()
            asked.put_nowait({"type": "websocket.receive", "bytes": _open(page, answer.pair)})
            if not await asyncio.wait_for(shown.get(), PATIENCE):
                break
            opened.append(page)
    except TimeoutError:
        pass
    finally:
        asked.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await visit
    return opened


async def _quiet() -> None:
    """Wait until for a while no page was at work."""
    since = 0.0
    while since < QUIET:
        await asyncio.sleep(LOOK)
        since = 0.0 if turns.taken() else since + LOOK


def _open(page: str, pair: dict[str, str]) -> bytes:
    """What a browser sends to have a page."""
    asked = BackMsg()
    asked.rerun_script.page_name = page
    asked.rerun_script.query_string = urlencode(pair)
    return asked.SerializeToString()


def _scope(base: str) -> Scope:
    """A WebSocket from this machine."""
    path = f"{base}/_stcore/stream"
    return {
        "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "ws", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0), "subprotocols": ["streamlit"], "state": {}, "extensions": {},
    }  # fmt: skip

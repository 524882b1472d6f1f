"""Many visitors at once, each by its WebSocket and none in a browser; and what the server takes meanwhile."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect


@dataclass
class Opened:
    """A page that was opened: seconds from asking to the end of its script, bytes that were sent for it, figures and tables among
    them, what stood in red boxes, and errors that nobody expected."""

    seconds: float
    bytes: int = 0
    figures: int = 0
    tables: int = 0
    errors: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)


def arrive(address):
    """A new session of the server at this address: an asynchronous context that gives its socket."""
    place = address.replace("http", "ws") + "/_stcore/stream"
    return connect(place, subprotocols=["streamlit"], origin=address, max_size=None)


async def open_page(socket, page, query, patience=120):
    """Open a page by its name and query, and read all that is sent until its script is over."""
    asked = BackMsg()
    asked.rerun_script.query_string = urlencode(query)
    asked.rerun_script.page_name = page
    began = time.monotonic()
    await socket.send(asked.SerializeToString())
    found = Opened(0.0)
    while True:
        received = await asyncio.wait_for(socket.recv(), patience)
        found.bytes += len(received)
        message = ForwardMsg.FromString(received)
        element = message.delta.new_element
        found.figures += element.HasField("plotly_chart")
        found.tables += element.HasField("dataframe")
        if element.HasField("exception"):
            found.exceptions.append(element.exception.message[:300])
        if element.HasField("alert") and element.alert.format == element.alert.ERROR:
            found.errors.append(element.alert.body[:300])
        if message.WhichOneof("type") == "script_finished":
            if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                found.exceptions.append("compile error")
            elif message.script_finished != ForwardMsg.FINISHED_SUCCESSFULLY:
                continue
            found.seconds = time.monotonic() - began
            return found


def server_process(address):
    """The process that listens at an address."""
    port = int(address.rpartition(":")[2])
    return next(
        psutil.Process(c.pid) for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid
    )  # fmt: skip


def family(process):
    """A process and all that it started."""
    return [process, *process.children(recursive=True)]


def resident(process):
    """What a server and all that it started have in memory, in megabytes: files that are mapped are counted, for each of them."""
    return _sum(process, lambda one: one.memory_info().rss / 1e6)


def own_share(process):
    """The same with what several share divided among them (PSS). The system walks through all pages for it: not too often."""
    return _sum(process, lambda one: one.memory_full_info().pss / 1e6)


def processor_seconds(process):
    """Seconds that a server and what it started, as far as that still runs, have computed."""
    return _sum(process, lambda one: sum(one.cpu_times()[:2]))


def _sum(process, of):
    whole = 0.0
    for one in family(process):
        with contextlib.suppress(psutil.Error):
            whole += of(one)
    return whole

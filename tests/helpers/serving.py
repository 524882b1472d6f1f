"""The app on a port as visitors find it, and a visitor who talks to it without a browser."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from helpers.places import APP, ROOT

STREAMLIT = ("-m", "streamlit", "run", APP, "--server.port")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def serving(log, command=STREAMLIT, options=(), **environment):
    """Start the app; gives its address when it answers, and ends it afterwards. What it says is written to ``log``."""
    port = free_port()
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, *command, str(port), *options], cwd=ROOT, stdout=said, stderr=said, env={**os.environ, **environment},
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                assert process.poll() is None, log.read_text()
                try:
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait(20)


class Visitor:
    """A session of the app, by its WebSocket. ``seen`` are the elements of the page that was opened last, in their order."""

    def __init__(self, address):
        self.place = connect(
            address.replace("http", "ws") + "/_stcore/stream", subprotocols=["streamlit"], origin=address, max_size=None
        )
        self.seen, self.session = [], ""

    def __enter__(self):
        self.socket = self.place.__enter__()
        return self

    def __exit__(self, *error):
        self.place.__exit__(*error)

    def open(self, page, query=None, states=()):
        """Open a page, with widgets in these states: (id, field of ``WidgetState``, value). Waits until its script is over."""
        asked = BackMsg()
        asked.rerun_script.query_string = urlencode(query or {}, doseq=True)
        asked.rerun_script.page_name = page
        for name, field, value in states:
            state = asked.rerun_script.widget_states.widgets.add(id=name)
            setattr(state, field, value)
        self.seen = []
        self.socket.send(asked.SerializeToString())
        while True:
            message = self.read()
            if message.WhichOneof("type") == "new_session":
                self.session = message.new_session.initialize.session_id
            if message.WhichOneof("type") == "delta":
                self.seen += [
                    message.delta.new_element,
                    *message.delta.new_transient.elements,
                ]  # a spinner is of the latter
            if message.WhichOneof("type") == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return self.seen
                assert message.script_finished != ForwardMsg.FINISHED_WITH_COMPILE_ERROR, page

    def ask(self, **fields):
        """Send a message of another kind, given as fields of ``BackMsg``."""
        self.socket.send(BackMsg(**fields).SerializeToString())

    def operate(self, name, **fields):
        """Have the server do one of Streamlit's own operations, such as making a file that is to be downloaded; its answer."""
        self.ask(backend_operation_request={"request_id": "1", "session_id": self.session, name: fields})
        while (answer := self.read()).WhichOneof("type") != "backend_operation_response":
            pass
        return answer.backend_operation_response

    def read(self):
        return ForwardMsg.FromString(self.socket.recv(120))

    def widgets(self, *kinds):
        """The widgets of these kinds (fields of ``Element``) on the page."""
        return [getattr(e, e.WhichOneof("type")) for e in self.seen if e.WhichOneof("type") in kinds]

    def errors(self):
        """What stands in red boxes."""
        return [e.alert.body for e in self.seen if e.HasField("alert") and e.alert.format == e.alert.ERROR] + [
            e.exception.message for e in self.seen if e.HasField("exception")
        ]

"""Who may talk to the server, and about what: asked with raw requests, as no browser would, and by pages of elsewhere in a browser."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from helpers.browsing import ARGUMENTS, CHROMIUM, MARKS, settle
from helpers.places import APP, ROOT
from helpers.serving import STREAMLIT, Visitor, free_port, serving
from ks_core.commands.program import main
from ks_core.errors import SettingsError
from ks_core.store import hosts

#: Own names as a browser may write them; a tunnel has a port of its own. Then those that were added, by both ways.
NAMES = ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "localhost.:{port}", "[::1]:{port}", "[0:0::1]:{port}",
         "127.0.0.1", "localhost", "[::1]", "localhost:9000",
         "lottery.example.org", "Lottery.Example.ORG.", "lottery.example.org:443", "second.example.org:8443",
         "third.example.org"]  # fmt: skip
OTHERS = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example",
          "lottery.example.org.evil.example", "evil-lottery.example.org", "example.org", "evil.example@127.0.0.1", "127.0.0.1@evil.example",
          "127.0.0.1:{port}:80", "127.0.0.1:99999", "127.0.0.1:x", "0.0.0.0:{port}", "[::]:{port}", "192.168.0.1", "127.0.0.2", "localhost..",
          "localhost/", "127.0.0.1,evil.example", "::1", "[::1", "*", ""]  # fmt: skip

#: Origin, and the Host that was asked.
PAGES = [
    ("http://127.0.0.1:{port}", "127.0.0.1:{port}"),
    ("http://LOCALHOST:{port}", "localhost:{port}"),
    ("http://[::1]:{port}", "[::1]:{port}"),
    ("http://localhost:9000", "localhost:9000"),  # an ssh tunnel from port 9000
    ("https://lottery.example.org", "lottery.example.org"),
    ("http://lottery.example.org", "lottery.example.org:80"),
    ("https://second.example.org:8443", "second.example.org:8443"),
    ("https://lottery.example.org", "127.0.0.1:{port}"),  # a proxy that does not pass Host on
    ("https://second.example.org:8443", "127.0.0.1:{port}"),
    (None, "127.0.0.1:{port}"),  # no browser, so no page
]
FOREIGN = [
    ("http://evil.example", "127.0.0.1:{port}"),
    ("http://evil.example:{port}", "evil.example:{port}"),
    ("http://evil.example:{port}", "127.0.0.1:{port}"),
    ("http://127.0.0.1:8000", "127.0.0.1:{port}"),
    ("http://localhost", "localhost:{port}"),
    ("https://localhost", "localhost:{port}"),
    ("http://localhost:{port}.evil.example", "localhost:{port}"),
    ("http://lottery.example.org:8000", "127.0.0.1:{port}"),
    ("https://lottery.example.org:8443", "lottery.example.org"),
    ("null", "127.0.0.1:{port}"),
    ("file://", "127.0.0.1:{port}"),
    ("127.0.0.1:{port}", "127.0.0.1:{port}"),
    ("ftp://127.0.0.1:{port}", "127.0.0.1:{port}"),
    ("", "127.0.0.1:{port}"),
]


@pytest.fixture(scope="module")
def workspace_of_all(tmp_path_factory, demo_models):
    folder = tmp_path_factory.mktemp("served")
    (folder / "models").symlink_to(demo_models)
    return folder


@pytest.fixture(scope="module")
def address(workspace_of_all):
    """The app as ``serve`` starts it, with three names added: two by the option, one by the variable."""
    log = workspace_of_all / "server.log"
    names = ("--host-name", "lottery.example.org", "--host-name", "second.example.org:8443")
    settings = {"KS_LOTTERY_HOME": str(workspace_of_all), "KS_LOTTERY_HOSTS": "third.example.org"}
    with serving(log, ("-m", "ks_core", "serve", "--port"), names, **settings) as found:
        yield found
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def port(address):
    return int(address.rpartition(":")[2])


def ask(port, line, *headers):
    """One request, as it stands there, and no body: status, headers by lower-case name, and the body of the answer."""
    with socket.create_connection(("127.0.0.1", port), 20) as there:
        there.sendall("\r\n".join([f"{line} HTTP/1.1", *headers, "", ""]).encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer and (part := there.recv(65536)):
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
        while len(body) < int(found.get("content-length", 0)) and (part := there.recv(65536)):
            body += part
    return int(first.split()[1]), found, body.decode()


def upgrade(port, host, origin):
    """The status that the WebSocket's upgrade is answered with, and the words."""
    headers = [f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
               "Sec-WebSocket-Key: c29tZXRoaW5nIHJhbmRvbQ==", "Sec-WebSocket-Protocol: streamlit"]  # fmt: skip
    status, _, body = ask(port, "GET /_stcore/stream", *headers, *([] if origin is None else [f"Origin: {origin}"]))
    return status, body


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_it_answers_to(port, name):
    host = name.format(port=port)
    assert ask(port, "GET /_stcore/health", f"Host: {host}")[::2] == (200, "ok")
    assert ask(port, "GET /ks_test?alpha=0.01", f"Host: {host}")[0] == 200
    assert upgrade(port, host, None)[0] == 101


@pytest.mark.parametrize("name", OTHERS)
def test_another_name(port, name):
    host = name.format(port=port)
    for path in ("/", "/_stcore/health", "/ks_test", "/media/x", "/static/js/x.js"):
        status, headers, words = ask(port, f"GET {path}", f"Host: {host}")
        assert status in (400, 421), path  # 400: the HTTP underneath does not take it for a host
        assert "set-cookie" not in headers
    status, words = upgrade(port, host, None)
    assert status in (400, 421) and (status == 400 or "does not answer to the name" in words)


def test_a_request_with_two_names_or_none(port):
    good, bad = f"Host: 127.0.0.1:{port}", "Host: evil.example"
    for headers in ([good, bad], [bad, good], [good, good], []):
        assert ask(port, "GET /_stcore/health", *headers)[0] in (400, 421)
    assert ask(port, "GET /_stcore/health", good, "X-Forwarded-Host: evil.example")[0] == 200
    assert ask(port, "GET /_stcore/health", bad, f"X-Forwarded-Host: 127.0.0.1:{port}")[0] == 421


@pytest.mark.parametrize(("origin", "host"), PAGES)
def test_a_page_that_may_talk_to_it(port, origin, host):
    origin, host = origin and origin.format(port=port), host.format(port=port)
    assert upgrade(port, host, origin)[0] == 101


@pytest.mark.parametrize(("origin", "host"), FOREIGN)
def test_a_page_that_may_not(port, origin, host):
    origin, host = origin.format(port=port), host.format(port=port)
    status, words = upgrade(port, host, origin)
    assert status == (421 if "evil" in host else 403) and "Traceback" not in words
    assert ask(port, "GET /_stcore/host-config", f"Host: {host}", f"Origin: {origin}")[0] == status


def test_two_origins(port):
    headers = [f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}", "Origin: http://evil.example"]
    assert ask(port, "GET /_stcore/health", *headers)[0] == 403


def test_the_app_is_driven_from_its_own_page_alone(address, port):
    with Visitor(address) as visitor:
        assert any(e.heading.body == "Glossary" for e in visitor.open("glossary"))
        labels = [w.label for w in visitor.widgets("text_input")]
        assert "Base checkpoint" in labels, "a server's first visit is by way of the router, whatever page it is of"
    place = f"ws://127.0.0.1:{port}/_stcore/stream"
    with pytest.raises(InvalidStatus) as refused:
        connect(place, origin="http://127.0.0.1:8000", subprotocols=["streamlit"])
    assert refused.value.response.status_code == 403
    # Behind a proxy that passes no Host on, Streamlit's own check would have refused this one.
    with connect(place, origin="https://lottery.example.org", subprotocols=["streamlit"], max_size=None) as there:
        asked = BackMsg()
        asked.rerun_script.page_name = "glossary"
        there.send(asked.SerializeToString())
        assert ForwardMsg.FromString(there.recv(60)).WhichOneof("type")


def test_refused_pages_are_in_the_log_once_each(port, workspace_of_all):
    for _ in range(30):
        upgrade(port, f"127.0.0.1:{port}", "http://once.example")
    told = (workspace_of_all / "logs" / "ks-lottery.log").read_text()
    assert told.count("once.example") <= 1
    for number in range(60):
        upgrade(port, f"127.0.0.1:{port}", f"http://name{number}.example")
    assert (workspace_of_all / "logs" / "ks-lottery.log").read_text().count("Refused") <= 20


@pytest.mark.parametrize("path", ["/", "/ks_test", "/_stcore/health", "/static/nothing.js", "/nothing/here"])
def test_what_a_browser_is_told(port, path):
    for host in (f"127.0.0.1:{port}", "evil.example"):
        headers = ask(port, f"GET {path}", f"Host: {host}")[1]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin" and "access-control-allow-origin" not in headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["frame-ancestors"] == "'none'" and policy["default-src"] == "'self'"
        assert policy["img-src"] == "'self' data: blob:" and "unsafe-inline" not in policy["script-src"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_nothing_is_uploaded(address, port, method):
    """Refused before a byte of the body is read, for a session that is there and has its token."""
    with Visitor(address) as visitor:
        visitor.open("glossary")
        cookie = ask(port, "GET /_stcore/health", f"Host: 127.0.0.1:{port}")[1]["set-cookie"].partition(";")[0]
        headers = [f"Host: 127.0.0.1:{port}", f"Cookie: {cookie}", f"X-Xsrftoken: {cookie.partition('=')[2]}",
                   "Content-Type: multipart/form-data; boundary=x"]  # fmt: skip
        for size in ("Content-Length: 1000", "Content-Length: 209715200", "Transfer-Encoding: chunked"):
            for path in (f"/_stcore/upload_file/{visitor.session}/0", "/_stcore/agent/mcp", "/_stcore/health", "/"):
                status, _, words = ask(port, f"{method} {path}", *headers, size)
                assert status == 405 and "takes no uploads" in words, (path, size)


@pytest.mark.parametrize(
    "path",
    ["/_stcore/metrics", "/_stcore/agent/openapi.json", "/_stcore/script-health-check", "/_stcore/upload_file/a/b", "/component/x/y",
     "/_stcore/bidi-components/x", "/auth/login", "/app/static/x", "/a/b", "//evil.example", "/../../etc/passwd",
     "/static/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/app.py", "/ks_test/_stcore/health"],
)  # fmt: skip
def test_what_pages_do_not_need_is_not_there(port, path):
    status, _, words = ask(port, f"GET {path}", f"Host: 127.0.0.1:{port}")
    assert status in (400, 404) and "root:" not in words and "import" not in words


def test_an_address_with_a_slash_too_many(port):
    status, headers, _ = ask(port, "GET /ks_test/?alpha=0.01", f"Host: 127.0.0.1:{port}")
    assert (status, headers["location"]) == (301, "/ks_test?alpha=0.01")


def test_streamlit_run_stands_behind_the_same_gate(workspace_of_all, tmp_path):
    """Hosting services start the app by this command."""
    settings = {"KS_LOTTERY_HOME": str(workspace_of_all), "KS_LOTTERY_HOSTS": "", "KS_LOTTERY_READ_ONLY": "1"}
    with serving(tmp_path / "log.txt", STREAMLIT, **settings) as found:
        port = int(found.rpartition(":")[2])
        assert ask(port, "GET /_stcore/health", f"Host: 127.0.0.1:{port}")[0] == 200
        assert ask(port, "GET /_stcore/health", "Host: lottery.example.org")[0] == 421
        assert upgrade(port, f"127.0.0.1:{port}", "http://127.0.0.1:8000")[0] == 403
        assert ask(port, "PUT /_stcore/upload_file/a/b", f"Host: 127.0.0.1:{port}", "Content-Length: 9")[0] == 405


@pytest.mark.parametrize("name", ["https://lottery.example.org", "lottery.example.org/app", "a b", "*", "*.example.org", "lotterie.ä.org",
                                  "x:0", "x:99999", "[::1"])  # fmt: skip
def test_a_slip_in_a_name(monkeypatch, capsys, name):
    assert main(["serve", "--port", str(free_port()), "--host-name", name]) == 2
    said = capsys.readouterr().err
    assert "is no host name" in said and said.count("\n") == 1


def test_a_slip_in_the_variable(monkeypatch, capsys, workspace_folder):
    monkeypatch.setenv("KS_LOTTERY_HOSTS", "good.example.org, https://lottery.example.org")
    assert main(["serve", "--port", str(free_port())]) == 2 and "is no host name" in capsys.readouterr().err
    command = [sys.executable, "-m", "streamlit", "run", APP, "--server.port", str(free_port())]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ)
    said = found.stdout + found.stderr
    assert (
        found.returncode
        and "KS_LOTTERY_HOSTS: 'https://lottery.example.org' is no host name" in said
        and "Traceback" not in said
    )


HOSTILE_PAGE = """<!doctype html><title>waiting</title><iframe src="http://127.0.0.1:PORT/"></iframe><script>
const there = new WebSocket("ws://127.0.0.1:PORT/_stcore/stream", ["streamlit"])
there.onopen = () => document.title = "open"
there.onclose = () => document.title = "closed"
</script>"""


@pytest.fixture
def elsewhere(tmp_path, port):
    """A page of another program on this machine."""
    (tmp_path / "index.html").write_text(HOSTILE_PAGE.replace("PORT", str(port)))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *rest):
            super().__init__(*rest, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@MARKS[0]
@MARKS[1]
def test_a_page_of_elsewhere_in_a_browser(browser, port, elsewhere):
    page = browser.new_page()
    page.goto(elsewhere)
    page.wait_for_function("document.title != 'waiting'", timeout=30_000)
    assert page.title() == "closed", "its script could not open the WebSocket"
    page.wait_for_function("() => window.frames.length == 1")
    assert page.frames[1].url.startswith("chrome-error://"), "nor could it show the app in a frame"
    page.close()
    # A name of somebody else's that leads to this machine.
    rebound = browser.browser_type.launch(
        executable_path=CHROMIUM, args=[*ARGUMENTS, "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    )
    page = rebound.new_page()
    answer = page.goto(f"http://evil.example:{port}/")
    assert answer.status == 421 and "does not answer to the name 'evil.example" in page.locator("body").inner_text()
    rebound.close()


@pytest.mark.whole
@MARKS[0]
@MARKS[1]
def test_links_to_pages_ask_for_nothing_that_is_not_there(browser, address):
    """Each answer is a good one, nothing is refused by what the browser is told, and charts of many points are drawn."""
    for link in ("", "ks_test?alpha=0.01", "drift_map", "glossary?term=critical"):
        found = []
        page = browser.new_page()
        page.on("response", lambda r, found=found: found.append((r.status, r.url)) if r.status >= 400 else None)
        page.on("console", lambda m, found=found: found.append((m.type, m.text)) if m.type == "error" else None)
        page.goto(f"{address}/{link}")
        settle(page)
        assert not found, json.dumps(found)
        assert page.get_by_text("WebGL is not supported").count() == 0
        page.close()


def test_who_may_show_it_in_a_frame(monkeypatch):
    """None without a word of whoever runs it; those that are named; what is no origin ends the program with a sentence."""
    monkeypatch.delenv("KS_LOTTERY_FRAMES", raising=False)
    assert hosts.frames() == ()
    monkeypatch.setenv("KS_LOTTERY_FRAMES", "https://lottery.example.org, http://localhost:8000")
    assert hosts.frames() == ("https://lottery.example.org", "http://localhost:8000")
    for wrong in (
        "lottery.example.org",
        "https://",
        "*",
        "https://a/b",
        "'none'; script-src *",
        "https://a; script-src",
        "javascript://a",
    ):
        monkeypatch.setenv("KS_LOTTERY_FRAMES", wrong)
        with pytest.raises(SettingsError, match="no origin"):
            hosts.frames()

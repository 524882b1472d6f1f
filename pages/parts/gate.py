"""What stands before the app on the web: which requests are answered, and under which rules a browser shows the answer.

The app is pages and one WebSocket. So requests that only read are answered, for the paths that the pages need, under a name of the
server (``ks_core.store.hosts``); all else is refused with a sentence before any of it is read. ``app.py`` puts this before Streamlit's
own server, however that is started.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from pathlib import Path

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from ks_core.errors import SettingsError
from ks_core.store import hosts
from pages.parts import warm_up

log = logging.getLogger("ks_core.gate")

#: A page's own address: ``/``, ``/ks_test``. Streamlit answers the same for each of them.
_PAGE = re.compile(r"/[\w-]*")
#: What pages fetch besides: the program of the browser, pictures and downloads, and three places of Streamlit's, which also leads
#: from ``/ks_test/`` to ``/ks_test``, and to where it was told to begin (``server.baseUrlPath``).
_NEEDED = re.compile(
    r"/(?:favicon\.png|manifest\.json|static/.+|media/.+|_stcore/(?:health|host-config|stream)|[\w-]+/)"
)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.S)
#: How often a refused page is put into the log: once for each, so that nobody can fill it.
MOST_TOLD = 20


def middleware() -> list[Middleware]:
    """What ``st.App`` puts before its own. Ends the program with a sentence where ``KS_LOTTERY_HOSTS`` has what is no host, or
    ``KS_LOTTERY_FRAMES`` what is no origin."""
    try:
        return [Middleware(Gate, extra=hosts.added(), frames=hosts.frames())]
    except SettingsError as error:
        raise SystemExit(f"{hosts.HOSTS}: {error}") from None


class Gate:
    """An ASGI application before another. ``extra``: what the server answers to besides its own names; ``frames``: the origins whose
    pages may show it in a frame."""

    def __init__(self, app: ASGIApp, extra: frozenset[hosts.Host], frames: tuple[str, ...] = ()) -> None:
        self.app, self.extra = app, extra
        self.base = f"/{(config.get_option('server.baseUrlPath') or '').strip('/')}".rstrip("/")
        self.page = _page(self.base)
        self.headers = _headers(self.page, frames)
        self._told: set[str] = set()
        self._nobody: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(self.base) if scope["path"].startswith(self.base) else "?"
        refusal = self._of_name(Headers(scope=scope)) or self._of_path(scope, path)
        if scope["type"] == "websocket":
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            if self._nobody is None:  # the first visitor: what comes next is made ready once there is an answer
                self._nobody = asyncio.ensure_future(warm_up.after_first_answer(self.app, self.base))
            # It has been judged. Streamlit would ask a service on the net for this machine's address to judge it by.
            kept = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            await self.app({**scope, "headers": kept}, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        own = HTMLResponse(self.page, headers={"Cache-Control": "no-cache"}) if _PAGE.fullmatch(path) else None
        await (refusal or own or self.app)(scope, receive, with_headers)

    def _of_name(self, sent: Headers) -> PlainTextResponse | None:
        """Why the names in a request are not taken; ``None`` when they are."""
        asked, pages = sent.getlist("host"), sent.getlist("origin")
        if len(asked) != 1 or not hosts.answers(asked[0], self.extra):
            return self._refused(
                421,
                f"This server does not answer to the name {_quoted(asked)}. Open it as 127.0.0.1 or localhost, or have whoever runs "
                f"it add the name: serve --host-name NAME, or {hosts.HOSTS}.",
            )
        if pages and (len(pages) > 1 or not hosts.may_talk(pages[0], asked[0], self.extra)):
            return self._refused(
                403,
                f"A page of {_quoted(pages)} may not talk to this server, which was asked as {_quoted(asked)}. Expected a page of the "
                f"server's own. Behind a proxy, add the proxy's name: serve --host-name NAME, or {hosts.HOSTS}.",
            )
        return None

    def _of_path(self, scope: Scope, path: str) -> PlainTextResponse | None:
        """Why there is nothing to be had here; ``None`` where there is."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return _answer(
                405,
                f"{scope['method'][:20]} is not answered: the app takes no uploads. Expected GET.",
                Allow="GET, HEAD",
            )
        if path and not _PAGE.fullmatch(path) and not _NEEDED.fullmatch(path):
            return _answer(404, "There is no such page. The app begins at /.")
        return None

    def _refused(self, status: int, words: str) -> PlainTextResponse:
        if len(self._told) < MOST_TOLD and words not in self._told:
            self._told.add(words)
            log.warning("Refused: %s", words)
        return _answer(status, words)


def _answer(status: int, words: str, **headers: str) -> PlainTextResponse:
    return PlainTextResponse(words + "\n", status, {"Cache-Control": "no-store", "Connection": "close", **headers})


def _quoted(values: list[str]) -> str:
    """What a request named, as a person can read it: a bounded part, in ASCII."""
    return " and ".join(ascii(value[:100]) for value in values[:2]) or "that was not sent"


def _page(base: str) -> str:
    """Streamlit's page, told where its server is.

    It would try the page's address as the server's first (``/ks_test/_stcore/health``), find nothing there, and say so in the
    browser's console, twice for each link that is opened.
    """
    text = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    told = f"<script>window.__streamlit = {{ BACKEND_BASE_URL: window.location.origin + '{base}/' }}</script>\n    "
    return text.replace("<script", told + "<script", 1)


def _headers(page: str, frames: tuple[str, ...] = ()) -> dict[str, str]:
    """What a browser is told with every answer.

    Nothing is loaded from another server, and no other page but those of ``frames`` may show this one in a frame. Streamlit writes its
    styles into the page, and Plotly makes functions out of text, for charts with many points.
    """
    scripts = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _SCRIPT.findall(page)
    )
    policy = {
        "default-src": "'self'",
        "script-src": f"'self' 'unsafe-eval' {scripts}",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": " ".join(frames) or "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        **({} if frames else {"X-Frame-Options": "DENY"}),  # it knows no list
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

"""Under which names a server answers, and which pages may talk to it.

A page of somebody else's can have its own name resolve to 127.0.0.1, and a browser then takes this server for that page's own
(DNS rebinding). What it cannot do is send another name than its own: ``Host`` says under which name a server was asked, and
``Origin`` from which page.

A server answers to 127.0.0.1, localhost and [::1], and to what whoever runs it adds (``KS_LOTTERY_HOSTS``, ``serve --host-name``),
with spaces or commas between:

    lottery.example.org         behind a proxy on port 80 or 443, or on the server's own port
    lottery.example.org:8443    behind a proxy on that port too

A page may talk to it when it comes from the very host and port that were asked. The port that was asked is the browser's word: it
is the server's own, or that of a proxy or tunnel which leads here, and no page can choose another. Behind a proxy that does not pass
``Host`` on, a page under an added name counts too, from ports 80 and 443 and the one that was added.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

from ks_core.errors import SettingsError

HOSTS = "KS_LOTTERY_HOSTS"
#: Pages that may show the app in a frame, such as a hosting service's own; without it none may.
FRAMES = "KS_LOTTERY_FRAMES"
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WRITTEN = re.compile(
    r"(?:\[(?P<six>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True)
class Host:
    """A name in lower case without a trailing dot, or an address without brackets; its port where one is named."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}" if self.port else name


def parse(text: str) -> Host | None:
    """A host as a browser sends it; ``None`` for what is none.

    >>> parse("LOCALHOST.:8501"), parse("[0:0::1]"), parse("me@localhost")
    (Host(name='localhost', port=8501), Host(name='::1', port=None), None)
    """
    found = _WRITTEN.fullmatch(text.lower())
    if found is None:
        return None
    name, port = found["name"], int(found["port"]) if found["port"] else None
    if found["six"]:
        try:
            name = str(ipaddress.IPv6Address(found["six"]))
        except ValueError:
            return None
    return Host(name, port) if port is None or 1 <= port <= 65535 else None


def added() -> frozenset[Host]:
    """The hosts that ``KS_LOTTERY_HOSTS`` adds. Raises ``SettingsError`` for one that is none."""
    return frozenset(checked(word) for word in re.split(r"[\s,]+", os.environ.get(HOSTS, "")) if word)


def checked(text: str) -> Host:
    """A host that whoever runs the server adds. Raises ``SettingsError`` for what is none, such as a whole address."""
    found = parse(text)
    if found is None:
        raise SettingsError(
            f"{text[:200]!r} is no host name. Expected a name such as lottery.example.org, with a port where it is not 80 or 443, "
            "without https:// and without a path; a name of other letters as browsers send it, xn--..."
        )
    return found


def frames() -> tuple[str, ...]:
    """The origins that ``KS_LOTTERY_FRAMES`` names, as a browser is told them. Raises ``SettingsError`` for one that is none."""
    words = [word for word in re.split(r"[\s,]+", os.environ.get(FRAMES, "")) if word]
    for word in words:
        scheme, mark, rest = word.partition("://")
        if scheme not in _DEFAULT_PORTS or not mark or parse(rest) is None:
            raise SettingsError(
                f"{FRAMES} has {word[:200]!r}, which is no origin of a page. Expected one such as https://lottery.example.org, without a path."
            )
    return tuple(words)


def answers(host: str, extra: frozenset[Host]) -> bool:
    """Whether a server answers to a ``Host`` header. Its port is not looked at: a tunnel may have any."""
    found = parse(host)
    return found is not None and (found.name in LOCAL or any(found.name == other.name for other in extra))


def may_talk(origin: str, host: str, extra: frozenset[Host]) -> bool:
    """Whether a page of this ``Origin`` may talk to the server that was asked as ``host``, a header that it answers to.

    >>> may_talk("http://localhost:8501", "localhost:8501", frozenset())
    True
    >>> may_talk("http://localhost:8000", "localhost:8501", frozenset())
    False
    """
    scheme, _, rest = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme.lower())
    page, asked = parse(rest), parse(host)
    if default is None or page is None or asked is None:
        return False
    port = page.port or default
    if (page.name, port) == (asked.name, asked.port or default):
        return True
    return any(page.name == o.name and port in (*_DEFAULT_PORTS.values(), o.port) for o in extra)

"""The log that a maintainer reads: ``logs/`` in the workspace, in files that do not grow without bound.

``KS_LOTTERY_LOG`` sets the level (DEBUG, INFO, WARNING, ERROR; default INFO). What looks like a secret is
struck out on its way into the file: hub tokens, passwords in addresses, values of variables that hold them.
A job's own output is in its folder (``log.txt``).
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from logging.handlers import RotatingFileHandler
from pathlib import Path

from ks_core.store import workspace

NAME = "ks_core"
BYTES, FILES = 1_000_000, 5
STRUCK = "[secret]"
_PATTERNS = (
    re.compile(r"hf_[A-Za-z0-9]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=[?&]token=)[^&\s]+"),
)
#: Variables whose value is a secret wherever it turns up.
_HOLDERS = re.compile(r"(?i)(token|secret|password|passwd|api_?key)$")

logger = logging.getLogger(NAME)


def redact(text: str) -> str:
    """The text without what looks like a secret.

    >>> redact("Authorization: Bearer hf_abcdefghijkl, https://me:pw123@host/x")
    'Authorization: Bearer [secret], https://[secret]@host/x'
    """
    for name, value in os.environ.items():
        if len(value) >= 6 and _HOLDERS.search(name):
            text = text.replace(value, STRUCK)
    for pattern in _PATTERNS:
        text = pattern.sub(STRUCK, text)
    return text


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def path() -> Path:
    """The newest file of the log."""
    return workspace.home() / "logs" / "ks-lottery.log"


def begin(also: tuple[str, ...] = ()) -> None:
    """Write this process's log into the workspace; a second call changes nothing.

    ``also`` names other packages' loggers whose warnings and errors are wanted. A workspace that cannot be
    written to leaves the program without a log, and running.
    """
    for there in [h for h in logger.handlers if isinstance(h, RotatingFileHandler)]:
        if there.baseFilename == os.path.abspath(path()):
            return
        logger.removeHandler(there)  # the workspace was changed meanwhile
    level = os.environ.get("KS_LOTTERY_LOG", "INFO").upper()
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path(), maxBytes=BYTES, backupCount=FILES - 1, encoding="utf-8", delay=True)
    except OSError:
        return
    handler.setFormatter(_Redacted("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    logger.setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    logger.addHandler(handler)
    logger.propagate = False
    for name in also:
        other = logging.getLogger(name)
        for old in [h for h in other.handlers if isinstance(h, _Passing)]:
            other.removeHandler(old)
        other.addHandler(_Passing(handler))


def unexpected(error: BaseException, where: str) -> str:
    """Put an error that nobody expected into the log, whole; returns the sentence for a person."""
    number = secrets.token_hex(3)
    logger.error("%s: %s [%s]", where, error, number, exc_info=error)
    kept = (
        f"the log has the details under {number} (python -m ks_core doctor says where it is)"
        if logger.handlers
        else "there is no log to look into"
    )
    return f"Something went wrong that this program did not expect ({type(error).__name__}); {kept}."


class _Passing(logging.Handler):
    """Into the same file, for warnings and worse alone."""

    def __init__(self, to: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self.to = to

    def emit(self, record: logging.LogRecord) -> None:
        self.to.handle(record)

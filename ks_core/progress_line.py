"""A line of progress on a terminal."""

from __future__ import annotations

import sys
import time


class Line:
    """A line of progress on standard error, with rate and time left; silent where nobody watches."""

    def __init__(self, unit: str) -> None:
        self.unit, self.started, self.shown = unit, time.monotonic(), 0.0
        self.stage = ""

    def __call__(self, done: float, total: float, message: str = "") -> None:
        now = time.monotonic()
        if message != self.stage:
            self.stage, self.started = message, now
        if not sys.stderr.isatty() or (now - self.shown < 0.2 and done < total):
            return
        self.shown = now
        spent = now - self.started
        rate = done / spent if spent > 0 else 0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        amount = f"{100 * done / total:3.0f}%" if total else ""
        speed = f", {rate:,.0f} {self.unit}/s" if self.unit and rate >= 1 else ""
        end = "\n" if done >= total else ""
        print(f"\r\033[K{message or 'working'}: {amount}{speed}{left}", end=end, file=sys.stderr, flush=True)

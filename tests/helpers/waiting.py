"""Waiting for something that another process does."""

import time


def until(condition, seconds=120):
    """Wait until ``condition()`` is true; fail when it is not within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")

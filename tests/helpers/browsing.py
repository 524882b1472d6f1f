"""What the tests in a real browser share: which browser, how it is started, and when a page is drawn.

What a page shows is asserted with Playwright's ``expect``, which looks again until it is so: a widget may be drawn
empty and be given the value of its link a moment later, which on a busy machine is seconds.
"""

import os
import shutil

import pytest
from playwright.sync_api import expect

expect.set_options(timeout=30_000)
CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]

#: For a whole test file: in the browser, or left out with the reason.
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("KS_LOTTERY_NEEDS_BROWSER"),
        reason="no Chromium on this machine: the browser tests are left out (apt-get install chromium)",
    ),
]


def settle(page):
    """Wait until the page is drawn: nothing runs, no placeholder is left."""
    page.wait_for_selector("h1", timeout=60_000)
    page.wait_for_function(
        "() => document.querySelector('[data-test-script-state=notRunning]') &&"
        " !document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner], [data-stale=true]')",
        timeout=60_000,
    )
    page.wait_for_timeout(600)

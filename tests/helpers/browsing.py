"""What the tests in a real browser share: which browser, how it is started, when a page is drawn, and whether everybody can read it.

What a page shows is asserted with Playwright's ``expect``, which looks again until it is so: a widget may be drawn
empty and be given the value of its link a moment later, which on a busy machine is seconds.
"""

import os
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

expect.set_options(timeout=30_000)
#: Milliseconds for a page to be drawn: a busy machine is no fault of what is tested.
PATIENCE = 180_000
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
#: Nothing runs and no placeholder is left, and so it was at each look of the last half second.
DRAWN = """() => {
  const quiet = document.querySelector('[data-test-script-state=notRunning]')
    && !document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner], [data-stale=true]')
  window.quietSince = quiet ? window.quietSince || performance.now() : 0
  return quiet && performance.now() - window.quietSince > 500
}"""


def settle(page):
    """Wait until the page is drawn."""
    page.wait_for_selector("h1", timeout=PATIENCE)
    page.evaluate("() => { window.quietSince = 0 }")
    page.wait_for_function(DRAWN, timeout=PATIENCE, polling=100)


def violations(page):
    """What axe finds serious or worse on a page."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']} at {v['nodes'][0]['target']}" for v in found if v["impact"] in ("serious", "critical")]

"""How fast the app feels: seconds in a browser, from the click to the page that stands. ``python tests/soak/felt_speed.py``

It starts a server of its own on the prepared demo. Cold: the first page of a fresh server. Warm: pages that were
opened before, changed by clicking in the sidebar, the median of several rounds. A page stands when its title is there
and Streamlit has finished its run.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from playwright.sync_api import Page, sync_playwright

from helpers.browsing import ARGUMENTS, CHROMIUM
from helpers.places import ROOT
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

PAGES = (
    "Overview", "Learn", "Glossary", "Checkpoints", "KS test", "Winning tokens", "Layers", "Drift map", "Compare", "Fine-tune", "Audit",
    "Certificate",
)  # fmt: skip
STANDS = """([title]) => document.querySelector('h1')?.innerText.trim() == title
    && document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') == 'notRunning'"""


def stands(page: Page, title: str) -> None:
    """Wait until the page of this title has been drawn."""
    page.wait_for_function(STANDS, arg=[title], timeout=120_000, polling=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    demo.prepare_base()
    Study(demo.BASE, demo.TUNED).scan()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with sync_playwright() as playwright, open(os.devnull, "w") as nowhere:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto("about:blank")
        server = subprocess.Popen(command, cwd=ROOT, stdout=nowhere, stderr=nowhere)
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.05)
            began = time.monotonic()
            page.goto(address)
            stands(page, "Which tokens did fine-tuning move?")
            print(f"{'first page of a cold server':<34}{time.monotonic() - began:6.2f} s")
            titles = {"Overview": "Which tokens did fine-tuning move?", "Learn": "Learn the method"}
            times: dict[str, list[float]] = {name: [] for name in PAGES}
            for _ in range(rounds + 1):  # the first round fills the caches
                for name in PAGES:
                    began = time.monotonic()
                    page.locator("[data-testid=stSidebar] a", has_text=name).first.click()
                    stands(page, titles.get(name, name))
                    times[name].append(time.monotonic() - began)
            for name in PAGES:
                first, *later = times[name]
                print(
                    f"{name:<34}{first:6.2f} s the first time, {statistics.median(later):6.2f} s after that (median of {rounds})"
                )
            began = time.monotonic()
            page.locator("[data-testid=stSidebar] a", has_text="KS test").first.click()
            stands(page, "KS test")
            began = time.monotonic()
            page.get_by_label("alpha", exact=True).fill("0.01")
            page.keyboard.press("Enter")
            page.get_by_text("p < 0.01").first.wait_for(timeout=60_000)
            print(f"{'another alpha on KS test':<34}{time.monotonic() - began:6.2f} s")
        finally:
            server.terminate()
            server.wait(20)
            browser.close()


if __name__ == "__main__":
    main()

"""The first visit in a real browser: a fresh workspace, one click a page, and its main figure is there."""

import time

import pytest

from helpers.browsing import MARKS, settle
from helpers.page_names import PAGES, WITHOUT_FIGURES

pytestmark = [*MARKS, pytest.mark.whole]
#: Seconds from the click to the figure: it is three where nobody else works on the machine.
PATIENCE = 30


def test_every_page_shows_its_figure_after_one_click(evidence, server, browser, capsys):
    """Each page is opened for the first time by its entry in the sidebar; how long it takes is printed."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.goto(server)
    settle(page)
    told = []
    for name in PAGES[1:]:
        started = time.perf_counter()
        page.locator(f"[data-testid=stSidebar] a[href$='{name}']").first.click()
        page.wait_for_url(f"**/{name}*")
        shown = "h1" if name in WITHOUT_FIGURES else "[data-testid=stPlotlyChart] .main-svg"
        page.wait_for_function(
            "([shown, name]) => location.pathname.endsWith(name) && document.querySelector('[data-testid=stMain] ' + shown)"
            " && !document.querySelector('[data-stale=true]')",
            arg=[shown, name], timeout=PATIENCE * 1000,
        )  # fmt: skip
        told.append(f"{name} {time.perf_counter() - started:.1f} s")
        settle(page)
        assert page.locator("[data-testid=stException]").count() == 0, name
    with capsys.disabled():
        print("\nfirst visits, click to figure: " + ", ".join(told))

"""Every page on the demo in a real browser, light and dark: nothing broken, nothing that axe finds serious, links that
restore what they were copied from. With ``--keep-screenshots`` a picture of each is kept in ``.screenshots``."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import MARKS, settle
from page_names import PAGES

from ks_core import demo, jobs
from ks_core.study import Study

pytestmark = MARKS
PICTURES = Path(__file__).parent.parent / ".screenshots"
VIEWS = ["", *PAGES[1:], "learn?step=Methods", "learn?step=Questions"]


def opened(browser, address, **options):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}, **options).new_page()
    page.goto(address)
    page.wait_for_selector("h1", timeout=60_000)
    settle(page)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page(server, browser, keep, scheme):
    found = []
    for name in VIEWS:
        page = opened(browser, f"{server}/{name}", color_scheme=scheme)
        assert page.locator("[data-testid=stException]").count() == 0, name
        assert page.get_by_text("did not expect").count() == 0, name
        found += [
            f"{name or 'overview'}: {v['id']} at {v['nodes'][0]['target']}"
            for v in Axe().run(page).response["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        if keep:
            PICTURES.mkdir(exist_ok=True)
            page.screenshot(path=PICTURES / f"{(name or 'overview').replace('?step=', '-')}-{scheme}.png")
        page.context.close()
    assert not found, "\n".join(found)


def test_a_link_restores_a_view(server, browser):
    scan = Study(demo.BASE, demo.TUNED).scan()
    page = opened(browser, f"{server}/ks_test?alpha=0.001&p_axis=log&token=198")
    assert page.get_by_label("alpha", exact=True).input_value() == "0.001"
    assert page.get_by_label("or any token id").input_value() == "198"
    place = int((scan.token_ids == 198).nonzero()[0][0])
    assert page.locator("[data-testid=stMetricValue]").first.inner_text() == f"{scan.statistic[place]:.4f}"

    page = opened(browser, f"{server}/winning_tokens?show=changed&search=the")
    assert page.get_by_role("searchbox", name="Search").input_value() == "the"
    page = opened(browser, f"{server}/audit?audit_panel=Stability")
    assert page.get_by_role("tab", name="Stability").get_attribute("aria-selected") == "true"
    page.get_by_text("of largest D", exact=False).first.wait_for(timeout=30_000)
    page = opened(browser, f"{server}/compare?compared=demo%3Aen-fr&compared=demo%3Aen-de")
    assert page.get_by_text("are in both").is_visible()
    page = opened(browser, f"{server}/learn?step=Ties")
    assert page.get_by_text("What equal values do").is_visible()
    page = opened(browser, f"{server}/glossary?term=critical")
    assert page.get_by_text("Critical D").is_visible() and page.get_by_text("Row-wise Adam").count() == 0
    page = opened(browser, f"{server}/?tuned=demo%3Aen-de")
    wins = int(Study(demo.BASE, "demo:en-de").scan().winners(0.05).sum())
    page.wait_for_function(f"() => document.querySelector('[data-testid=stMetricValue]')?.innerText == '{wins}'")


def test_a_link_to_what_is_not_there_says_so(server, browser, demo_home):
    page = opened(browser, f"{server}/ks_test?tuned=%2Fnowhere%2Fmodel")
    assert page.get_by_text("/nowhere/model does not exist").is_visible()
    assert page.get_by_role("button", name="Open the demo").is_visible()
    page = opened(browser, f"{server}/ks_test?alpha=5&p_axis=sideways")
    assert page.get_by_text("cannot be used here").inner_text().endswith("alpha = 5, p_axis = sideways.")
    page = opened(browser, f"{server}/learn?step=Nowhere")
    assert page.get_by_text("step = Nowhere").is_visible() and page.get_by_text("Two CDFs").is_visible()
    folder = demo_home / "jobs" / "20260101-000000-tune-abcdef"
    parameters = {"base": "demo:base", "tuned": "demo:en-fr"}
    jobs.workspace.write_json(folder / "request.json", {"kind": "tune", "parameters": parameters, "created": 1.0})
    jobs.workspace.write_json(folder / "status.json", {"state": "cancelled"})
    page = opened(browser, f"{server}/fine_tune?view=Results&run=20200101-nothing")
    assert page.get_by_text("is not in this workspace").is_visible()
    # Results is the default where a run is named, and Streamlit takes a default out of the address: it is in use all the same.
    page = opened(browser, f"{server}/fine_tune?view=Results&run={folder.name}")
    assert page.get_by_text("This run was cancelled").is_visible() and page.get_by_text("cannot be used").count() == 0


def test_the_link_to_share_is_the_view(server, browser):
    page = opened(browser, f"{server}/ks_test?alpha=0.01&p_axis=log")
    page.get_by_role("button", name="Share this view").click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text()
    assert link.startswith(f"{server}/ks_test?") and "alpha=0.01" in link and "p_axis=log" in link
    again = opened(browser, link)
    assert again.get_by_label("alpha", exact=True).input_value() == "0.01"


def test_the_keyboard_is_enough(server, browser):
    page = opened(browser, server)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.innerText?.trim().split('\\n').pop() || ''"))
        if reached[-1] == "Winning tokens":
            break
    assert reached[-1] == "Winning tokens", reached
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Winning tokens')", timeout=30_000)
    settle(page)
    page.get_by_label("alpha", exact=True).focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("0.001")
    page.keyboard.press("Enter")
    wins = int(Study(demo.BASE, demo.TUNED).scan().winners(0.001).sum())
    page.get_by_text(f"{wins} of 49,152 tokens are in the ticket").wait_for(timeout=30_000)

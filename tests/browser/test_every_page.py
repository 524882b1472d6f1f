"""Every page on the demo in a real browser, light and dark: nothing broken, nothing that axe finds serious, links that
restore what they were copied from. With ``--keep-screenshots`` a picture of each is kept in ``.screenshots``."""

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from helpers.browsing import MARKS, settle
from helpers.page_names import PAGES
from helpers.places import ROOT
from ks_core.checkpoints import demo
from ks_core.store import workspace
from ks_core.study.scan import Study

pytestmark = MARKS
PICTURES = ROOT / ".screenshots"
VIEWS = ["", *PAGES[1:], "learn?step=Methods", "learn?step=Questions"]


def opened(browser, address):
    """A page of its own session, the only one that is open: those before it would go on drawing."""
    context = browser.contexts[0] if browser.contexts else browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    for old in context.pages[:-1]:
        old.close()
    page.goto(address)
    settle(page)
    return page


def test_every_page(server, browser, keep):
    """Light, and then dark as when the system is switched while the page is open."""
    found = []
    for name in VIEWS:
        page = opened(browser, f"{server}/{name}")
        assert page.locator("[data-testid=stException]").count() == 0, name
        assert page.get_by_text("did not expect").count() == 0, name
        for scheme in ("light", "dark"):
            if scheme == "dark":
                page.emulate_media(color_scheme=scheme)
                settle(page)
            expect(page.locator("[data-testid=stApp]")).to_have_css("color-scheme", scheme)
            found += [
                f"{name or 'overview'}, {scheme}: {v['id']} at {v['nodes'][0]['target']}"
                for v in Axe().run(page).response["violations"]
                if v["impact"] in ("serious", "critical")
            ]
            if keep:
                PICTURES.mkdir(exist_ok=True)
                page.screenshot(path=PICTURES / f"{(name or 'overview').replace('?step=', '-')}-{scheme}.png")
    assert not found, "\n".join(found)


def test_a_link_restores_a_view(server, browser):
    scan = Study(demo.BASE, demo.TUNED).scan()
    page = opened(browser, f"{server}/ks_test?alpha=0.001&p_axis=log&token=198")
    expect(page.get_by_label("alpha", exact=True)).to_have_value("0.001")
    expect(page.get_by_label("or any token id")).to_have_value("198")
    place = int((scan.token_ids == 198).nonzero()[0][0])
    expect(page.locator("[data-testid=stMetricValue]").first).to_have_text(f"{scan.statistic[place]:.4f}")

    page = opened(browser, f"{server}/winning_tokens?show=changed&search=the")
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("the")
    page = opened(browser, f"{server}/audit?audit_panel=Stability")
    expect(page.get_by_role("tab", name="Stability")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_text("of largest D", exact=False).first).to_be_visible()
    page = opened(browser, f"{server}/compare?compared=demo%3Aen-fr&compared=demo%3Aen-de")
    expect(page.get_by_text("are in both")).to_be_visible()
    page = opened(browser, f"{server}/learn?step=Ties")
    expect(page.get_by_text("What equal values do")).to_be_visible()
    page = opened(browser, f"{server}/glossary?term=critical")
    expect(page.get_by_text("Critical D")).to_be_visible()
    expect(page.get_by_text("Row-wise Adam")).to_have_count(0)
    page = opened(browser, f"{server}/?tuned=demo%3Aen-de")
    wins = int(Study(demo.BASE, "demo:en-de").scan().winners(0.05).sum())
    expect(page.locator("[data-testid=stMetricValue]").first).to_have_text(str(wins))


def test_a_link_to_what_is_not_there_says_so(server, browser, demo_home):
    page = opened(browser, f"{server}/ks_test?tuned=%2Fnowhere%2Fmodel")
    expect(page.get_by_text("/nowhere/model does not exist")).to_be_visible()
    expect(page.get_by_role("button", name="Open the demo")).to_be_visible()
    page = opened(browser, f"{server}/ks_test?alpha=5&p_axis=sideways")
    expect(page.get_by_text("cannot be used here")).to_have_text(re.compile(r"alpha = 5, p_axis = sideways\.$"))
    page = opened(browser, f"{server}/learn?step=Nowhere")
    expect(page.get_by_text("step = Nowhere")).to_be_visible()
    expect(page.get_by_text("Two CDFs")).to_be_visible()
    folder = demo_home / "jobs" / "20260101-000000-tune-abcdef"
    parameters = {"base": "demo:base", "tuned": "demo:en-fr"}
    workspace.write_json(folder / "request.json", {"kind": "tune", "parameters": parameters, "created": 1.0})
    workspace.write_json(folder / "status.json", {"state": "cancelled"})
    page = opened(browser, f"{server}/fine_tune?view=Results&run=20200101-nothing")
    expect(page.get_by_text("is not in this workspace")).to_be_visible()
    # Results is the default where a run is named, and Streamlit takes a default out of the address: it is in use all the same.
    page = opened(browser, f"{server}/fine_tune?view=Results&run={folder.name}")
    expect(page.get_by_text("This run was cancelled")).to_be_visible()
    expect(page.get_by_text("cannot be used")).to_have_count(0)


def test_the_link_to_share_is_the_view(server, browser):
    page = opened(browser, f"{server}/ks_test?alpha=0.01&p_axis=log")
    page.get_by_role("button", name="Share this view").click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text()
    assert link.startswith(f"{server}/ks_test?") and "alpha=0.01" in link and "p_axis=log" in link
    again = opened(browser, link)
    expect(again.get_by_label("alpha", exact=True)).to_have_value("0.01")


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
    expect(page.get_by_text(f"{wins} of 49,152 tokens are in the ticket")).to_be_visible()

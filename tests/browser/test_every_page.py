"""Every page on the demo in a real browser: nothing broken, nothing that is not found, on the screens that people have and in both
schemes; links that restore what they were copied from. With ``--keep-screenshots`` a picture of each is kept in ``.screenshots``."""

import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from helpers import screens
from helpers.browsing import MARKS, settle, violations
from helpers.page_names import PAGES, WITHOUT_FIGURES
from helpers.places import ROOT
from ks_core.checkpoints import demo
from ks_core.store import workspace
from ks_core.study.scan import Study

pytestmark = MARKS
PICTURES = ROOT / ".screenshots"
VIEWS = ["", *PAGES[1:], "learn?step=Methods", "learn?step=Questions"]
MORE = ["learn?step=Ties", "drift_map?view=Side+by+side", "drift_map?view=Morph"]
#: What is looked at with every change; the others before anything lands.
OFTEN = {"", "drift_map"}


def opened(browser, address):
    """A page of its own session, the only one that is open: those before it would go on drawing."""
    context = browser.contexts[0] if browser.contexts else browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    for old in context.pages[:-1]:
        old.close()
    page.goto(address)
    settle(page)
    return page


def unbroken(page):
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.get_by_text("did not expect").count() == 0


def schemes(page, keep=""):
    """What axe finds in the light, and then in the dark as when the system is switched while the page is open."""
    for scheme in ("light", "dark"):
        if scheme == "dark":
            page.emulate_media(color_scheme=scheme)
            settle(page)
        expect(page.locator("[data-testid=stApp]")).to_have_css("color-scheme", scheme)
        yield from (f"{scheme}: {found}" for found in violations(page))
        if keep:
            PICTURES.mkdir(exist_ok=True)
            page.screenshot(path=PICTURES / f"{keep}-{scheme}.png")


@pytest.mark.parametrize(
    "view", [v if v in OFTEN else pytest.param(v, marks=pytest.mark.whole) for v in (*VIEWS, *MORE)]
)
def test_a_page_on_every_screen(shown, browser, keep, view):
    """With all that the demo shows at once: whole on every screen, read by everybody, and all that it asks for is there."""
    ticket = screens.ticket_in_a_line(0.05)
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    missing, said = [], []
    page.on("response", lambda r: missing.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on("console", lambda m: said.append(m.text[:120]) if m.type == "error" else None)
    page.goto(f"{shown}/{view}")
    settle(page)
    unbroken(page)
    if view not in WITHOUT_FIGURES and "Questions" not in view:
        expect(page.locator("[data-testid=stPlotlyChart] .main-svg").first).to_be_visible()
    found = [
        f"{screen}: {w}" for screen, size in screens.SCREENS.items() for w in screens.wrong_on(page, *size, ticket)
    ]
    if view in VIEWS:
        found += schemes(page, keep and (view or "overview").replace("?step=", "-"))
    assert not found + missing + said, json.dumps(found + missing + said, indent=1)


@pytest.mark.whole
@pytest.mark.parametrize("view", VIEWS[::-1])
def test_a_page_where_nothing_was_computed_yet(bare, browser, view):
    """As for a pair of the user's own: with the buttons and words that ask for it. The server's first visit is by a link to a page."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(f"{bare}/{view}")
    settle(page)
    unbroken(page)
    expect(page.get_by_role("link", name="Checkpoints").first, "the router's navigation is there").to_be_visible()
    found = list(schemes(page))
    assert not found, "\n".join(found)


@pytest.mark.whole
def test_a_link_restores_a_view(shown, browser):
    scan = Study(demo.BASE, demo.TUNED).scan()
    page = opened(browser, f"{shown}/ks_test?alpha=0.001&p_axis=log&token=198")
    expect(page.get_by_label("alpha", exact=True)).to_have_value("0.001")
    expect(page.get_by_label("or any token id")).to_have_value("198")
    place = int((scan.token_ids == 198).nonzero()[0][0])
    expect(page.locator("[data-testid=stMetricValue]").first).to_have_text(f"{scan.statistic[place]:.4f}")
    # The link to share is the view.
    page.get_by_role("button", name="Share this view").click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text()
    assert link.startswith(f"{shown}/ks_test?") and "alpha=0.001" in link and "p_axis=log" in link
    page = opened(browser, link)
    expect(page.get_by_label("alpha", exact=True)).to_have_value("0.001")
    expect(page.get_by_label("or any token id")).to_have_value("198")

    page = opened(browser, f"{shown}/winning_tokens?show=changed&search=the")
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("the")
    page = opened(browser, f"{shown}/audit?audit_panel=Stability")
    expect(page.get_by_role("tab", name="Stability")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_text("of largest D", exact=False).first).to_be_visible()
    page = opened(browser, f"{shown}/compare?compared=demo%3Aen-fr&compared=demo%3Aen-de")
    expect(page.get_by_text("are in both")).to_be_visible()
    page = opened(browser, f"{shown}/learn?step=Ties")
    expect(page.get_by_text("What equal values do")).to_be_visible()
    page = opened(browser, f"{shown}/glossary?term=critical")
    expect(page.get_by_text("Critical D")).to_be_visible()
    expect(page.get_by_text("Row-wise Adam")).to_have_count(0)
    page = opened(browser, f"{shown}/?tuned=demo%3Aen-de")
    wins = int(Study(demo.BASE, "demo:en-de").scan().winners(0.05).sum())
    expect(page.locator("[data-testid=stMetricValue]").first).to_have_text(str(wins))


@pytest.mark.whole
def test_a_link_to_what_is_not_there_says_so(shown, showroom, browser):
    page = opened(browser, f"{shown}/ks_test?tuned=%2Fnowhere%2Fmodel")
    expect(page.get_by_text("/nowhere/model does not exist")).to_be_visible()
    expect(page.get_by_role("button", name="Open the demo")).to_be_visible()
    page = opened(browser, f"{shown}/ks_test?alpha=5&p_axis=sideways")
    expect(page.get_by_text("cannot be used here")).to_have_text(re.compile(r"alpha = 5, p_axis = sideways\.$"))
    page = opened(browser, f"{shown}/learn?step=Nowhere")
    expect(page.get_by_text("step = Nowhere")).to_be_visible()
    expect(page.get_by_text("Two CDFs")).to_be_visible()
    page = opened(browser, f"{shown}/fine_tune?view=Results&run=20200101-nothing")
    expect(page.get_by_text("is not in this workspace")).to_be_visible()
    folder = showroom[1] / "jobs" / "20260101-000000-tune-abcdef"
    parameters = {"base": "demo:base", "tuned": "demo:en-fr"}
    try:
        workspace.write_json(folder / "request.json", {"kind": "tune", "parameters": parameters, "created": 1.0})
        workspace.write_json(folder / "status.json", {"state": "cancelled"})
        # Results is the default where a run is named, and Streamlit takes a default out of the address: it is in use all the same.
        page = opened(browser, f"{shown}/fine_tune?view=Results&run={folder.name}")
        expect(page.get_by_text("This run was cancelled")).to_be_visible()
        expect(page.get_by_text("cannot be used")).to_have_count(0)
    finally:
        shutil.rmtree(folder)


@pytest.mark.whole
def test_the_keyboard_is_enough(shown, browser):
    page = opened(browser, shown)
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

"""The main way through the app, in a real browser: from the start page to a downloaded table.

With ``--keep-screenshots`` (``make screenshots``) the pictures of the README are taken on the way, and noted beside them is what
the app's navigation was then: ``tests/test_pictures.py`` says when they are older than the app.
"""

import re
import shutil

import pandas as pd
import pytest
from playwright.sync_api import expect

from helpers import pictures, tiny_text
from helpers.browsing import MARKS, settle
from helpers.screens import ticket_in_a_line
from ks_core.checkpoints import demo
from ks_core.study.scan import Study

pytestmark = MARKS


def picture(page, name, keep):
    """Keep a screenshot for the README, and see that the page shows no error."""
    assert page.locator("[data-testid=stException]").count() == 0
    if keep:
        page.mouse.move(1270, 5)  # no hint stands over what is shown
        page.wait_for_timeout(500)
        pictures.take(page, name)


def test_from_the_start_page_to_a_table(shown, browser, keep, tmp_path):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True).new_page()
    page.goto(shown)
    settle(page)
    expected = Study(demo.BASE, demo.TUNED).scan()
    metric = page.locator("[data-testid=stMetricValue]").first
    expect(metric).to_have_text(f"{int(expected.winners(0.05).sum()):,}")
    page.wait_for_selector(".js-plotly-plot .barlayer .point", timeout=60_000)
    settle(page)
    picture(page, "overview", keep)

    page.get_by_label("alpha", exact=True).fill("0.001")
    page.keyboard.press("Enter")
    wins = int(expected.winners(0.001).sum())
    expect(metric).to_have_text(str(wins))
    line = page.locator("[data-testid=stSidebar]").get_by_text("Ticket: ")
    expect(line).to_have_text(ticket_in_a_line(0.001))
    expect(page).to_have_url(re.compile("alpha=0.001"))

    page.get_by_role("link", name="KS test").first.click()
    page.wait_for_selector("h1:has-text('KS test')")
    page.wait_for_selector(".js-plotly-plot .barlayer .point", timeout=60_000)
    settle(page)
    expect(line, "it goes along").to_have_text(ticket_in_a_line(0.001))
    picture(page, "ks-test", keep)

    page.get_by_role("link", name="Winning tokens").first.click()
    page.wait_for_selector("h1:has-text('Winning tokens')")
    page.wait_for_selector(".js-plotly-plot .scatterlayer", timeout=60_000)
    settle(page)
    expect(page.get_by_text(f"{wins} of 49,152 tokens are in the ticket")).to_be_visible()
    picture(page, "winning-tokens", keep)
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    path = tmp_path / "table.csv"
    download.value.save_as(path)
    frame = pd.read_csv(path)
    assert set(frame.token_id) == set(expected.token_ids[expected.winners(0.001)])
    assert "alpha:0.001" in frame.signature[0]

    page.get_by_role("link", name="Glossary").first.click()
    page.wait_for_selector("h1:has-text('Glossary')")
    expect(line, "a page that opens no pair knows it from the one before").to_have_text(ticket_in_a_line(0.001))


@pytest.mark.whole
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_link_to_a_page(shown, browser, keep, scheme):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}, color_scheme=scheme).new_page()
    page.goto(f"{shown}/drift_map?alpha=0.01")
    page.wait_for_selector(".js-plotly-plot .gl-canvas-focus, .js-plotly-plot canvas", timeout=60_000)
    settle(page)
    expect(page.get_by_role("link", name="Checkpoints").first, "the router's navigation is there").to_be_visible()
    expect(page.get_by_label("alpha", exact=True)).to_have_value("0.01")
    picture(page, f"drift-map-{scheme}", keep and scheme == "light")


@pytest.mark.parametrize(("view", "name", "says"), [
    ("audit", "audit", "Verdict"),
    pytest.param("fine_tune?view=Results", "fine-tune-results", "How unlikely the references are", marks=pytest.mark.whole),
])  # fmt: skip
def test_what_ships_with_the_demo_is_there_at_once(shown, browser, keep, view, name, says):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(f"{shown}/{view}")
    page.get_by_text(says).first.wait_for(timeout=60_000)
    settle(page)
    expect(page.get_by_text("Shipped with the demo").first).to_be_visible()
    picture(page, name, keep)


@pytest.mark.whole
def test_a_run_is_started_seen_after_a_reload_and_cancelled(server, browser, keep, demo_home):
    from ks_core.jobs import queue

    page = browser.new_context(viewport={"width": 1280, "height": 1500}).new_page()
    page.goto(f"{server}/fine_tune")
    page.get_by_role("button", name="Start the run").wait_for(timeout=60_000)
    settle(page)
    picture(page, "fine-tune", False)
    page.get_by_role("button", name="Start the run").click()
    page.get_by_role("button", name="Cancel").wait_for(timeout=60_000)
    job = queue.all_jobs("tune")[0]
    page.reload()
    page.get_by_role("button", name="Cancel").wait_for(timeout=60_000)
    assert job.state in ("queued", "running") and len(queue.all_jobs("tune")) == 1
    expect(page, "the link leads to this run").to_have_url(re.compile(f"run={job.id}"))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("This run was cancelled").wait_for(timeout=120_000)
    assert job.state == "cancelled"
    expect(page.get_by_role("button", name="Go on with this run")).to_be_visible()
    assert page.locator("[data-testid=stException]").count() == 0


@pytest.mark.whole
def test_a_tiny_run_goes_to_its_table(server, browser, demo_home, tmp_path, tiny_folder):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    from ks_core.jobs import queue

    tuned = tmp_path / "tuned"
    shutil.copytree(tiny_folder, tuned)
    weights = load_file(tuned / "model.safetensors")
    weights["model.embed_tokens.weight"][20:26] += np.float32(3)  # words that have equals outside the ticket
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(tiny_text.pairs())
    page = browser.new_context(viewport={"width": 1280, "height": 1500}, accept_downloads=True).new_page()
    page.goto(
        f"{server}/fine_tune?base={tiny_folder}&tuned={tuned}&tune_corpus=A TSV or JSONL file&tune_where={pairs}&tune_from=A&tune_to=B"
        "&tune_rows=w9"
    )
    page.get_by_role("button", name="Start the run").wait_for(timeout=60_000)
    settle(page)
    page.get_by_role("button", name="Start the run").click()
    page.get_by_text("Translations side by side").wait_for(timeout=240_000)
    settle(page)
    job = queue.all_jobs("tune")[0]
    assert job.state == "done" and not [a["error"] for a in job.result["arms"] if a["error"]]
    expect(page.get_by_text("Take it away")).to_be_visible()
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    download.value.save_as(tmp_path / "run.csv")
    frame = pd.read_csv(tmp_path / "run.csv")
    assert set(frame.kind) == {"base", "stop", "examples", "tuned", "transfer", "partial", "paired", "partners", "rows"}
    assert frame.signature[0] == job.result["signature"]
    assert page.locator("[data-testid=stException]").count() == 0

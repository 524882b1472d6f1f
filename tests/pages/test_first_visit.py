"""The first visit: on the demo every page shows what it is for, and nothing has to be computed first, not by a button and not by itself."""

import pytest
from streamlit.testing.v1 import AppTest

from helpers.page_names import PAGES, WITHOUT_FIGURES
from helpers.places import APP
from ks_core.asking import respondent
from ks_core.audit import questions
from ks_core.checkpoints import demo
from ks_core.jobs import queue
from ks_core.store import access
from ks_core.study.scan import Study

MARK = "Shipped with the demo, not computed here"
#: Pages on which something that took minutes is shown.
SHIPPED = {
    "overview",
    "ask",
    "layers",
    "drift_map",
    "compare",
    "fine_tune",
    "which_rule",
    "audit",
    "certificate",
    "paper",
}


@pytest.fixture
def visit(evidence):
    """A function that opens a page of a fresh workspace, with other query parameters if wanted."""
    Study(demo.BASE, demo.TUNED).scan()

    def opened(page, **query):
        at = AppTest.from_file(APP, default_timeout=120)
        for name, value in query.items():
            at.query_params[name] = value
        at = at.switch_page(f"pages/{page}.py").run()
        assert not at.exception and not at.error, [e.value for e in at.error]
        return at

    return opened


def said(at):
    return "\n".join(str(e.value) for kind in ("markdown", "caption", "info") for e in getattr(at, kind)).replace(
        "\\", ""
    )


def asks_first(at):
    """Buttons that would have something computed that the page shows."""
    words = (
        "Run ",
        "Test every",
        "Make the",
        "Find the",
        "Compare the rules",
        "Ask the demo",
        "Train on noise",
        "Start it again",
    )
    return [b.label for b in at.button if b.label.startswith(words)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_its_figure_at_once(visit, page):
    at = visit(page)
    assert page in WITHOUT_FIGURES or at.get("plotly_chart"), page
    assert not asks_first(at)
    assert (MARK in said(at)) == (page in SHIPPED)
    assert all(job.shipped for job in queue.all_jobs()), "nothing was started"


@pytest.mark.parametrize("title", [q.title for q in questions() if q.name != "certificate"])
def test_a_panel_of_the_audit_shows_its_figure_or_table_at_once(visit, title):
    at = visit("audit", audit_panel=title)
    assert at.get("plotly_chart") or at.dataframe, title
    assert not asks_first(at) and "not been run" not in said(at)
    assert all(job.shipped for job in queue.all_jobs())


def test_the_lesson_on_stopping_has_its_answers(visit):
    at = visit("learn", step="Stopping")
    assert MARK in said(at) and not asks_first(at) and at.code and at.dataframe


def test_fine_tune_shows_losses_and_translations(visit):
    at = visit("fine_tune")
    assert "Results" in [s.value for s in at.get("button_group")] or at.selectbox(key="run").value
    assert "Reference" in said(at) and "shipped with the demo" in at.selectbox(key="run").format_func(
        at.selectbox(key="run").value
    )


def test_umap_comes_first(visit):
    assert "UMAP keeps neighbours together" in said(visit("drift_map"))


def test_what_is_made_anew_goes_before(visit, tmp_path):
    at = visit("drift_map")
    (button,) = [b for b in at.button if b.key == "anew-neighbourhoods"]
    assert button.label == "Make it anew"
    at = visit("layers")
    (button,) = [b for b in at.button if b.key == "anew-layers"]
    button.click().run()
    (job, old) = queue.all_jobs("layers")
    assert job.shipped is None and old.shipped
    assert job.wait(240) == "done", job.error + job.log_tail(20)
    at.run()
    assert not at.exception and MARK not in said(at) and at.get("plotly_chart")


def test_the_overview_answers_three_questions(visit):
    at = visit("overview")
    assert [s.value for s in at.subheader] == ["How many rows moved?", "What do they buy?", "Is it real?"]
    text = said(at)
    assert "The ticket's 112 rows, copied, keep" in text and "KS is not the reason" in text
    assert len(at.get("plotly_chart")) == 3


def test_a_read_only_server_shows_it_and_starts_nothing(visit, monkeypatch):
    monkeypatch.setenv("KS_LOTTERY_READ_ONLY", "1")
    for page in ("layers", "audit", "which_rule", "fine_tune"):
        at = visit(page)
        assert MARK in said(at) and not [b for b in at.button if (b.key or "").startswith("anew")]


def test_ask_opens_with_a_question_and_its_answers(visit):
    """Those of the demo, which ship; nobody has been asked. A row can be switched, which asks anew."""
    at = visit("ask")
    assert MARK in said(at) and [s.value for s in at.subheader] == ["Base", "Ticket", "Tuned"]
    (asks,) = [b for b in at.button if b.label == "Ask"]
    assert not asks.disabled and "question" not in at.query_params
    assert respondent().process is None


def test_ask_shows_them_on_a_server_that_asks_nobody(visit, monkeypatch):
    monkeypatch.setenv(access.READ_ONLY, "1")
    at = visit("ask")
    assert MARK in said(at) and at.get("plotly_chart")
    asks = [w.label for kind in ("button", "slider", "button_group", "text_area") for w in at.get(kind)]
    assert not {"Ask", "Rows that act", "Strength of the ticket's rows", "Text"} & set(asks), asks
    assert respondent().process is None

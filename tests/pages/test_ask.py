"""Ask, on the tiny model: it is asked, answered, a row is switched off, a reload finds it, and a read-only server asks nobody."""

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from helpers import answering
from helpers.markup import text_of
from helpers.places import APP, ROOT
from helpers.waiting import until
from ks_core.asking import Bounds, process, respondent
from ks_core.store import access
from ks_core.study import Study


@pytest.fixture
def opened(tiny_pair):
    """Opens the page anew, as a reload of the browser does."""
    base, tuned, _ = tiny_pair
    Study(base, tuned).scan()

    def make(**query):
        at = AppTest.from_file(APP, default_timeout=120)
        for name, value in {"base": base, "tuned": tuned, "alpha": "0.2", **query}.items():
            at.query_params[name] = value
        return at.switch_page("pages/ask.py").run()

    yield make
    respondent().close()
    respondent.cache_clear()


def test_a_question_is_answered_and_asked_again_without_a_row(opened):
    page = opened()
    assert not page.exception and not page.error, [e.value for e in page.error]
    page.selectbox(key="ask_template").set_value("own").run()
    page.text_area(key="ask_own").set_value("w3 {source} w4")
    page.text_area(key="ask_text").set_value("w5 w7 w5")
    page.number_input(key="ask_limit").set_value(5)
    (button,) = [b for b in page.button if b.label == "Ask"]
    button.click().run()
    assert not page.error, [e.value for e in page.error]
    key = page.session_state["ask_question"]
    until(lambda: respondent().find(key).over, 180)
    page.run()
    asked = respondent().find(key)
    assert asked.state == "done", asked.error
    assert [s.value for s in page.subheader] == ["Base", "Ticket", "Tuned"]
    shown = [c.value for c in page.code]
    assert all(answer.text in shown for answer in asked.answers.values())
    said = [text_of(c.value) for c in page.caption]
    assert all(any(answer.ending in one for one in said) for answer in asked.answers.values())
    assert page.dataframe[0].value.token_id.tolist() == list(asked.answers["ticket"].ids)
    rows = next(b for b in page.get("button_group") if b.label == "Rows that act")
    assert 5 in rows.value and set(rows.value) <= set(asked.question.ticket)
    rows.set_value([i for i in rows.value if i != 5]).run()
    second = page.session_state["ask_question"]
    assert second != key and respondent().find(second).question.off == (5,)
    until(lambda: respondent().find(second).over, 180)
    page.slider(key="ask_strength").set_value(0.5).run()
    third = respondent().find(page.session_state["ask_question"]).question
    assert (third.off, third.strength) == ((5,), 0.5)
    # A reload, with nothing but the address.
    again = opened(question=second)
    assert (
        again.text_area(key="ask_text").value == "w5 w7 w5" and again.text_area(key="ask_own").value == "w3 {source} w4"
    )
    assert not again.exception and [s.value for s in again.subheader] == ["Base", "Ticket", "Tuned"]


def test_what_cannot_be_asked_is_said_and_nothing_is_started(opened):
    page = opened(question="0123456789abcdef")
    assert any("not remembered" in c.value for c in page.caption)
    page.text_area(key="ask_text").set_value("   ")
    next(b for b in page.button if b.label == "Ask").click().run()
    assert "Nothing was typed" in page.error[0].value and not page.exception
    assert respondent().process is None


def test_stop_is_for_oneself_where_somebody_else_waits(opened, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setattr(process, "prepare", answering.prepare)
    monkeypatch.setattr(process, "answer", answering.asleep)
    page = opened()
    page.selectbox(key="ask_template").set_value("own").run()
    page.text_area(key="ask_own").set_value("w3 {source} w4")
    page.text_area(key="ask_text").set_value("w5 w7 w5")
    next(b for b in page.button if b.label == "Ask").click().run()
    asked = respondent().find(page.session_state["ask_question"])
    until(lambda: asked.read == (1,), 60)
    respondent().ask(asked.question, Bounds(1 << 30), "another")
    page.run()
    next(b for b in page.button if b.label == "Stop").click().run()
    assert any("Somebody else waits" in c.value for c in page.caption) and not asked.over
    assert not [b for b in page.button if b.label == "Stop"] and not page.exception
    assert respondent().stop(asked.question.key, "another"), "nobody is left"
    psutil.Process(respondent().process).kill()
    until(lambda: asked.over, 60)


def test_a_read_only_server_asks_nobody(opened, monkeypatch):
    monkeypatch.setenv(access.READ_ONLY, "1")
    page = opened(base="demo:base", tuned="demo:en-fr")
    assert not [b for b in page.button if b.label == "Ask"] and respondent().process is None

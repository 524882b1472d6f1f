"""Fine-tune as a visitor meets it: what begins a run is there before everything that takes seconds, and what a button cannot do is said."""

import contextlib

import streamlit
from streamlit.testing.v1 import AppTest

from helpers.going_on import going_on
from helpers.places import APP
from helpers.serving import Visitor, serving
from ks_core.checkpoints import demo
from ks_core.jobs import devices, queue
from ks_core.store import log
from ks_core.study.scan import Study


def test_the_start_button_is_there_at_once(bare):
    """The button comes before the form; the estimate is there, too."""
    with Visitor(bare) as visitor:
        seen = visitor.open("fine_tune")
        place = next(i for i, e in enumerate(seen) if e.button.label == "Start the run")
        form = next(i for i, e in enumerate(seen) if e.heading.body == "Text")
        assert place < form
        # Where the server is quick it is sent in the place of the words that were to be waited with, and so before the form.
        said = [e.markdown.body for e in seen]
        assert any("of memory" in text and "are free" in text for text in said), "\n".join(said)


def test_words_say_what_is_waited_for(demo_home, monkeypatch):
    """Streamlit shows them where it takes more than a moment; the text is read and the machine looked at inside of them."""
    Study(demo.BASE, demo.TUNED).scan()
    told, own = [], streamlit.spinner

    @contextlib.contextmanager
    def spinner(words, **options):
        with own(words, **options):
            told.append(words)
            yield
            told.append("done")

    looked, free = [], devices.free_memory
    monkeypatch.setattr(streamlit, "spinner", spinner)
    monkeypatch.setattr(devices, "free_memory", lambda *a: looked.append(list(told)) or free(*a))
    at = AppTest.from_file(APP, default_timeout=120)
    at.switch_page("pages/fine_tune.py").run()
    assert not at.exception and looked
    begun = [words for words in looked[0] if words != "done"]
    assert any("Estimating how much memory and time" in words for words in begun)
    assert looked[0].count("done") < len(begun), "the words still stand"


def test_nothing_starts_while_something_is_missing(bare):
    query = {"tune_corpus": "A TSV or JSONL file"}
    with Visitor(bare) as visitor:
        visitor.open("fine_tune", query)
        button = next(w.id for w in visitor.widgets("button") if w.label == "Start the run")
        visitor.open("fine_tune", query, [(button, "trigger_value", True)])
        assert any("nothing is missing above" in e.markdown.body for e in visitor.seen) and not visitor.errors()
    assert not queue.all_jobs("tune")


def test_an_error_in_what_a_button_calls_is_a_sentence_and_a_log_entry(demo_home, tiny_plan, tmp_path):
    """Streamlit runs it before the page, so the page cannot deal with it."""
    goes_on = going_on("tune", tiny_plan(["base"]).as_dict())
    with goes_on as (job, _), serving(tmp_path / "server.log") as address, Visitor(address) as visitor:
        visitor.open("fine_tune", {"run": job.id})
        cancel = next(w.id for w in visitor.widgets("button") if w.label == "Cancel")
        (job.folder / "cancel").mkdir()  # where the wish is to be written
        visitor.open("fine_tune", {"run": job.id}, [(cancel, "trigger_value", True)])
        assert any("did not expect (IsADirectoryError)" in said for said in visitor.errors()), visitor.errors()
    assert "what a widget calls" in log.path().read_text() and "Traceback" in log.path().read_text()
    log.path().unlink()


def test_a_press_is_not_lost_where_the_page_is_run_anew_before_it_is_carried_out(tiny_pair, monkeypatch):
    """As when the browser tells a widget's value a moment later, or something else was done."""
    from pages.parts import tuning_form

    base, tuned, corpus = tiny_pair
    Study(base, tuned).scan()
    at = AppTest.from_file(APP, default_timeout=120)
    given = {"base": base, "tuned": tuned, "alpha": "0.2", "tune_corpus": "A TSV or JSONL file", "tune_where": corpus.name.partition(":")[2],
             "tune_from": corpus.source_language, "tune_to": corpus.target_language, "tune_rows": "w9"}  # fmt: skip
    for name, value in given.items():
        at.query_params[name] = value
    at.switch_page("pages/fine_tune.py").run()
    assert not queue.all_jobs("tune")
    form, left = tuning_form.form, [1]

    def interrupted(*arguments):
        if left:
            left.pop()
            streamlit.rerun()
        return form(*arguments)

    monkeypatch.setattr(tuning_form, "form", interrupted)
    next(b for b in at.button if b.label == "Start the run").click().run()
    assert not left and not at.exception and not at.error, [e.value for e in at.error]
    (job,) = queue.all_jobs("tune")
    job.cancel()
    job.wait(60)

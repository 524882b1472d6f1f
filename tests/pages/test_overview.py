"""The Overview of a pair of which nothing is known: what answering takes, and one button for all of it."""

import pytest
from streamlit.testing.v1 import AppTest

from helpers.going_on import going_on
from helpers.places import APP
from ks_core.audit.inquiry import Audit
from ks_core.jobs import queue
from ks_core.study.scan import Study
from ks_core.tuning import estimates
from ks_core.tuning.estimates import Rates

NOTHING = "Not known yet: what the ticket buys, and whether it is real"


@pytest.fixture
def pair(tiny_pair):
    base, tuned, _ = tiny_pair
    Study(base, tuned).scan()
    return base, tuned


def overview(base, tuned, **query):
    at = AppTest.from_file(APP, default_timeout=120)
    for name, value in {"base": base, "tuned": tuned, "alpha": "0.2", **query}.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    return at


def said(at):
    return "\n".join(str(e.value) for kind in ("markdown", "caption", "info") for e in getattr(at, kind)).replace(
        "\\", ""
    )


def test_it_says_what_each_step_takes_here_once_that_was_measured(pair):
    at = overview(*pair)
    assert [s.value for s in at.subheader] == ["How many rows moved?", NOTHING]
    assert "- Ledger: which rows" in said(at) and "Together about" not in said(at)
    assert [b for b in at.button if b.label == "Measure how long this takes here"]
    audit = Audit(*pair, alpha=0.2)
    estimates.keep(audit.controls(()), Rates(0.001, 0.1, 1.0, 3.0, 0.0))
    text = said(overview(*pair))
    assert (
        "- Ledger: about " in text and "Controls: " in text and "- Audit: about " in text and "Together about" in text
    )


def test_one_button_runs_everything_as_one_job(pair):
    at = overview(*pair)
    (button,) = [b for b in at.button if b.label == "Run everything"]
    button.click().run()
    (job,) = queue.all_jobs("whole")
    job.cancel()
    assert job.request["parameters"] == Audit(*pair, alpha=0.2).as_dict()
    assert job.wait(120) == "cancelled"


def test_while_it_runs_there_is_one_line_and_no_button(pair):
    with going_on("whole", Audit(*pair, alpha=0.2).as_dict()):
        at = overview(*pair)
        assert not [b for b in at.button if b.label == "Run everything"]
        assert len(at.get("progress")) == 1


def test_an_empty_ticket_asks_for_nothing(pair):
    at = overview(*pair, alpha="0.000000001")
    assert NOTHING not in [s.value for s in at.subheader] and "Raise alpha" in said(at)


def test_a_server_that_starts_nothing_has_no_button(pair, monkeypatch):
    from ks_core.store import prepared

    prepared.keep(prepared.named("tiny", *pair))
    monkeypatch.setenv("KS_LOTTERY_READ_ONLY", "1")
    at = overview(*pair)
    assert not [b for b in at.button if b.label in ("Run everything", "Measure how long this takes here")]

"""Which rule?, on the tiny model: the button, the job, and what is shown of its answer."""

import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.jobs import queue
from ks_core.ledger import RULES
from ks_core.study import Study


@pytest.fixture
def page(tiny_pair):
    base, tuned, corpus = tiny_pair
    Study(base, tuned).scan()
    at = AppTest.from_file(APP, default_timeout=120)
    given = {"base": base, "tuned": tuned, "alpha": "0.2", "tune_corpus": "A TSV or JSONL file", "tune_where": corpus.name.partition(":")[2],
             "tune_from": corpus.source_language, "tune_to": corpus.target_language}  # fmt: skip
    for name, value in given.items():
        at.query_params[name] = value
    at.switch_page("pages/which_rule.py")
    return at.run()


def test_it_is_asked_computed_and_shown(page):
    assert not page.exception and not page.error, [e.value for e in page.error]
    assert page.multiselect(key="rules_others").disabled, "how it was trained is not known, so no other seed is"
    page.selectbox(key="rules_share").set_value(0.5)
    page.multiselect(key="rules_train").set_value(["d", "l2"])
    page.run()
    for key, value in (("rules_k", 2), ("rules_seeds", 2), ("rules_steps", 3)):
        page.number_input(key=key).set_value(value)
    page.run()
    (button,) = [b for b in page.button if b.label == "Compare the rules"]
    button.click().run()
    (job,) = queue.all_jobs("rules")
    assert job.wait(240) == "done", job.error + job.log_tail(30)
    page.run()
    assert not page.exception and not page.error, [e.value for e in page.error]
    result = job.result
    assert page.subheader[0].value.replace("\\", "") == result["sentence"]
    assert {m.label for m in page.metric} >= {"Base", "All changed rows", "Gain", "Test references"}
    assert page.metric[0].value == f"{result['base']['nats_all']:.3f}"
    shown = page.multiselect(key="rules_drawn")
    assert set(shown.value) <= set(RULES) and "d" in shown.value
    assert "gain nothing" in result["sentence"], "rows that were moved at random"
    assert any("The smallest ticket is left out" in c.value for c in page.caption)
    assert job.request["parameters"]["k"] == 2 and result["trained"]["seeds"] == 2
    said = [m.value.replace("\\", "") for m in page.markdown]
    assert result["trained"]["sentence"] in said
    assert {"Trained at equal budget", "Does the ticket do as well?"} <= {h.value for h in page.header}
    boxes = [i.value.replace("\\", "") for i in page.info]
    assert next(one["sentence"] for one in result["as_good"] if one["own"].startswith("the ticket")) in boxes

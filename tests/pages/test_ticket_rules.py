"""A ticket's rule on the pages where one is chosen: on the demo, and where the training is not known."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.checkpoints import demo
from ks_core.jobs import queue
from ks_core.ledger import exposure
from ks_core.study.scan import Study
from ks_core.tickets.selection import SELECTION_RULES, select

#: Where a ticket is chosen: the page, and the keys of its rule and its k.
PLACES = {
    "winning_tokens": ("rule", "k"), "compare": ("compare_rule", "compare_k"), "fine_tune": ("tune_rule", "tune_k"),
    "audit": ("audit_rule", "audit_k"),
}  # fmt: skip


def opened(page, **query):
    at = AppTest.from_file(APP, default_timeout=120)
    for key, value in query.items():
        at.query_params[key] = str(value)
    return at.switch_page(f"pages/{page}.py").run()


def words(at):
    return "\n".join(str(e.value) for kind in ("markdown", "caption", "info", "error") for e in getattr(at, kind))


@pytest.mark.parametrize("page", PLACES)
def test_every_rule_is_offered_wherever_a_ticket_is_chosen(demo_home, page):
    Study(demo.BASE, demo.TUNED).scan()
    rule, k = PLACES[page]
    at = opened(page)
    box = at.selectbox(key=rule)
    assert len(box.options) == len(SELECTION_RULES) and at.number_input(key=k).disabled
    assert any("from the training" in option for option in box.options) and any(
        "(control)" in option for option in box.options
    )
    box.set_value("wasserstein").run()
    assert not at.exception and not at.error and not at.number_input(key=k).disabled


def test_the_tokens_are_those_of_the_rule(demo_home):
    study = Study(demo.BASE, demo.TUNED)
    scan = study.scan()
    at = opened("winning_tokens")
    for rule, k in (("energy", 7), ("steps", 7), ("matched", 9)):
        at.selectbox(key="rule").set_value(rule).run()
        at.number_input(key="k").set_value(k).run()
        assert not at.exception and not at.error, rule
        assert set(at.dataframe[0].value.token_id) == set(scan.token_ids[select(scan, rule=rule, k=k, study=study)])
        assert f"**{k}** of" in words(at) and "not the paper" in words(at)
    at.selectbox(key="rule").set_value("structural").run()
    assert at.dataframe[0].value.token_id.tolist() == study.base.vocabulary.ids_of("\n")[:1]


def test_noise_is_trained_by_a_job_and_then_chosen_by_and_shown(demo_home, monkeypatch):
    """The job is a process of its own and makes as many draws as the program does; they are put in its place here."""
    study = Study(demo.BASE, demo.TUNED)
    scan = study.scan()
    at = opened("winning_tokens")
    at.selectbox(key="rule").set_value("noise").run()
    assert "takes minutes" in words(at) and [b.label for b in at.button if b.label == "Train on noise"]
    assert not queue.all_jobs("selection") and not at.dataframe
    # What the job leaves, with D of noise drawn about the real one: half of the rows go beyond.
    ids = np.sort(scan.token_ids[scan.changed])
    place = np.argsort(scan.token_ids)[np.searchsorted(np.sort(scan.token_ids), ids)]
    low = np.arange(len(ids)) % 2 == 0
    counts = np.where(low, scan.counts[place] - 1, scan.counts[place] + 1).clip(0)
    drawn = np.tile(counts, (exposure.DRAWS, 1)).astype(np.uint16)
    note = {"dim": scan.dim, "persistence": 0.0, "seed": 0}
    key = exposure._key(study, exposure.exposure_of(study, scan))
    study.cache.store("null", key, {"token_ids": ids, "counts": drawn}, note)
    at.run()
    assert not at.exception and not at.error
    beyond = set(ids[drawn[0] < scan.counts[place]].tolist())
    assert set(at.dataframe[0].value.token_id) == beyond and "this program's, not the paper's" in words(at)


def test_what_a_rule_needs_and_nobody_wrote_down_is_said(tiny_pair):
    base, tuned, _ = tiny_pair
    Study(base, tuned).scan()
    at = opened("winning_tokens", base=base, tuned=tuned)
    at.selectbox(key="rule").set_value("steps").run()
    assert not at.exception and "how this checkpoint was trained is not written down" in words(at)
    at.selectbox(key="rule").set_value("sign").run()
    assert not at.exception and not at.info and len(at.dataframe)

"""Winning tokens: what stands beside a token is found from the page, where it is not known."""

import numpy as np
from streamlit.testing.v1 import AppTest

from helpers.places import APP
from ks_core.jobs import queue
from ks_core.ledger.attribution import Attribution
from ks_core.ledger.newest import note
from ks_core.study import neighbourhoods
from ks_core.study.scan import Study


def test_neighbours_and_attribution_become_columns(tiny_pair):
    base, tuned, _ = tiny_pair
    study = Study(base, tuned)
    study.scan()
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"base": base, "tuned": tuned, "alpha": "0.2", "annotations": "true"}.items():
        at.query_params[name] = value
    at = at.switch_page("pages/winning_tokens.py").run()
    assert not at.exception and not at.error, [e.value for e in at.error]
    assert not {"change", "attribution"} & set(at.dataframe[0].value) and any(
        "Which rule?" in c.value for c in at.caption
    )
    next(b for b in at.button if b.label == "Find the neighbours").click().run()
    (job,) = queue.all_jobs("neighbourhoods")
    assert at.dataframe[0].value is not None, "the page goes on meanwhile"
    assert job.wait(240) == "done", job.log_tail()
    parts = np.arange(50.0).reshape(10, 5)
    note(study, Attribution(np.arange(3, 13), parts, parts, {"content": 7.0, "end": 1.5}, 8, 30), "w3 *to* w4")
    at.run()
    assert not at.exception and not [b for b in at.button if b.label == "Find the neighbours"]
    frame, found = at.dataframe[0].value, neighbourhoods.cached(study)
    change = dict(zip(study.scan().token_ids[found.positions].tolist(), found.change.tolist(), strict=True))
    assert frame.change.tolist() == [change[i] for i in frame.token_id]
    assert frame.attribution.tolist() == [2 * parts[i - 3].sum() for i in frame.token_id]
    assert any(r"w3 \*to\* w4" in c.value for c in at.caption), "a text's name is text"

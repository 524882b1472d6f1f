"""What stands beside a token: counts of a training's text against a count by hand, and the table's columns."""

import numpy as np
import pandas as pd

from ks_core.checkpoints import demo
from ks_core.ledger.annotations import annotate, occurrences
from ks_core.ledger.attribution import Attribution
from ks_core.ledger.newest import attributed, note
from ks_core.study import neighbourhoods
from ks_core.study.scan import Study
from ks_core.study.untrained import find
from ks_core.tuning import trainings


def test_where_the_demos_tokens_occur(demo_home):
    study = Study(demo.BASE, demo.TUNED)
    where, counts = occurrences(trainings.of(demo.TUNED)), trainings.counts(demo.TUNED)
    total = {i: sum(where[part].get(i, 0) for part in where) for i in counts}
    assert total == counts, "every position is in one part"
    corpus = trainings.of(demo.TUNED).corpus.load()
    (line_break,) = study.base.vocabulary.ids_of("\n")[:1]
    assert where["prompt"][line_break] == 2 * len(corpus.train), "the template has two, and no sentence has one"
    assert line_break not in where["source"] and sum(where["target"].values()) > 10_000
    scan = study.scan()
    frame = annotate(
        pd.DataFrame({"token_id": [line_break, 5]}), scan, untrained=find(study), steps={line_break: 300}, where=where
    )
    assert frame.steps.tolist() == [300, 0] and frame.in_prompt[0] == 2 * len(corpus.train)
    place = int(np.nonzero(scan.token_ids == 5)[0][0])
    assert frame.length[1] == find(study).length[place] and list(annotate(frame[["token_id"]], scan)) == ["token_id"]


def test_neighbours_and_attribution_stand_beside_the_tokens_that_have_them(tiny_pair):
    study = Study(*tiny_pair[:2])
    scan = study.scan()
    assert attributed(study) is None
    parts = np.arange(50.0).reshape(10, 5)
    note(study, Attribution(np.arange(3, 13), parts, -parts / 2, {"content": 7.0, "end": 1.5}, 8, 30), "a text")
    note(study, Attribution(np.arange(3, 13), parts, parts, {"content": 7.0, "end": 1.5}, 6, 20), "another text")
    found = attributed(study)
    assert "8.5 in all" in found.sentence and "6 points on 20 references of another text" in found.sentence, (
        "the newest"
    )
    near = neighbourhoods.find(study, scan)
    frame = annotate(pd.DataFrame({"token_id": [12, 40, 3, 63]}), scan, near=near, carried=found)
    np.testing.assert_allclose(frame.attribution, [2 * parts[9].sum(), np.nan, 2 * parts[0].sum(), np.nan])
    change = near.by_position(len(scan.token_ids))
    np.testing.assert_array_equal(frame.change, change[[12, 40, 3, 63]])
    assert frame.change.notna().tolist() == [True, False, True, False]

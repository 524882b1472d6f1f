"""What stands beside a token: counts of a training's text against a count by hand, and the table's columns."""

import numpy as np
import pandas as pd

from ks_core.checkpoints import demo
from ks_core.ledger.annotations import annotate, occurrences
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

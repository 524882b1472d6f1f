"""Neighbourhoods: who came and who left, kept by content, and for one token whichever it is."""

from types import SimpleNamespace

import numpy as np
import pytest

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import Cancelled, SettingsError
from ks_core.ks.statistic import ks_test
from ks_core.signature import Signature
from ks_core.store.cache import Cache
from ks_core.study import neighbourhoods
from ks_core.study.scan import Scan


@pytest.fixture
def pair(tmp_path):
    """Two clusters of 20 rows around (9, 0, ...) and (0, 9, ...); row 0 goes over, row 21 moves a little within its own."""
    generator = np.random.default_rng(0)
    before = generator.normal(0, 0.1, (40, 16)).astype(np.float32)
    before[:20, 0] += 9
    before[20:, 1] += 9
    after = before.copy()
    after[0, :2] = before[0, 1], 9
    after[21] += 1e-4
    pair = SimpleNamespace(before=ArrayMatrix(before), after=ArrayMatrix(after))
    study = SimpleNamespace(
        pair=pair, cache=Cache(tmp_path / "cache"), key={"x": 1}, signature=Signature({"base": "a"})
    )
    r = ks_test(pair.before, pair.after, with_shift=True)
    return study, Scan(
        np.arange(40) + 100, np.arange(40), r.counts, r.pvalue, r.l2, r.cosine, 16, Signature({}), "cpu", 0.0
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_one_that_went_over_lost_all_and_the_other_none(pair, metric):
    study, scan = pair
    found = neighbourhoods.find(study, scan, metric, k=5)
    assert set(found.positions) == {0, 21}
    change = dict(zip(found.positions.tolist(), found.change.tolist(), strict=True))
    assert change[0] == 1.0 and change[21] == 0.0
    row = found.positions.tolist().index(0)
    assert set(found.before[row]) <= set(range(1, 20)) and set(found.after[row]) <= set(range(20, 40))
    whole = found.by_position(40)
    assert whole[0] == 1.0 and np.isnan(whole[1])


def test_they_are_kept_and_a_cancelled_search_keeps_nothing(pair):
    study, scan = pair

    def stop(done, total, message):
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        neighbourhoods.find(study, scan, report=stop)
    assert neighbourhoods.cached(study) is None
    found = neighbourhoods.find(study, scan)
    kept = neighbourhoods.cached(study)
    assert (kept.after == found.after).all() and kept.signature == found.signature
    assert neighbourhoods.cached(study, "euclidean") is None and neighbourhoods.cached(study, k=3) is None


def test_of_one_token_who_stayed_who_left_and_who_came(pair):
    study, scan = pair
    frame = neighbourhoods.of_token(study, scan, 0, k=4)
    assert frame.stays.tolist() == ["left"] * 4 + ["came"] * 4
    assert (
        frame.rank_before.tolist()[:4] == [1, 2, 3, 4] and frame.rank_after.isna().tolist() == [True] * 4 + [False] * 4
    )
    assert (frame.far_before[:4] < frame.far_after[:4]).all() and (frame.far_before[4:] > frame.far_after[4:]).all()
    assert frame.token_id.tolist() == (frame.position + 100).tolist()
    before = study.pair.before.storage.astype(float)
    cosine = (
        before[0] @ before[frame.position[0]] / np.linalg.norm(before[0]) / np.linalg.norm(before[frame.position[0]])
    )
    assert frame.far_before[0] == pytest.approx(1 - cosine)
    assert set(neighbourhoods.of_token(study, scan, 30, k=4).stays) <= {"stayed", "came", "left"}, (
        "one that did not change"
    )


@pytest.mark.parametrize("position", [-1, 40])
def test_a_row_that_there_is_not(pair, position):
    with pytest.raises(SettingsError, match="Expected 0 to 39"):
        neighbourhoods.of_token(*pair, position)

"""Drift maps: unchanged tokens stay, the seed decides, PCA is what it says."""

from types import SimpleNamespace

import numpy as np
import pytest

from ks_core import drift
from ks_core.cache import Cache
from ks_core.errors import Cancelled, SettingsError
from ks_core.ks import ks_test
from ks_core.matrices import ArrayMatrix
from ks_core.signature import Signature
from ks_core.study import Scan


@pytest.fixture
def study(tmp_path):
    generator = np.random.default_rng(0)
    before = generator.standard_normal((200, 16)).astype(np.float32)
    after = before.copy()
    after[::5] += generator.standard_normal((40, 16)).astype(np.float32)
    pair = SimpleNamespace(before=ArrayMatrix(before), after=ArrayMatrix(after))
    return SimpleNamespace(pair=pair, cache=Cache(tmp_path / "cache"), key={"x": 1}, signature=Signature({"base": "a"}))


@pytest.fixture
def scan(study):
    r = ks_test(study.pair.before, study.pair.after, with_shift=True)
    return Scan(np.arange(200), np.arange(200), r.counts, r.pvalue, r.l2, r.cosine, 16, Signature({}), "cpu", 0.0)


def test_pca_axes_are_principal_and_arrows_true(study, scan):
    found = drift.project(study, scan, drift.Settings(background=1000, changed=1000))
    assert len(found.background) == 160 and len(found.changed) == 40
    assert set(found.changed) == set(range(0, 200, 5))
    before, after = study.pair.before.storage[found.changed], study.pair.after.storage[found.changed]
    # A linear map: the arrows on the map are the shifts, turned.
    shifts, arrows = (after - before).astype(float), (found.after_xy - found.before_xy).astype(float)
    axes, *_ = np.linalg.lstsq(shifts, arrows, rcond=None)
    np.testing.assert_allclose(shifts @ axes, arrows, atol=1e-4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-4)
    assert found.explained[0] >= found.explained[1] > 0


def test_the_largest_shifts_come_first_and_the_bounds_hold(study, scan):
    found = drift.project(study, scan, drift.Settings(background=30, changed=7))
    assert len(found.background) == 30 and found.changed.tolist() == scan.order()[:7].tolist()
    assert not scan.changed[found.background].any()


def test_a_umap_repeats_itself_and_is_kept(study, scan, tmp_path):
    settings = drift.Settings("umap", seed=3, neighbors=5)
    seen = []
    first = drift.project(study, scan, settings, lambda done, total, message: seen.append(message))
    assert any("epochs" in m for m in seen)
    kept = drift.cached(study, settings)
    np.testing.assert_array_equal(kept.after_xy, first.after_xy)
    assert kept.signature == first.signature
    study.cache = Cache(tmp_path / "another")
    again = drift.project(study, scan, settings)
    np.testing.assert_array_equal(again.after_xy, first.after_xy)
    assert drift.cached(study, drift.Settings("umap", seed=4, neighbors=5)) is None


def test_it_stops_when_asked_and_keeps_nothing(study, scan):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        drift.project(study, scan, drift.Settings(), stop)
    assert study.cache.entries() == []


@pytest.mark.parametrize(
    "bad", [{"method": "tsne"}, {"neighbors": 1}, {"min_dist": 1.0}, {"background": 0, "changed": 2}]
)
def test_settings_that_cannot_be(bad):
    with pytest.raises(SettingsError):
        drift.Settings(**bad)

"""Drift maps: unchanged tokens stay, the seed decides, PCA is what it says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import Cancelled, SettingsError
from ks_core.ks.statistic import ks_test
from ks_core.signature import Signature
from ks_core.store.cache import Cache
from ks_core.study import drift
from ks_core.study.scan import Scan


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


@pytest.mark.whole
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


def moved(study, scan, rows):
    """The same scan, with only these rows counted as changed."""
    l2 = np.zeros(len(scan.l2))
    l2[rows] = 1.0
    return replace(scan, l2=l2)


def test_the_fit_sees_one_point_for_a_token_that_stayed(study, scan, monkeypatch):
    fitted = []
    plain = drift._pca
    monkeypatch.setattr(drift, "_pca", lambda rows, n: fitted.append(len(rows)) or plain(rows, n))
    found = drift.project(study, scan, drift.Settings(background=60, changed=10))
    assert fitted == [60 + 2 * 10]
    assert len(set(found.background)) == 60 and not set(found.background) & set(found.changed)


def test_changed_tokens_fill_a_background_that_has_none(study, scan):
    background, changed = drift.choose(moved(study, scan, np.arange(200)), drift.Settings(background=50, changed=20))
    assert len(background) == 50 and len(changed) == 20 and not set(background) & set(changed)
    # Where enough tokens stayed, none that moved is among them.
    background, changed = drift.choose(moved(study, scan, np.arange(100)), drift.Settings(background=100, changed=20))
    assert background.tolist() == list(range(100, 200)) and set(changed) < set(range(100))


def test_the_sample_follows_the_seed(scan):
    first, second, other = (drift.choose(scan, drift.Settings(seed=s, background=40))[0] for s in (1, 1, 2))
    assert first.tolist() == second.tolist() != other.tolist()


def test_rows_are_read_in_the_order_asked_for(study):
    positions = np.array([7, 3, 199, 4])
    np.testing.assert_array_equal(drift._rows(study.pair.before, positions), study.pair.before.storage[positions])
    halves = (study.pair.before.storage.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 by truncation
    read = drift._rows(ArrayMatrix(halves, "bfloat16"), positions)
    assert read.dtype == np.float64
    np.testing.assert_allclose(read, study.pair.before.storage[positions], rtol=2**-7)


def test_shares_are_those_of_a_singular_value_decomposition():
    rows = np.random.default_rng(3).standard_normal((50, 6)) * np.arange(1, 7)
    xy, explained = drift._pca(rows, 2)
    singular = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(explained, singular[:2] ** 2 / (singular**2).sum())
    np.testing.assert_allclose(np.linalg.norm(xy, axis=0), singular[:2])


def test_rows_of_one_value_lie_on_a_line():
    xy, explained = drift._pca(np.array([[1.0], [-2.0], [3.0]]), 2)
    np.testing.assert_array_equal(xy, [[1, 0], [-2, 0], [3, 0]])
    assert explained == [1.0, 0.0]


def test_a_pca_is_found_whatever_the_settings_of_umap(study, scan):
    made = drift.project(study, scan, drift.Settings(neighbors=5))
    kept = drift.cached(study, drift.Settings(neighbors=50))
    np.testing.assert_array_equal(kept.after_xy, made.after_xy)
    assert "neighbors" not in str(made.signature) and "umap" not in str(made.signature)
    assert drift.cached(study, drift.Settings(seed=1)) is None
    assert drift.cached(study, drift.Settings("umap")) is None


def test_a_umap_that_is_cancelled_leaves_nothing_behind(study, scan):
    import numba
    import umap.layouts

    tqdm, threads = umap.layouts.tqdm, numba.get_num_threads()

    def stop(done, total, message):
        if "epochs" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        drift.project(study, scan, drift.Settings("umap", neighbors=5), stop)
    assert umap.layouts.tqdm is tqdm and numba.get_num_threads() == threads
    assert study.cache.entries() == []


def test_too_few_points_for_a_umap_are_said_before_it_is_loaded(study, scan):
    with pytest.raises(SettingsError, match="Choose PCA"):
        drift.project(study, moved(study, scan, [0]), drift.Settings("umap", background=2, changed=1))


def test_the_job_makes_the_map_that_the_page_then_finds(study, scan, monkeypatch):
    study.scan = lambda progress: scan
    monkeypatch.setattr(drift, "Study", lambda base, tuned, device: study)
    told = []
    running = SimpleNamespace(progress=lambda done, total, message, stage: told.append((done, total, stage)))
    result = drift.run_drift({"base": "a", "tuned": "b", "settings": {"method": "pca", "background": 20}}, running)
    assert result["points"] == 20 + 2 * 40 and told[-1] == (1, 1, "done")
    kept = drift.cached(study, drift.Settings(background=20))
    assert kept is not None and str(kept.signature) == result["signature"]


def test_each_method_says_what_its_map_does_not_mean():
    assert set(drift.EXPLANATION) == set(drift.METHODS)
    assert "length of an arrow is not" in drift.EXPLANATION["umap"]

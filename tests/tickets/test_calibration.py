"""Calibration: known truths come out as known, the sentences follow the numbers, and nothing half done is kept."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import Cancelled, PairError, SettingsError
from ks_core.ks.statistic import critical_value, ks_test, pvalue_table
from ks_core.signature import Signature
from ks_core.store.cache import Cache
from ks_core.study.critical import critical_sentence, critical_values
from ks_core.study.scan import Scan
from ks_core.tickets import calibration
from ks_core.tickets.calibration import Case, Settings, calibrate
from ks_core.tickets.changed import NEEDS
from ks_core.tickets.null import Null

DIM = 64
SMALL = Settings(rows=300)


def pair_of(before, after, folder, tuned="tuned"):
    """A study of two matrices and its scan, without checkpoints."""
    r = ks_test(before, after, with_shift=True)
    ids = np.arange(len(before))
    scan = Scan(ids, ids, r.counts, r.pvalue, r.l2, r.cosine, before.shape[1], Signature({}), "cpu", 0.0)
    study = SimpleNamespace(
        pair=SimpleNamespace(before=ArrayMatrix(before), after=ArrayMatrix(after), tuned_rows=ArrayMatrix(after)),
        base=SimpleNamespace(content_hash="base", label="base", vocabulary=None), base_source="base", tuned_source=tuned,
        token_strings=lambda: None,
        tuned=SimpleNamespace(content_hash=tuned, label=tuned),
        cache=Cache(folder / "cache"), key={"tuned": tuned}, signature=Signature({"base": "a"}),
        device="cpu", scan=lambda *_: scan,
    )  # fmt: skip
    return study, scan


@pytest.fixture(scope="module")
def matrices():
    generator = np.random.default_rng(0)
    before = generator.standard_normal((400, DIM)).astype(np.float32)
    after = before.copy()
    after[:100] += 1  # far beyond what is needed
    return before, after


@pytest.fixture(scope="module")
def made(matrices, tmp_path_factory):
    study, scan = pair_of(*matrices, tmp_path_factory.mktemp("made"))
    return calibrate(study, scan, SMALL)


def test_known_truths_come_out(made):
    assert (made.case("identical").pvalues == 1).all() and (made.case("permuted").pvalues == 1).all()
    low, high = made.case("independent").interval(0.05)
    assert low <= 0.05 and high > 0.01  # resampled values tie, so a little less than alpha
    assert 0.4 < made.case("independent").median < 0.75
    medians = [c.median for c in made.cases if c.size]
    assert medians == sorted(medians, reverse=True) and medians[0] > 0.999
    assert len(made.case("pair").pvalues) == 100 and made.case("pair").share_below(0.05) == 1


def test_the_rows_of_the_cases_are_real_rows(matrices):
    rows = matrices[0][:5].astype(float)
    generator = np.random.default_rng(1)
    first, second = calibration._samples(rows, "independent", 0.0, generator)
    for i in range(5):
        assert set(first[i]) <= set(rows[i]) and set(second[i]) <= set(rows[i]) and set(first[i]) != set(second[i])
    before, after = calibration._samples(rows, "permuted", 0.0, generator)
    assert (np.sort(after) == np.sort(before)).all() and (after != before).any()
    before, after = calibration._samples(rows * [[1], [10], [100], [1], [1]], "noise 0.3", 0.3, generator)
    relative = (after - before).std(axis=1) / before.std(axis=1)
    np.testing.assert_allclose(relative, 0.3, rtol=0.35)  # of each row's own spread, whatever its unit


def test_continuous_independent_samples_have_the_exact_false_positive_rate():
    first, second = np.random.default_rng(2).standard_normal((2, 4000, DIM))
    case = Case("independent", "", ks_test(first, second).pvalue)
    low, high = case.interval(0.05)
    assert low <= pvalue_table(DIM)[round(critical_value(DIM, 0.05) * DIM)] <= high


def test_the_wilson_interval_is_the_textbook_one():
    low, high = Case("x", "", np.array([0.01] * 3 + [0.5] * 7)).interval(0.05)
    assert (low, high) == (pytest.approx(0.1078, abs=1e-4), pytest.approx(0.6032, abs=1e-4))


def test_the_wilson_interval_does_not_pass_the_ends_of_a_share():
    """Without a row below alpha, or with all, one end is the share itself; rounding put it beyond 0 or 1 for some sizes."""
    for n in range(1, 400):
        assert Case("x", "", np.ones(n)).interval(0.05)[0] == 0.0
        assert Case("x", "", np.zeros(n)).interval(0.05)[1] == 1.0


def test_power_is_that_of_the_test(made, matrices):
    k = round(critical_value(DIM, 0.05) * DIM)
    rows = np.asarray(matrices[0], float)
    for target, size in ((0.5, made.power("shift", "dependent").half), (0.8, made.power("shift", "dependent").eighty)):
        seen = (ks_test(rows, rows + size * rows.std(axis=1, keepdims=True)).counts >= k).mean()
        assert seen == pytest.approx(target, abs=0.08)  # other rows of the same kind
    free = made.power("shift", "independent")
    first, second = np.random.default_rng(9).standard_normal((2, 2000, DIM))
    assert (ks_test(first, second + free.half).counts >= k).mean() == pytest.approx(0.5, abs=0.08)
    noise, free_noise = made.power("noise", "dependent"), made.power("noise", "independent")
    seen = (ks_test(rows, rows + noise.half * np.random.default_rng(3).standard_normal(rows.shape)).counts >= k).mean()
    assert seen == pytest.approx(0.5, abs=0.1)
    wide = second * np.sqrt(1 + free_noise.half**2)
    assert (ks_test(first, wide).counts >= k).mean() == pytest.approx(0.5, abs=0.1)
    for power in made.powers:
        assert power.half < power.eighty and (np.diff(power.sizes) > 0).all()
        at = dict(zip(power.sizes, power.power, strict=True))  # both are points of the curve
        assert 0.5 <= at[power.half] < 0.53 and 0.8 <= at[power.eighty] < 0.83
    # A shift moves all values one way; noise has to be as large as the row.
    assert noise.half > 2 * made.power("shift", "dependent").half


def test_where_no_d_wins_there_is_no_power(tmp_path):
    before = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    study, scan = pair_of(before, before, tmp_path)
    found = calibrate(study, scan, Settings(rows=40))
    assert all(np.isinf(p.half) and (p.power == 0).all() for p in found.powers)
    assert "no shift brings half" in found.power_sentence
    assert len(found.case("pair").pvalues) == 0 and "no such row" in found.case_sentence(found.case("pair"))
    (critical,) = critical_values(scan, [0.05])
    assert np.isinf(critical.exact) and np.isnan(critical.attained) and critical.rows == 0
    assert "no D can win" in critical_sentence([critical])


def test_how_far_the_rows_moved(made, matrices):
    before, after = (np.asarray(m[:100], float) for m in matrices)
    expected = np.sqrt(((after - before) ** 2).mean(axis=1)) / before.std(axis=1)
    np.testing.assert_allclose(np.sort(made.moved), np.sort(expected), rtol=1e-5)


def test_the_sentences_follow_the_numbers(made):
    pair, free = made.case("pair"), made.case("independent")
    assert "100 of 100 rows (100.0%)" in made.case_sentence(pair) and "more than among" in made.case_sentence(pair)
    other = replace(pair, pvalues=np.ones(1000))
    assert "0 of 1,000 rows" in made.case_sentence(other) and "fewer than among" in made.case_sentence(other)
    broken = replace(made.case("identical"), pvalues=np.array([1.0, 0.2]))
    assert "distrust" in made.case_sentence(broken) and "p is 1 for all" in made.case_sentence(made.case("identical"))
    noisy = made.case("noise 0.3")
    assert "hardly ever" in made.case_sentence(noisy)
    assert "in most rows" in made.case_sentence(replace(noisy, pvalues=np.full(50, 0.001)))
    for pvalues, words in (
        (np.full(300, 0.01), "less than the false-positive rate"),
        (np.full(300, 0.9), "bounds the false-positive rate from above"),
        (np.linspace(0, 1, 300), "alpha is the false-positive rate"),
    ):
        changed = replace(made, cases=tuple(replace(free, pvalues=pvalues) if c is free else c for c in made.cases))
        assert words in changed.case_sentence(changed.case("independent")) and words in changed.pvalue_sentence
    assert "noise of 0.3 standard deviations" in made.pvalue_sentence
    seen = replace(made, cases=tuple(replace(c, pvalues=np.zeros(9)) if c.size else c for c in made.cases))
    assert "noise of any size tried" in seen.pvalue_sentence
    assert "more than either" not in made.power_sentence
    assert "more than either" in replace(made, moved=np.full(3, 50.0)).power_sentence
    assert "less than either" in replace(made, moved=np.full(3, 1e-3)).power_sentence
    assert "no row of the pair changed" in replace(made, moved=np.zeros(0)).power_sentence


def test_it_repeats_itself_and_the_seed_decides(matrices, made, tmp_path):
    study, scan = pair_of(*matrices, tmp_path)
    again, other = calibrate(study, scan, SMALL), calibrate(study, scan, replace(SMALL, seed=1))
    for a, b in zip(made.cases, again.cases, strict=True):
        np.testing.assert_array_equal(a.pvalues, b.pvalues)
    assert [p.half for p in made.powers] == [p.half for p in again.powers]
    assert (other.case("independent").pvalues != again.case("independent").pvalues).any()
    fewer = calibrate(study, scan, replace(SMALL, noises=(0.3,)))
    np.testing.assert_array_equal(fewer.case("noise 0.3").pvalues, again.case("noise 0.3").pvalues)
    assert str(again.signature) != str(other.signature) and "seed:1" in str(other.signature)


def test_what_was_made_is_found_again(matrices, tmp_path, monkeypatch):
    study, scan = pair_of(*matrices, tmp_path)
    assert calibration.cached(study, SMALL) is None
    made = calibrate(study, scan, SMALL)
    monkeypatch.setattr(calibration, "ks_test", None)  # nothing is computed from here on
    kept = calibrate(study, scan, SMALL)
    assert kept.power_sentence == made.power_sentence and kept.signature == made.signature
    assert [c.label for c in kept.cases] == [c.label for c in made.cases]
    assert calibration.cached(study, replace(SMALL, alpha=0.01)) is None


@pytest.mark.parametrize("at", ["p-values", "power"])
def test_it_stops_when_asked_and_keeps_nothing(matrices, tmp_path, at):
    study, scan = pair_of(*matrices, tmp_path)

    def stop(done, total, message):
        if message.startswith(at):
            raise Cancelled

    with pytest.raises(Cancelled):
        calibrate(study, scan, SMALL, report=stop)
    assert study.cache.entries() == []


def test_progress_rises_to_the_end(matrices, tmp_path):
    told = []
    calibrate(*pair_of(*matrices, tmp_path), SMALL, report=lambda done, total, message: told.append((done, total)))
    done = [d for d, _ in told]
    assert done == sorted(done) and told[-1][0] == told[-1][1] and len({t for _, t in told}) == 1


def test_tuned_against_tuned(matrices, tmp_path):
    before, after = matrices
    second = before.copy()
    second[50:150] += 1
    study, scan = pair_of(before, after, tmp_path)
    other, _ = pair_of(before, second, tmp_path, tuned="second")
    found = calibrate(study, scan, SMALL, other)
    seeds = found.case("seeds")
    # Rows 0 to 149 are changed by either; 50 to 99 by both, and alike.
    assert len(seeds.pvalues) == 150 and (seeds.pvalues == 1).sum() == 50 and seeds.share_below(0.05) == 100 / 150
    assert "less often than tuned and base (100.0%)" in found.case_sentence(seeds)
    assert "other:second" in str(found.signature)
    assert calibration.cached(study, SMALL) is None  # the one without a second checkpoint is another


def test_a_second_checkpoint_that_does_not_fit(matrices, tmp_path):
    study, scan = pair_of(*matrices, tmp_path)
    with pytest.raises(PairError, match="first one again"):
        calibrate(study, scan, SMALL, study)
    other, _ = pair_of(*matrices, tmp_path, tuned="second")
    other.base = SimpleNamespace(content_hash="another", label="another")
    with pytest.raises(PairError, match="another base"):
        calibrate(study, scan, SMALL, other)


def test_constant_rows_are_left_out_and_counted(matrices, tmp_path):
    before = matrices[0].copy()
    before[200:] = 0
    study, scan = pair_of(before, before, tmp_path)
    found = calibrate(study, scan, Settings(rows=400))
    assert (found.sampled, found.constant) == (400, 200) and len(found.case("permuted").pvalues) == 200
    study, scan = pair_of(np.ones((30, 8), np.float32), np.ones((30, 8), np.float32), tmp_path, tuned="flat")
    with pytest.raises(SettingsError, match="constant"):
        calibrate(study, scan, SMALL)


@pytest.mark.parametrize(
    "bad", [{"rows": 5}, {"noises": (0.1, 0.1)}, {"noises": (-1,)}, {"alpha": 1}, {"seed": -1}, {"noises": (np.nan,)}]
)
def test_settings_that_cannot_be(bad):
    with pytest.raises(SettingsError):
        Settings(**bad)


def test_rows_of_bfloat16_are_read(matrices, tmp_path):
    study, scan = pair_of(*matrices, tmp_path)
    halves = (matrices[0].view(np.uint32) >> 16).astype(np.uint16)
    study.pair.before = ArrayMatrix(halves, "bfloat16")
    assert calibrate(study, scan, SMALL).power("shift", "dependent").half == pytest.approx(0.49, abs=0.1)


def test_the_job_makes_what_the_page_then_finds(matrices, tmp_path, monkeypatch):
    study, _ = pair_of(*matrices, tmp_path)
    other, _ = pair_of(matrices[0], matrices[0] + 1, tmp_path, tuned="second")
    monkeypatch.setattr(calibration, "Study", lambda base, tuned, device: {"tuned": study, "second": other}[tuned])
    told = []
    running = SimpleNamespace(progress=lambda done, total, message, **more: told.append(done / total))
    asked = {"base": "base", "tuned": "tuned", "other": "second", "settings": {"rows": 300, "noises": [0.1]}}
    result = calibration.run_calibration(asked, running)
    kept = calibration.cached(study, Settings(rows=300, noises=(0.1,)), other)
    assert kept is not None and result.pop("noise") == NEEDS["training"].about, "these matrices have no training"
    assert result == {"rows": 300, "signature": str(kept.signature)} and told[-1] == 1


def test_a_training_on_noise_stands_beside_the_pair(made):
    """Of four rows three win. Two of them do on noise as well, in every draw, and of these one goes beyond it."""
    null = Null(np.arange(4), np.array([[40, 40, 2, 3], [41, 42, 1, 4]] * 20), DIM)
    found = made.with_null(null, np.array([50, 41, 30, 2]) / DIM)
    case = found.case("null")
    said = found.case_sentence(case)
    assert said.startswith("80 of 160 rows (50.0%)") and said.endswith(
        "as in the pair (100.0%), and there was nothing to learn."
    )
    np.testing.assert_array_equal(null.reaching(42 / DIM), [0, 0.5, 0, 0])
    told = found.null_sentence
    assert (
        "Of 4 trained rows 3 have p < 0.05; trained on noise 2 (2 to 2 in 40 draws), of which 2 are the same." in told
    )
    assert "2 rows go beyond 95% of noise" in told and "2 of them are among the winners" in told
    assert "null:40" in str(found.signature) and made.null_sentence == "" and "null" not in str(made.signature)
    assert null.summary(np.array([50, 41, 30, 2]) / DIM)["same"] == [0, 1]
    one = made.with_null(null, np.array([50, 41, 30, 2]) / DIM, np.array([False, False, True, True]))
    assert "1 of them are among the ticket's 2," in one.null_sentence

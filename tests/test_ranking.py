"""The ranking: the regression is the textbook's, the adjustment does what it says, and gaps are counted."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import Cancelled, SettingsError
from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.study.scan import Scan
from ks_core.tickets import ranking
from ks_core.tickets.ranking import explain, regress, spearman, table
from ks_core.tuning.trainings import steps_seen

N, DIM = 120, 50


@pytest.fixture
def numbers():
    """D made from the count: k = 4 log2(count) and a little more; ids are positions + 1000."""
    generator = np.random.default_rng(0)
    before = generator.standard_normal((N, DIM)).astype(np.float32) * generator.uniform(0.5, 2, (N, 1))
    counts = 2 ** generator.integers(0, 10, N)
    k = (4 * np.log2(counts) + generator.integers(1, 5, N)).astype(np.int32)
    k[100:] = 0  # did not change
    ids = np.arange(N) + 1000
    scan = Scan(ids, ids, k, pvalue_table(DIM)[k], k / 10.0, np.ones(N), DIM, Signature({}), "cpu", 0.0)
    study = SimpleNamespace(pair=SimpleNamespace(before=ArrayMatrix(before)), signature=Signature({"base": "a"}))
    return study, scan, {int(i): int(c) for i, c in zip(ids, counts, strict=True)}


def test_a_regression_by_hand():
    # y = 1 + 2x with residuals +1, -1, -1, +1 that are orthogonal to x, repeated.
    x, noise = np.tile([0.0, 1, 2, 3], 10), np.tile([1.0, -1, -1, 1], 10)
    found = regress(1 + 2 * x + noise, {"x": x})
    (effect,) = found.effects
    assert effect.slope == pytest.approx(2) and effect.coefficient == pytest.approx(2 * x.std() / np.sqrt(5 + 1))
    assert found.r2 == pytest.approx(5 / 6)
    np.testing.assert_allclose(found.residual, noise, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_one_variable_is_as_in_scipy(seed):
    generator = np.random.default_rng(seed)
    x, noise = generator.standard_normal((2, 40))
    y = 3 * x * generator.uniform(-1, 1) + noise
    found, expected = regress(y, {"x": x}), stats.linregress(x, y)
    (effect,) = found.effects
    assert effect.slope == pytest.approx(expected.slope) and effect.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert effect.coefficient == pytest.approx(expected.rvalue) and found.r2 == pytest.approx(expected.rvalue**2)
    half = stats.t.ppf(0.975, 38) * expected.stderr * x.std() / y.std()
    assert (effect.low, effect.high) == (
        pytest.approx(effect.coefficient - half),
        pytest.approx(effect.coefficient + half),
    )


@given(st.integers(0, 2**32 - 1))
def test_several_variables_solve_the_normal_equations(seed):
    generator = np.random.default_rng(seed)
    xs = {name: generator.standard_normal(60) for name in "abc"}
    y = xs["a"] - 0.5 * xs["b"] + generator.standard_normal(60)
    found = regress(y, xs)
    design = np.column_stack([np.ones(60), *xs.values()])
    b = np.linalg.solve(design.T @ design, design.T @ y)
    np.testing.assert_allclose([e.slope for e in found.effects], b[1:], atol=1e-9)
    np.testing.assert_allclose(found.residual, y - design @ b, atol=1e-9)
    variance = ((y - design @ b) ** 2).sum() / 56 * np.linalg.inv(design.T @ design)
    t = b[1:] / np.sqrt(np.diag(variance)[1:])
    np.testing.assert_allclose([e.p for e in found.effects], 2 * stats.t.sf(np.abs(t), 56), atol=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        x, noise = generator.standard_normal((2, 25))
        (effect,) = regress(0.4 * x + noise, {"x": x}).effects
        factor = effect.slope / effect.coefficient
        inside += effect.low * factor <= 0.4 <= effect.high * factor
    assert 0.91 < inside / 300 < 0.985


def test_constant_and_collinear_variables_are_left_out_with_a_note():
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((2, 50))
    found = regress(a + b, {"a": a, "flat": np.full(50, 0.1), "again": 3 * a + 1, "b": b, "sum": a + b})
    assert [e.variable for e in found.effects] == ["a", "b"] and found.r2 == pytest.approx(1)
    assert found.left_out[0].startswith("flat is left out: it is the same")
    assert found.left_out[1] == "again is left out: 100.0% of its variance is that of a."
    assert found.left_out[2] == "sum is left out: 100.0% of its variance is that of a, b."
    nothing = regress(np.full(50, 0.3), {"a": a})
    assert nothing.effects == () and nothing.r2 == 0 and "same for all rows" in nothing.left_out[0]
    with pytest.raises(SettingsError, match="a holds NaN"):
        regress(b, {"a": np.full(50, np.nan)})


def test_the_count_is_found_and_adjusted_for(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, counts)
    assert found.changed == 100 == len(found.token_ids) and found.untrained == found.incomplete == 0
    log = np.log([counts[int(i)] for i in found.token_ids])
    np.testing.assert_allclose(found.variables["log count"], log)
    rho, p = stats.spearmanr(log, found.statistic)
    assert (found.correlation("log count").rho, found.correlation("log count").p) == (rho, p) and rho > 0.9
    assert found.effect("log count").low > 0.8 and found.effect("log count").slope == pytest.approx(
        4 / np.log(2) / DIM, rel=0.05
    )
    assert abs(np.corrcoef(log, found.adjusted)[0, 1]) < 1e-9  # what was explained is gone
    assert "partly frequency" in found.count_sentence and "log count +0.9" in found.effect_sentence
    kept = len(set(found.token_ids[:18]) & set(found.token_ids[np.argsort(-found.adjusted)[:18]]))
    assert found.staying(18) == kept < 18 and f"{kept} stay" in found.adjusted_sentence
    assert f"the other {18 - kept} owe" in found.adjusted_sentence


def test_rows_stand_in_the_order_of_d(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, counts)
    assert found.token_ids.tolist() == scan.token_ids[scan.order()[:100]].tolist()
    assert found.rank.tolist() == list(range(1, 101)) == sorted(found.adjusted_rank)
    assert (np.diff(found.adjusted[np.argsort(found.adjusted_rank)]) <= 0).all()
    rows = study.pair.before.storage[found.token_ids - 1000].astype(float)
    np.testing.assert_allclose(found.variables["base norm"], np.linalg.norm(rows, axis=1))
    np.testing.assert_allclose(found.variables["base std"], rows.std(axis=1))
    assert any(note.startswith("base std is left out") for note in found.notes)  # the norm says the same


def test_who_takes_part_is_counted(numbers):
    study, scan, counts = numbers
    for token in range(1000, 1030):
        del counts[token]
    counts[1030] = 0
    first = {token: 1 + token % 7 for token in range(1000, 1120) if token not in (1040, 1041)}
    found = explain(study, scan, counts, first_step=first, prompt_ids={1050, 1060})
    assert (found.changed, found.untrained, found.incomplete, len(found.token_ids)) == (100, 31, 2, 67)
    assert set(found.token_ids[found.variables["in prompt"] == 1]) == {1050, 1060}
    assert found.variables["first step"].tolist() == [first[int(i)] for i in found.token_ids]
    assert "last step" not in found.variables and "first step" in str(found.signature)


def test_a_prompt_effect_is_told_from_frequency(numbers):
    study, scan, counts = numbers
    generator = np.random.default_rng(3)
    prompt = {int(i) for i in generator.choice(scan.token_ids[:100], 20, replace=False)}
    k = scan.counts + np.isin(scan.token_ids, list(prompt)).astype(np.int32) * 8
    found = explain(study, replace(scan, counts=k), counts, prompt_ids=prompt)
    effect = found.effect("in prompt")
    assert effect.low > 0 and effect.slope == pytest.approx(8 / DIM, rel=0.1)
    # Without the prompt among the variables its tokens come first in what is left; with it they do not.
    blind = explain(study, replace(scan, counts=k), counts)
    assert len(prompt & set(blind.token_ids[blind.adjusted_rank <= 20].tolist())) >= 15
    assert len(prompt & set(found.token_ids[found.adjusted_rank <= 20].tolist())) < 10


def test_an_empty_prompt_and_equal_counts_are_constants(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, dict.fromkeys(counts, 3), prompt_ids=[])
    assert found.correlation("log count") is None and found.effect("in prompt") is None
    assert len([n for n in found.notes if "same for all rows" in n]) == 2
    assert "equally often" in found.count_sentence


def test_the_sentences_follow_the_numbers(numbers):
    study, scan, counts = numbers
    found = explain(study, scan, counts)
    shuffled = np.random.default_rng(0).permutation(list(counts.values()))
    weak = explain(study, scan, {i: int(c) for i, c in zip(counts, shuffled, strict=True)})
    assert "hardly knows" in weak.count_sentence
    opposite = replace(found, correlations=(replace(found.correlations[0], rho=-0.7),))
    assert "the less its row moved" in opposite.count_sentence
    unclear = replace(found, effects=tuple(replace(e, low=-1.0, high=1.0) for e in found.effects))
    assert "no variable's interval excludes 0" in unclear.effect_sentence


def test_too_few_rows_are_said(numbers):
    study, scan, counts = numbers
    few = {i: counts[i] for i in range(1000, 1012)}
    with pytest.raises(SettingsError, match=r"12 rows can take part \(100 rows changed, 12 of them with a training"):
        explain(study, scan, few)
    with pytest.raises(SettingsError, match="at least 20"):
        regress(np.arange(5.0), {"x": np.arange(5.0)})


def test_it_can_be_stopped(numbers):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        explain(*numbers, report=stop)


def test_large_bases_are_read_in_blocks(numbers, monkeypatch):
    whole = explain(*numbers)
    monkeypatch.setattr(ranking, "blocks", lambda rows, _: [(i, min(i + 7, rows)) for i in range(0, rows, 7)])
    np.testing.assert_array_equal(explain(*numbers).variables["base norm"], whole.variables["base norm"])


def test_spearman_by_hand_and_where_there_is_none():
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 30, 20, 40]))[0] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert np.isnan(spearman(np.ones(5), np.arange(5.0))[0]) and np.isnan(spearman(np.arange(2.0), np.arange(2.0))[0])


def test_steps_by_hand():
    first, last = steps_seen([[5, 6], [6], [7, 5]], order=[1, 0, 2, 1, 1], batch_size=2)
    assert first == {6: 1, 5: 1, 7: 2} and last == {6: 3, 5: 2, 7: 2}


def test_the_table_is_for_people(numbers):
    found = explain(*numbers, prompt_ids=[1000])
    frame = table(found, None)
    assert frame.columns[:7].tolist() == [
        "token_id",
        "token",
        "rank",
        "statistic",
        "adjusted_rank",
        "adjusted",
        "count",
    ]
    assert (
        frame["count"].tolist() == [numbers[2][i] for i in frame.token_id]
        and frame.token[0] == f"(id {frame.token_id[0]})"
    )
    assert table(found, [f"t{i}" for i in range(1200)]).token[0] == f"t{frame.token_id[0]}"

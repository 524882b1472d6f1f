"""The regression: coefficients are the textbook's, intervals hold where the spread is uneven, and what has no part is named."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from ks_core.errors import SettingsError
from ks_core.tickets.regression import regress


def test_a_regression_by_hand():
    # y = 1 + 2x with residuals +1, -1, -1, +1 that are orthogonal to x, repeated.
    x, noise = np.tile([0.0, 1, 2, 3], 10), np.tile([1.0, -1, -1, 1], 10)
    found = regress(1 + 2 * x + noise, {"x": x})
    (effect,) = found.effects
    assert effect.slope == pytest.approx(2) and effect.coefficient == pytest.approx(2 * x.std() / np.sqrt(5 + 1))
    assert found.r2 == pytest.approx(5 / 6)
    np.testing.assert_allclose(found.residual, noise, atol=1e-12)


def test_hc3_by_hand():
    # As above: e² is 1 everywhere, the leverage is 1/40 + (x - 1.5)²/50, so 0.07 at the ends and 0.03 within.
    x, noise = np.tile([0.0, 1, 2, 3], 10), np.tile([1.0, -1, -1, 1], 10)
    (effect,) = regress(1 + 2 * x + noise, {"x": x}).effects
    error = np.sqrt(20 * 1.5**2 / 0.93**2 + 20 * 0.5**2 / 0.97**2) / 50
    half = stats.t.ppf(0.975, 38) * error * effect.coefficient / effect.slope
    assert (effect.low, effect.high) == (
        pytest.approx(effect.coefficient - half),
        pytest.approx(effect.coefficient + half),
    )
    assert effect.p == pytest.approx(2 * stats.t.sf(2 / error, 38))


@given(st.integers(0, 2**32 - 1))
def test_one_variable_is_as_in_scipy(seed):
    generator = np.random.default_rng(seed)
    x, noise = generator.standard_normal((2, 40))
    y = 3 * x * generator.uniform(-1, 1) + noise
    found, expected = regress(y, {"x": x}), stats.linregress(x, y)
    (effect,) = found.effects
    assert effect.slope == pytest.approx(expected.slope)
    assert effect.coefficient == pytest.approx(expected.rvalue) and found.r2 == pytest.approx(expected.rvalue**2)


@given(st.integers(0, 2**32 - 1))
def test_hc3_is_what_leaving_each_row_out_changes(seed):
    """The identity behind it: its variance is the sum of the squares of those changes (MacKinnon and White 1985)."""
    generator = np.random.default_rng(seed)
    xs = {name: generator.standard_normal(30) for name in "ab"}
    y = xs["a"] + generator.standard_normal(30) * (1 + np.abs(xs["b"]))
    design = np.column_stack([np.ones(30), *xs.values()])
    whole = np.linalg.lstsq(design, y, rcond=None)[0]
    kept = ~np.eye(30, dtype=bool)
    changes = np.array([np.linalg.lstsq(design[k], y[k], rcond=None)[0] - whole for k in kept])
    errors = np.sqrt((changes**2).sum(axis=0))[1:]
    for effect, error in zip(regress(y, xs).effects, errors, strict=True):
        half = (effect.high - effect.low) / 2 * effect.slope / effect.coefficient
        assert half == pytest.approx(stats.t.ppf(0.975, 27) * error)


@pytest.mark.parametrize("seed", range(5))
def test_hc3_is_as_in_statsmodels(seed):
    api = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(seed)
    xs = {name: generator.standard_normal(40) for name in "abc"}
    y = xs["a"] + generator.standard_normal(40) * (1 + np.abs(xs["b"]))
    expected = api.OLS(y, api.add_constant(np.column_stack(list(xs.values())))).fit(cov_type="HC3", use_t=True)
    found = regress(y, xs)
    np.testing.assert_allclose([e.slope for e in found.effects], expected.params[1:])
    np.testing.assert_allclose([e.p for e in found.effects], expected.pvalues[1:], rtol=1e-6, atol=1e-12)
    slopes = np.array([e.slope / e.coefficient for e in found.effects])
    np.testing.assert_allclose(
        [e.low for e in found.effects] * slopes, expected.conf_int()[1:, 0], rtol=1e-6, atol=1e-9
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
    inverse = np.linalg.inv(design.T @ design)
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    weights = ((y - design @ b) / (1 - leverage)) ** 2
    variance = inverse @ (design.T * weights) @ design @ inverse
    t = b[1:] / np.sqrt(np.diag(variance)[1:])
    np.testing.assert_allclose([e.p for e in found.effects], 2 * stats.t.sf(np.abs(t), 56), atol=1e-12)


@pytest.mark.parametrize("uneven", [False, True])
def test_the_interval_covers_the_truth_as_often_as_it_says(uneven):
    """Also where the spread grows with the variable, as that of D does with the steps."""
    generator = np.random.default_rng(5)
    inside = textbook = 0
    for _ in range(400):
        x, noise = generator.standard_normal((2, 40))
        y = 0.4 * x + noise * (np.abs(x) if uneven else 1)
        (effect,) = regress(y, {"x": x}).effects
        factor = effect.slope / effect.coefficient
        inside += effect.low * factor <= 0.4 <= effect.high * factor
        plain = stats.linregress(x, y)
        textbook += abs(plain.slope - 0.4) <= stats.t.ppf(0.975, 38) * plain.stderr
    assert 0.92 < inside / 400 < 0.985
    assert (textbook / 400 < 0.85) == uneven, "which the textbook's interval does not"


def test_a_variable_that_rests_on_one_row_is_left_out():
    """Its coefficient is that row's alone, and what it would be without the row cannot be said."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal(50)
    found = regress(
        a + generator.standard_normal(50), {"a": a, "one": np.eye(50)[7], "two": np.eye(50)[7] + np.eye(50)[9]}
    )
    assert [e.variable for e in found.effects] == ["a", "two"] and all(np.isfinite(e.low) for e in found.effects)
    assert found.left_out == ("one is left out: it tells one row from the others and nothing else.",)


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


def test_too_few_rows_are_said():
    with pytest.raises(SettingsError, match="at least 20"):
        regress(np.arange(5.0), {"x": np.arange(5.0)})

"""Each statistic is scipy's, row by row, ties and all."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from ks_core.errors import PairError
from ks_core.study import statistics

ROWS, WIDTH = 24, 33


def matrices(seed, step, width=WIDTH):
    """Two matrices whose values are multiples of ``step`` (0: of nothing), so that many are equal; some rows are alike."""
    drawn = np.random.default_rng(seed)
    before, moved = drawn.normal(0, 1, (ROWS, width)), drawn.normal(0.1, 0.5, (ROWS, width))
    after = before + moved * (drawn.random((ROWS, width)) < 0.7)
    if step:
        before, after = np.round(before / step) * step, np.round(after / step) * step
    after[:3] = before[:3]
    after[3] = before[3][::-1]  # the same values in another order
    return before, after


def anderson(a, b):
    """scipy's A2 before it is standardized, which the width alone decides: its mean is 1."""
    own = stats.anderson_ksamp([a, b], variant="midrank", method=STILL).statistic
    n, sizes = len(a) + len(b), np.array([len(a), len(b)])
    # Scholz and Stephens (1987), equation 4, for two samples.
    heights = np.cumsum(1.0 / np.arange(n - 1, 0, -1))
    h, g = heights[-1], 0.0
    for i in range(1, n - 1):
        g += sum(1.0 / ((n - i) * j) for j in range(i + 1, n))
    big = (1 / sizes).sum()
    a1 = (4 * g - 6) + (10 - 6 * g) * big
    b1 = (2 * g - 4) * 4 + 16 * h + (2 * g - 14 * h - 4) * big - 8 * h + 4 * g - 6
    c1 = (6 * h + 2 * g - 2) * 4 + (4 * h - 4 * g + 6) * 2 + (2 * h - 6) * big + 4 * h
    d1 = (2 * h + 6) * 4 - 8 * h
    variance = (a1 * n**3 + b1 * n**2 + c1 * n + d1) / ((n - 1.0) * (n - 2.0) * (n - 3.0))
    return own * np.sqrt(variance) + 1


STILL = stats.PermutationMethod(n_resamples=9, rng=np.random.default_rng(0))

SCIPY = {
    "wasserstein": stats.wasserstein_distance,
    "energy": stats.energy_distance,
    "cramer_von_mises": lambda a, b: stats.cramervonmises_2samp(a, b, method="asymptotic").statistic,
    "anderson_darling": anderson,
    "sign_test": lambda a, b: (
        -np.log10(stats.binomtest(int((b > a).sum()), int((b != a).sum())).pvalue) if (b != a).any() else 0.0
    ),
    "wilcoxon": lambda a, b: (
        abs(stats.wilcoxon(b - a, method="asymptotic", correction=False).zstatistic) if (b != a).any() else 0.0
    ),
    "l2": lambda a, b: np.linalg.norm(b - a),
    "relative_l2": lambda a, b: np.linalg.norm(b - a) / np.linalg.norm(a),
    "mean_shift": lambda a, b: abs(b.mean() - a.mean()),
}


@pytest.mark.parametrize("step", [0, 0.1, 1.0], ids=["no ties", "ties", "hardly anything but ties"])
@pytest.mark.parametrize("name", SCIPY)
def test_each_is_scipys(name, step):
    before, after = matrices(7, step)
    found = statistics.in_blocks(getattr(statistics, name), before, after)
    wanted = [SCIPY[name](a, b) for a, b in zip(before, after, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    assert len(set(np.round(found, 9))) > 3, "or it would be one number for all"


@settings(derandomize=True, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.5, 2.0]), st.integers(2, 40))
def test_the_ranks_are_right_for_any_ties(seed, step, width):
    before, after = matrices(seed, step, width)
    for name in ("cramer_von_mises", "energy", "wasserstein"):
        wanted = [SCIPY[name](a, b) for a, b in zip(before, after, strict=True)]
        np.testing.assert_allclose(getattr(statistics, name)(before, after), wanted, rtol=1e-8, atol=1e-8)


def test_blocks_change_nothing_and_rows_that_did_not_change_are_0(monkeypatch):
    before, after = matrices(1, 0.1)
    whole = {name: statistics.in_blocks(getattr(statistics, name), before, after) for name in SCIPY}
    monkeypatch.setattr(statistics, "BLOCK_BYTES", 5 * 8 * WIDTH)
    for name, values in whole.items():
        np.testing.assert_array_equal(statistics.in_blocks(getattr(statistics, name), before, after), values)
        if name not in (
            "cramer_von_mises",
            "anderson_darling",
        ):  # these are of equal samples what they are, and the least
            assert (values[:3] == 0).all(), name
        assert (values[:3] <= values.min() + 1e-12).all(), name


def test_zeros_and_minus_zeros():
    zero, other = np.zeros((1, 4)), np.array([[1.0, 0.0, 0.0, -0.0]])
    assert statistics.relative_l2(zero, zero) == 0 and np.isinf(statistics.relative_l2(zero, other))
    assert statistics.energy(zero, -zero) == 0 and statistics.anderson_darling(zero, -zero) == 0


def test_a_sign_test_of_thousands_of_values_is_still_an_order():
    """All of 4,096 values rose: p is 2 ** -4095, far below the smallest double."""
    before = np.zeros((2, 4096))
    after = np.ones((2, 4096))
    after[1, :10] = -1
    found = statistics.sign_test(before, after)
    assert found[0] == pytest.approx(4095 * np.log10(2)) and 1100 < found[1] < found[0]


def test_matrices_of_another_shape_are_refused():
    with pytest.raises(PairError, match=r"\(2, 3\) before and \(2, 4\) after"):
        statistics.in_blocks(statistics.l2, np.zeros((2, 3)), np.zeros((2, 4)))

"""The test of a matrix, its p-values and critical values."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ks_core.checkpoints.matrices import ArrayMatrix, StackedMatrix
from ks_core.errors import Cancelled, CheckpointError, PairError, SettingsError
from ks_core.jobs import devices
from ks_core.ks.statistic import asymptotic_critical_value, critical_value, exact_pvalue, ks_test


def integer_pvalue(k, d):
    """The formula in whole numbers, rounded once."""
    if k == 0:
        return 1.0
    total = sum((-1) ** (j - 1) * math.comb(2 * d, d - j * k) for j in range(1, d // k + 1))
    return float(Fraction(2 * total, math.comb(2 * d, d)))


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 64, 300])
def test_every_pvalue_is_the_formula_in_whole_numbers(dim):
    found = exact_pvalue(np.arange(dim + 1) / dim, dim)
    np.testing.assert_allclose(found, [integer_pvalue(k, dim) for k in range(dim + 1)], rtol=1e-12)


@pytest.mark.parametrize(
    ("dim", "ks"),
    [
        (576, [1, 2, 3, 10, 46, 200, 400, 576]),
        (4096, [20, 60, 123, 400, 900, 1200]),
        (16384, [246, 1000, 2800]),
    ],
)
def test_some_pvalues_of_long_rows(dim, ks):
    for k in ks:
        assert exact_pvalue(k / dim, dim) == pytest.approx(integer_pvalue(k, dim), rel=1e-11, abs=0)


@pytest.mark.parametrize("dim", [1, 2, 7, 100, 576, 4096])
def test_pvalues_are_scipys(dim):
    rng = np.random.default_rng(dim)
    for shift in (0.0, 0.05, 0.3, 1.0):
        a = rng.standard_normal((1, dim))
        b = rng.standard_normal((1, dim)) + shift
        found, wanted = ks_test(a, b, "cpu"), ks_2samp(a[0], b[0], method="exact")
        assert found.statistic[0] == wanted.statistic
        assert found.pvalue[0] == pytest.approx(wanted.pvalue, rel=1e-9, abs=0)


def test_pvalues_fall_and_stay_in_range():
    p = exact_pvalue(np.arange(4097) / 4096, 4096)
    assert p[0] == 1 and np.all(np.diff(p) <= 0) and np.all(p >= 0)
    assert 0 < exact_pvalue(800 / 4096, 4096) < 1e-60


def test_pvalue_by_hand():
    # Two samples of 2: of the six orders aabb, abab, abba, baab, baba, bbaa, two have D = 1.
    assert exact_pvalue([0.0, 0.5, 1.0], 2) == pytest.approx([1, 1, 1 / 3])
    assert isinstance(exact_pvalue(1.0, 2), float)


@pytest.mark.parametrize("wrong", [0.3, -0.25, 1.25, math.nan, math.inf, [0.5, 0.51]])
def test_statistics_off_the_lattice(wrong):
    with pytest.raises(SettingsError, match="1/4"):
        exact_pvalue(wrong, 4)


@pytest.mark.parametrize("dim", [0, -3])
def test_dim_below_one(dim):
    for call in (exact_pvalue, critical_value, asymptotic_critical_value):
        with pytest.raises(SettingsError):
            call(0.5, dim) if call is exact_pvalue else call(dim, 0.5)


def test_critical_values():
    assert critical_value(4096, 0.05) == 123 / 4096
    assert exact_pvalue(122 / 4096, 4096) >= 0.05 > exact_pvalue(123 / 4096, 4096)
    assert critical_value(3, 0.05) == math.inf
    # The smallest D whose p is below alpha, not at it: at d = 2, p(1) is 1/3.
    assert critical_value(2, exact_pvalue(1.0, 2)) == math.inf
    assert asymptotic_critical_value(4096, 0.05) == pytest.approx(0.03001, abs=5e-6)


@pytest.mark.parametrize("alpha", [0, 1, -1, math.nan, math.inf, "0.05"])
def test_alpha_outside(alpha):
    for call in (critical_value, asymptotic_critical_value):
        with pytest.raises(SettingsError, match="alpha"):
            call(100, alpha)


@pytest.mark.parametrize(
    ("before", "after", "k"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 0),
        ([1, 2, 3, 4], [5, 6, 7, 8], 4),
        ([1, 2, 3, 4], [4, 3, 2, 1], 0),
        ([1, 2, 3, 4], [2, 3, 4, 5], 1),
        ([1, 1, 1, 2], [1, 2, 2, 2], 2),
        ([0.0, -0.0, 1, 1], [-0.0, -0.0, 1, 1], 0),
        ([-1, 0, 0, 1], [-1, -1, 0.0, 1], 1),
    ],
)
def test_by_hand(before, after, k):
    found = ks_test(np.array([before], np.float32), np.array([after], np.float32), "cpu")
    assert (found.counts.tolist(), found.dim, found.statistic.tolist()) == ([k], 4, [k / 4])
    assert found.counts.dtype == np.int32 and found.pvalue.dtype == np.float64


def test_mixed_dtypes_are_widened_exactly():
    import torch

    a, b = torch.randn((2, 3, 40), generator=torch.Generator().manual_seed(0))
    for low, high in [
        (torch.bfloat16, torch.float16),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float64),
    ]:
        x, y = a.to(low), b.to(high)
        wanted = ks_test(x.double().numpy(), y.double().numpy(), "cpu").counts
        assert ks_test(x, y, "cpu").counts.tolist() == wanted.tolist()


def test_float64_rows_stay_float64():
    step = 2.0**-40  # float32 would see 1.0 everywhere
    a = np.arange(50.0)[None] * step + 1
    assert ks_test(a, a + 3 * step, "cpu").counts[0] == 3


def test_matrices_in_chunks_and_progress():
    a, b = np.random.default_rng(1).standard_normal((2, 30, 7)).astype(np.float32)
    seen = []
    parts = StackedMatrix((ArrayMatrix(a[:11]), ArrayMatrix(a[11:])))
    found = ks_test(parts, ArrayMatrix(b), "cpu", chunk_bytes=7 * 4 * 4, progress=lambda *at: seen.append(at))
    assert found.counts.tolist() == ks_test(a, b, "cpu").counts.tolist()
    assert seen[0] == (4, 30) and seen[-1] == (30, 30) and len(seen) == 8


def test_cancel():
    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        ks_test(np.zeros((3, 2)), np.ones((3, 2)), "cpu", progress=stop)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(dtype, device, value):
    a, b = np.ones((2, 9, 5), dtype)
    b[6, 2] = value
    with pytest.raises(CheckpointError, match="Row 6 after"):
        ks_test(a, b, device, chunk_bytes=80)
    with pytest.raises(CheckpointError, match="Row 6 before"):
        ks_test(b, b.copy(), device)  # equal rows are not spared


def test_not_finite_bfloat16():
    bits = np.zeros((2, 3), np.uint16)
    bits[1, 1] = 0x7FC0
    with pytest.raises(CheckpointError, match="Row 1 before"):
        ks_test(ArrayMatrix(bits, "bfloat16"), ArrayMatrix(bits, "bfloat16"), "cpu")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), "2 x 3 before, 3 x 3 after"),
        (np.zeros(3), np.zeros(3), "two dimensions"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "nothing to test"),
        (np.zeros((3, 0)), np.zeros((3, 0)), "nothing to test"),
        (np.zeros((2, 3), np.int32), np.zeros((2, 3)), "int32"),
        ([[1.0]], [[2.0]], "list"),
    ],
)
def test_pairs_that_cannot_be_tested(before, after, message):
    with pytest.raises(PairError, match=message):
        ks_test(before, after, "cpu")


def test_read_only_and_strided_arrays():
    wide = np.random.default_rng(0).standard_normal((2, 5, 40)).astype(np.float32)
    a, b = wide[:, :, ::2]
    wanted = ks_test(a.copy(), b.copy(), "cpu").counts.tolist()
    wide.flags.writeable = False
    assert ks_test(a, b, "cpu").counts.tolist() == wanted
    swapped = a.astype(">f4"), b.astype(">f4")
    assert ks_test(*swapped, "cpu").counts.tolist() == wanted


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shift(device, dtype):
    before = np.array([[1, 0], [1, 1], [0, 0], [2, 0], [0, 0], [3, 4]], dtype)
    after = np.array([[0, 1], [1, 1], [3, 4], [-2, 0], [0, -0.0], [6, 8]], dtype)
    found = ks_test(before, after, device, with_shift=True)
    np.testing.assert_allclose(found.l2, [2**0.5, 0, 5, 4, 0, 5], rtol=1e-12)
    np.testing.assert_allclose(found.cosine, [0, 1, 0, -1, 1, 1], rtol=1e-12, atol=1e-12)
    plain = ks_test(before, after, device)
    assert plain.l2 is None and plain.cosine is None


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e-310, 1e200, 1e308])
def test_shift_of_extreme_float64(scale, device):
    before, after = np.array([[1, 0]]) * scale, np.array([[0, 1]]) * scale
    found = ks_test(before, after, device, with_shift=True)
    np.testing.assert_allclose(found.l2 / scale, [2**0.5], rtol=1e-9)
    np.testing.assert_allclose(found.cosine, [0])
    before, after = (np.array(rows) / 8 * scale for rows in ([[1, 0], [3, 4]], [[-1, 0], [4, 3]]))
    found = ks_test(before, after, device, with_shift=True)
    np.testing.assert_allclose(found.l2 / scale, [0.25, 2**0.5 / 8], rtol=1e-9)
    np.testing.assert_allclose(found.cosine, [-1, 0.96], rtol=1e-9)


def test_devices():
    assert devices.select("cpu") == "cpu" and devices.select("auto") in devices.NAMES
    with pytest.raises(SettingsError, match="cpu"):
        devices.select("gpu")
    result = ks_test(np.zeros((1, 2)), np.ones((1, 2)), "torch:cpu")
    assert result.device == "torch:cpu" and result.note is None
    for missing in {"cuda", "mps"} - set(devices.available()):
        with pytest.raises(SettingsError, match=missing):
            ks_test(np.zeros((1, 2)), np.ones((1, 2)), missing)


def test_importing_is_light():
    code = (
        "import sys, ks_core.ks.statistic, ks_core.jobs.devices; print({'torch', 'numba', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

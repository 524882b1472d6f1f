"""The kernels against scipy, and against each other: the integers have to be the same."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import ks_2samp

from ks_core.checkpoints.matrices import ArrayMatrix, to_floats
from ks_core.jobs import devices
from ks_core.ks.kernels.kernel import fastest
from ks_core.ks.kernels.space import SHORT
from ks_core.ks.statistic import ks_test

#: Rows of the seeded sweep; set it to 100000 for the long run.
SWEEP_ROWS = int(os.environ.get("KS_LOTTERY_SWEEP_ROWS", "3000"))
WAYS = ["cpu", "torch:cpu"]


def expected_counts(before, after):
    """The integers from scipy, row by row."""
    found = [ks_2samp(x, y, method="asymp").statistic for x, y in zip(before, after, strict=True)]
    return np.rint(np.array(found) * before.shape[1]).astype(int)


def normal(rng, d):
    return rng.standard_normal(d), rng.standard_normal(d)


def shifted(rng, d):
    a = rng.standard_normal(d)
    return a, a + rng.choice([1e-3, 0.1, 3.0]) * rng.standard_normal(d)


def ties(rng, d):
    return rng.integers(-3, 4, d).astype(float), rng.integers(-3, 5, d).astype(float)


def two_valued(rng, d):
    pair = rng.standard_normal(2)
    return rng.choice(pair, d), rng.choice(pair, d)


def constants(rng, d):
    a, b = rng.choice([0.0, -0.0, 1.0, 1e-40, -2.5], 2)
    return np.full(d, a), np.full(d, b)


def permutation(rng, d):
    a = rng.standard_normal(d)
    return a, rng.permutation(a)


def one_outlier(rng, d):
    a, b = rng.standard_normal(d), rng.standard_normal(d)
    rng.choice([a, b])[rng.integers(d)] = 0  # a value that is easily lost
    a[rng.integers(d)] = rng.choice([1e4, -6e4, 6e4])
    return a, b


def narrow_band(rng, d):
    return 100 + rng.standard_normal(d) * 0.01, 100 + rng.standard_normal(d) * 0.01


def log_uniform(rng, d):
    sign = rng.choice([-1.0, 1.0], (2, d))
    a, b = sign * 10.0 ** rng.uniform(-6, 4, (2, d))
    return a, b


def subnormal(rng, d):
    a, b = rng.integers(-500, 500, (2, d)) * 1e-43
    return a, b


def largest(rng, d):
    top = 65000.0
    return rng.choice([-top, top, 0.0, 1.0], d), rng.choice([-top, top, 0.0, -1.0], d)


def overflowing(rng, d):
    a, b = rng.uniform(-3.3e38, 3.3e38, (2, d))
    return a, b


def signed_zeros(rng, d):
    return rng.choice([0.0, -0.0, 1e-3], d), rng.choice([0.0, -0.0, -1e-3], d)


def one_changed(rng, d):
    a = rng.standard_normal(d)
    b = a.copy()
    b[rng.integers(d)] += 1
    return a, b


def outlier_nest(rng, d):
    """Outliers at every scale: each level of spreading leaves nearly all values in one bucket."""
    a, b = rng.standard_normal((2, d)) * 1e-7
    for i, scale in enumerate(np.logspace(-5, 4, min(d, 8))):
        (a if i % 2 else b)[i] = scale
    return a, b


def spikes(rng, d):
    """Half of the values are one and the same: a second look finds no middle."""
    a, b = rng.standard_normal((2, d))
    a[rng.random(d) < 0.5] = b[rng.random(d) < 0.6] = 0.125
    a[0] = 1e4
    return a, b


def two_bands(rng, d):
    """Both far from zero, on either side of it."""
    side = rng.choice([-50.0, 50.0], (2, d))
    a, b = side + rng.standard_normal((2, d)) * 0.01
    return a, b


def tiny_drift(rng, d):
    a = rng.standard_normal(d)
    return a, a + rng.standard_normal(d) * 10.0 ** rng.uniform(-5, -2)


KINDS = [
    normal,
    shifted,
    ties,
    two_valued,
    constants,
    permutation,
    one_outlier,
    narrow_band,
    log_uniform,
    subnormal,
    largest,
    overflowing,
    signed_zeros,
    one_changed,
    outlier_nest,
    spikes,
    two_bands,
    tiny_drift,
]


def stored(values, dtype):
    """Rows as ks_test takes them, and the floats that they stand for."""
    wide = np.ascontiguousarray(values, dtype=np.float64)
    if dtype == "bfloat16":
        bits = (wide.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        matrix = ArrayMatrix(bits, "bfloat16")
        return matrix, to_floats(bits, "bfloat16")
    if dtype == "float16":
        wide = np.clip(wide, -65504, 65504)
    array = wide.astype(dtype)
    return array, array


@pytest.mark.parametrize("device", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("dim", [1, 2, 3, 17, 576, 4096, 8192])
def test_integers_are_scipys(device, dtype, dim):
    rng = np.random.default_rng(dim)
    rows = [kind(rng, dim) for kind in KINDS]
    before, plain_before = stored([a for a, _ in rows], dtype)
    after, plain_after = stored([b for _, b in rows], dtype)
    found = ks_test(before, after, device).counts
    assert found.tolist() == expected_counts(plain_before, plain_after).tolist()


def test_seeded_sweep():
    rng = np.random.default_rng(20240205)
    done = 0
    while done < SWEEP_ROWS:
        dim = int(rng.choice([rng.integers(1, 40), rng.integers(40, 700), rng.integers(700, 2500)], p=[0.6, 0.3, 0.1]))
        dtype = str(rng.choice(["float32", "float64", "float16", "bfloat16"]))
        chosen = rng.choice(len(KINDS), 50)
        rows = [KINDS[k](rng, dim) for k in chosen]
        before, plain_before = stored([a for a, _ in rows], dtype)
        after, plain_after = stored([b for _, b in rows], dtype)
        wanted = expected_counts(plain_before, plain_after)
        for device in WAYS:
            wrong = np.flatnonzero(ks_test(before, after, device).counts != wanted)
            assert not len(wrong), f"{device}, {dtype}, d = {dim}: {[KINDS[chosen[w]].__name__ for w in wrong]}"
        done += len(rows)


FINITE = {"allow_nan": False, "allow_infinity": False}


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 80), st.sampled_from([16, 32, 64]))
def test_any_floats(data, dim, width):
    elements = data.draw(
        st.sampled_from(
            [
                st.floats(width=width, **FINITE),
                st.floats(-1, 1, width=width, **FINITE),
                st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0]),
            ]
        )
    )
    rows = hnp.arrays(f"float{width}", (2, dim), elements=elements)
    before, after = data.draw(rows), data.draw(rows)
    wanted = expected_counts(before, after).tolist()
    for device in WAYS:
        assert ks_test(before, after, device).counts.tolist() == wanted


@settings(derandomize=True, max_examples=60, deadline=None)
@given(hnp.arrays("float32", (2, 50), elements=st.floats(width=32, **FINITE)), st.randoms(use_true_random=False))
def test_symmetry_and_permutations(rows, random):
    before, after = rows[:1], rows[1:]
    k = ks_test(before, after, "cpu").counts
    order = list(range(50))
    random.shuffle(order)
    assert ks_test(after, before, "cpu").counts == k
    assert ks_test(-before, -after, "cpu").counts == k
    assert ks_test(before[:, order], after, "cpu").counts == k
    assert ks_test(before, before[:, order], "cpu").counts == 0


@pytest.mark.whole
def test_long_rows():
    rng = np.random.default_rng(0)
    rows = [kind(rng, 100_000) for kind in (normal, ties, one_outlier)]
    before, after = (np.array([r[i] for r in rows], np.float32) for i in (0, 1))
    assert ks_test(before, after, "cpu").counts.tolist() == expected_counts(before, after).tolist()


def test_threads_of_an_app_at_once():
    from concurrent.futures import ThreadPoolExecutor

    a, b = np.random.default_rng(0).standard_normal((2, 4000, 64)).astype(np.float32)
    wanted = ks_test(a, b, "cpu").counts
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: ks_test(a, b, "cpu", chunk_bytes=1 << 16).counts, range(8)):
            assert np.array_equal(found, wanted)


@pytest.mark.whole
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("dim", [SHORT, SHORT + 1])
def test_the_longest_rows_that_are_counted_in_16_bits_and_the_shortest_that_are_not(dtype, dim):
    """With all values in one bucket, and the gap as large as it gets, a count is as large as the row is long."""
    rng = np.random.default_rng(dim)
    rows = [kind(rng, dim) for kind in (normal, ties, one_outlier)] + [
        (np.zeros(dim), np.ones(dim)),
        (np.ones(dim), np.zeros(dim)),
    ]
    before, plain_before = stored([a for a, _ in rows], dtype)
    after, plain_after = stored([b for _, b in rows], dtype)
    assert ks_test(before, after, "cpu").counts.tolist() == expected_counts(plain_before, plain_after).tolist()


def test_every_float16_is_widened_exactly():
    from ks_core.ks.kernels.cpu import _widened

    bits = np.arange(1 << 16, dtype=np.uint16).reshape(64, -1)
    wanted, found = bits.view(np.float16).astype(np.float32), _widened(bits)
    finite = np.isfinite(wanted)
    assert np.array_equal(found[finite].view(np.uint32), wanted[finite].view(np.uint32))
    assert not np.isfinite(found[~finite]).any()


def test_float64_on_mps_goes_to_the_cpu():
    import torch

    from ks_core.ks.kernels.torch_kernel import TorchKernel

    kernel = TorchKernel("cpu")
    kernel.device, kernel._torch_device = "mps", torch.device("mps")
    a, b = np.random.default_rng(0).standard_normal((2, 5, 30))
    assert kernel.count(a, b, "float64", False)[0].tolist() == expected_counts(a, b).tolist()
    assert kernel.device == "cpu" and "float64" in kernel.note and "\n" not in kernel.note


class TestTorchMemory:
    """What the torch kernel does when a device has too little memory."""

    def kernel(self, monkeypatch, most_rows):
        import torch

        from ks_core.ks.kernels.torch_kernel import TorchKernel

        kernel = TorchKernel("cpu")
        honest, sizes = kernel._count, []

        def small(before, *rest):
            sizes.append(len(before))
            if len(before) > most_rows:
                raise torch.OutOfMemoryError("too much")
            honest(before, *rest)

        monkeypatch.setattr(kernel, "_count", small)
        return kernel, sizes

    def test_halves_the_chunk(self, monkeypatch):
        a, b = np.random.default_rng(0).standard_normal((2, 21, 30)).astype(np.float32)
        kernel, sizes = self.kernel(monkeypatch, 6)
        counts = kernel.count(a, b, "float32", False)[0]
        assert counts.tolist() == expected_counts(a, b).tolist()
        assert kernel.note is None and max(sizes) == 21 and sizes[-1] <= 6

    def test_falls_back_to_the_cpu(self, monkeypatch):
        a, b = np.random.default_rng(0).standard_normal((2, 21, 30)).astype(np.float32)
        kernel, _ = self.kernel(monkeypatch, 0)
        counts = kernel.count(a, b, "float32", False)[0]
        assert counts.tolist() == expected_counts(a, b).tolist()
        assert kernel.device == "cpu" and "memory" in kernel.note and "\n" not in kernel.note


def test_auto_is_the_cpu_and_asks_for_no_torch(monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: ["cuda", "cpu"])
    assert fastest() == "cpu" and fastest("cuda") == "cuda" and fastest("torch:cpu") == "torch:cpu"
    code = (
        "import sys, numpy as np; from ks_core.ks.statistic import ks_test; "
        "print(ks_test(np.zeros((2, 4)), np.ones((2, 4))).device, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu", "False"]

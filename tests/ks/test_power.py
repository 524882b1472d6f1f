"""How large a change has to be: by hand, and against the test itself."""

import numpy as np
from hypothesis import given, strategies as st

from ks_core.ks.power import detectable_shift
from ks_core.ks.statistic import ks_test


def test_shift_by_hand():
    row = np.array([[0.0, 1.0, 1.5, 4.0]])
    # Two values within 0.5, three within 1.5, all within 4.
    assert [detectable_shift(row, k)[0] for k in (1, 2, 3, 4, 5)] == [0, 0.5, 1.5, 4, np.inf]


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.data())
def test_a_little_more_than_the_shift_is_seen_and_a_little_less_is_not(seed, dim, data):
    k = data.draw(st.integers(2, dim))
    row = np.random.default_rng(seed).standard_normal((1, dim)).round(2)  # with ties
    needed = detectable_shift(row, k)[0]
    assert ks_test(row, row + needed + 1e-6).counts[0] >= k
    if needed > 1e-6:
        assert ks_test(row, row + needed - 1e-6).counts[0] < k

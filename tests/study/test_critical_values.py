"""Exact and asymptotic critical values, and how many rows win by each."""

import numpy as np
import pytest

from ks_core.ks.statistic import pvalue_table
from ks_core.signature import Signature
from ks_core.study.critical import critical_sentence, critical_values
from ks_core.study.scan import Scan


def test_critical_values_of_a_wide_row():
    counts = np.array([0, 121, 122, 123, 124], np.int32)
    scan = Scan(*[np.arange(5)] * 2, counts, pvalue_table(4096)[counts], counts.astype(float), np.ones(5), 4096,
                Signature({}), "cpu", 0.0)  # fmt: skip
    (found,) = critical_values(scan, [0.05])
    assert found.asymptotic == pytest.approx(0.03001, abs=1e-5)
    assert round(found.exact * 4096) == 123 and found.attained < 0.05 < pvalue_table(4096)[122]
    assert found.rows == 2 == (scan.pvalue < 0.05).sum()
    assert "as many of the pair's rows win" in critical_sentence([found])


def test_the_critical_sentence_names_the_alpha_where_they_part():
    counts = np.arange(17, dtype=np.int32)
    scan = Scan(*[np.arange(17)] * 2, counts, pvalue_table(16)[counts], counts.astype(float), np.ones(17), 16,
                Signature({}), "cpu", 0.0)  # fmt: skip
    alphas = [0.05, 1e-6]
    found = critical_values(scan, alphas)
    apart = [c for c in found if c.rows != c.rows_asymptotic]
    for c in found:
        assert c.rows == (scan.pvalue[1:] < c.alpha).sum()
        assert c.rows_asymptotic == (scan.statistic[1:] > c.asymptotic).sum()
    assert apart and f"{apart[0].rows_asymptotic} rows instead of {apart[0].rows}" in critical_sentence(found)

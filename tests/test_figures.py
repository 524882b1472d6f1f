"""Figures: what is drawn is what was computed, and token strings are text."""

import numpy as np
import pytest

from ks_core import drift, figures
from ks_core.ks import critical_value, ks_test, pvalue_table
from ks_core.signature import Signature


@pytest.fixture
def numbers():
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 30, 500)
    counts[:100] = 0
    return counts / 64, pvalue_table(64)[counts], counts > 0


def drawn(figure):
    """How many rows the bars of a figure stand for."""
    return sum(int(np.sum(t.y)) for t in figure.data if t.type == "bar")


@pytest.mark.parametrize("log", [True, False])
def test_the_p_histogram_draws_every_changed_row_once(numbers, log):
    _, pvalues, changed = numbers
    figure = figures.pvalue_histogram(pvalues, changed, 0.05, log=log)
    assert drawn(figure) == 400
    wins = int((pvalues[changed] < 0.05).sum())
    assert sum(int(np.sum(t.y)) for t in figure.data if t.name == "below alpha") == wins
    assert str(wins) in figures.alt(figure)


def test_the_d_histogram_splits_at_the_critical_value(numbers):
    statistic, pvalues, changed = numbers
    critical = critical_value(64, 0.05)
    figure = figures.statistic_histogram(statistic, changed, 64, critical, 0.05)
    assert drawn(figure) == 400
    assert (
        sum(int(np.sum(t.y)) for t in figure.data if t.marker.color == figures.WINNING)
        == (pvalues[changed] < 0.05).sum()
    )


def test_nothing_changed_is_drawn_too(numbers):
    statistic, pvalues, _ = numbers
    nothing = np.zeros(500, bool)
    assert drawn(figures.pvalue_histogram(pvalues, nothing, 0.05, log=True)) == 0
    assert drawn(figures.statistic_histogram(statistic, nothing, 3, np.inf, 0.05)) == 0


def test_the_gap_in_the_cdfs_is_d():
    generator = np.random.default_rng(1)
    before, after = generator.standard_normal((2, 50)).round(1)
    figure = figures.cdfs(before, after, "x")
    bar = figure.data[-1]
    assert abs(bar.y[0] - bar.y[1]) == pytest.approx(ks_test(before[None], after[None]).statistic[0])


def test_token_strings_are_text():
    figure = figures.cdfs(np.arange(3.0), np.arange(3.0), "<b>bold</b><img src=x>")
    assert "<b>" not in figure.layout.title.text and "&lt;img" in figure.layout.title.text


def test_the_map_draws_each_token_where_it_belongs():
    settings = drift.Settings()
    found = drift.DriftMap(
        np.array([0, 1]),
        np.zeros((2, 2), np.float32),
        np.array([3, 2]),
        np.zeros((2, 2), np.float32),
        np.array([[1, 1], [2, 2]], np.float32),
        [0.5, 0.25],
        0.1,
        settings,
        Signature({}),
    )
    figure = figures.drift_map(
        found,
        statistic=np.array([0, 0, 0.2, 0.6]),
        pvalue=np.array([1, 1, 0.5, 0.01]),
        l2=np.array([0, 0, 1.0, 2.0]),
        winning=np.array([False, False, False, True]),
        token_ids=np.arange(4) + 100,
        tokens=["a", "b", "<c>", "d"],
    )
    by_name = {t.name: t for t in figure.data}
    assert by_name["winning, tuned"].customdata[0][0] == 103
    assert by_name["changed"].text[0] == "&lt;c&gt;"
    assert "50.0%" in figure.layout.xaxis.title.text

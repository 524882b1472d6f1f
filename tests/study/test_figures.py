"""Figures: what is drawn is what was computed, and token strings are text."""

import numpy as np
import pytest

from ks_core import drawing
from ks_core.ks.statistic import critical_value, ks_test, pvalue_table
from ks_core.study import figures


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
    assert str(wins) in drawing.alt(figure)


def test_the_d_histogram_splits_at_the_critical_value(numbers):
    statistic, pvalues, changed = numbers
    critical = critical_value(64, 0.05)
    figure = figures.statistic_histogram(statistic, changed, 64, critical, 0.05)
    assert drawn(figure) == 400
    assert (
        sum(int(np.sum(t.y)) for t in figure.data if t.marker.color == drawing.WINNING)
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


@pytest.mark.parametrize("alpha", [0.05, 0.013, 0.6])
@pytest.mark.parametrize("log", [True, False])
def test_alpha_is_an_edge_so_that_a_bar_has_one_colour(numbers, log, alpha):
    _, pvalues, changed = numbers
    figure = figures.pvalue_histogram(pvalues, changed, alpha, log=log)
    at = np.log10(alpha) if log else alpha
    for bars in figure.data:
        left, right = bars.x - bars.width / 2, bars.x + bars.width / 2
        outside = right <= at + 1e-5 if bars.marker.color == drawing.WINNING else left >= at - 1e-5
        assert outside.all()
    assert f"{(pvalues[changed] < alpha).sum()} rows below" in figure.layout.annotations[0].text
    assert "100 rows did not change" in drawing.alt(figure)


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.9])
def test_a_bin_of_d_begins_at_the_critical_value(alpha):
    counts = np.arange(1, 577)
    critical = critical_value(576, alpha)
    figure = figures.statistic_histogram(counts / 576, counts > 0, 576, critical, alpha)
    winning = next(t for t in figure.data if t.marker.color == drawing.WINNING)
    assert (winning.x[0] - winning.width[0] / 2) * 576 == pytest.approx(round(critical * 576) - 0.5, abs=1e-3)
    assert drawn(figure) == 576 and winning.y.sum() == (pvalue_table(576)[1:] < alpha).sum()


def test_a_single_row_is_seen_beside_thousands(numbers):
    pvalues = np.concatenate([[1e-9], np.full(5000, 0.9)])
    figure = figures.pvalue_histogram(pvalues, np.ones(5001, bool), 0.05, log=True)
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis.range[0] < 0  # the axis begins below one row


def test_a_p_below_the_smallest_double_is_drawn():
    pvalues = np.array([0.0, 1e-84, 0.5])
    figure = figures.pvalue_histogram(pvalues, np.ones(3, bool), 0.05, log=True)
    assert drawn(figure) == 3 and np.isfinite(figure.data[0].x).all()


def test_no_d_can_win_where_rows_are_too_short():
    figure = figures.statistic_histogram(np.array([1 / 3, 1.0]), np.ones(2, bool), 3, critical_value(3, 0.05), 0.05)
    assert drawn(figure) == 2 and not any(t.marker.color == drawing.WINNING for t in figure.data)
    assert "no D can have p below 0.05" in drawing.alt(figure)


def test_the_size_curve_leaves_out_what_a_log_scale_cannot_show():
    figure = figures.ticket_size_curve(np.array([1e-4, 1e-3, 0.1]), np.array([0, 2, 9]), 1e-4, 0)
    assert figure.data[0].y.tolist() == [2, 9] and len(figure.data) == 1
    assert figure.layout.annotations[0].x == pytest.approx(-4)  # words are placed by the logarithm
    empty = figures.ticket_size_curve(np.array([1e-4, 0.1]), np.array([0, 0]), 0.05, 0)
    assert empty.layout.annotations[-1].text.startswith("No row wins")


@pytest.mark.parametrize("kind", ["continuous", "ties", "equal"])
def test_the_gap_lies_between_the_two_curves_where_they_part_most(kind):
    from scipy.stats import ks_2samp

    generator = np.random.default_rng(2)
    before = generator.standard_normal(60)
    after = before * 1.5 + 0.2
    if kind == "ties":
        before, after = before.round(), after.round()
    if kind == "equal":
        after = before[::-1]
    expected = ks_2samp(before, after)
    figure = figures.cdfs(before, after, "x")
    base, tuned, bar = figure.data
    assert abs(bar.y[0] - bar.y[1]) == pytest.approx(expected.statistic, abs=1e-12)
    if kind == "continuous":
        assert bar.x[0] == pytest.approx(expected.statistic_location)
    for curve, height in ((base, bar.y[0]), (tuned, bar.y[1])):  # the ends of the bar are on the curves
        at = np.searchsorted(curve.x, np.float32(bar.x[0]), side="right") - 1
        assert curve.y[at] == pytest.approx(height, abs=1e-6)
        assert curve.y[0] == 0 and curve.y[-1] == 1
    assert base.x[0] == tuned.x[0] and base.x[-1] == tuned.x[-1]
    assert ("the same" in drawing.alt(figure)) == (kind == "equal")


@pytest.mark.parametrize(("token", "shown"), [
    ('say "it\'s"', 'say "it\'s"'),  # Plotly does not know &quot;
    ("a<br>b & c", "a&lt;br&gt;b &amp; c"),
    ("$x^2$", "&#36;x^2&#36;"),
    ("%{x}", "&#37;{x}"),
    ("=" * 500, "=" * 59 + "…"),
])  # fmt: skip
def test_nothing_in_a_token_is_markup_mathematics_or_a_template(token, shown):
    figure = figures.shift_scatter(np.ones(1), np.ones(1), np.ones(1, bool), [token])
    assert next(t for t in figure.data if len(t.x)).text[0] == shown


def test_both_themes_are_served(numbers):
    statistic, pvalues, changed = numbers
    drawings = [figures.pvalue_histogram(pvalues, changed, 0.05, log=True),
                figures.statistic_histogram(statistic, changed, 64, 0.25, 0.05),
                figures.ticket_size_curve(np.array([0.01, 0.1]), np.array([1, 2]), 0.05, 1),
                figures.cdfs(statistic, statistic + 1, "x"),
                figures.shift_scatter(statistic, statistic, changed, ["x"] * 500)]  # fmt: skip
    for figure in drawings:
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.font.color is None and figure.layout.title.font.color is None
        assert all(a.font.color is None for a in figure.layout.annotations)
        assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
        assert len(drawing.alt(figure)) > 20


def test_the_layer_map_has_a_square_for_every_tensor():
    import pandas as pd

    tensors = pd.DataFrame({
        "tensor": ["model.embed.weight", "l.0.<b>q</b>.weight", "l.1.q.weight"], "layer": pd.array([None, 0, 1], "Int64"),
        "module": ["model.embed.weight", "q.weight", "q.weight"], "rows": [9, 4, 4], "dim": [2, 2, 2],
        "changed": [0.0, 1.0, 0.5], "share_below_alpha": [0.0, 0.25, 0.0], "largest_D": [0.0, 0.5, 0.2]})  # fmt: skip
    for measure in figures.MEASURES:
        figure = figures.layer_map(tensors, measure)
        by_name = {t.name: t for t in figure.data}
        assert list(by_name["unchanged"].x) == ["outside"] and list(by_name["changed"].x) == ["0", "1"]
        assert by_name["changed"].customdata[0][0] == "l.0.<b>q</b>.weight"
        assert "<b>" not in by_name["changed"].text[0]
        assert "2 of 3" in drawing.alt(figure)

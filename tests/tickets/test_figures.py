"""The audit's figures: what is drawn is what was computed, in the house's colours, and token strings are text."""

from dataclasses import replace

import numpy as np
import pytest

from ks_core.drawing import CONTROL, MUTED, TUNED, WINNING, alt
from ks_core.ks.power import Power
from ks_core.signature import Signature
from ks_core.study.critical import Critical
from ks_core.tickets import figures as audit
from ks_core.tickets.calibration import Calibration, Case, Settings
from ks_core.tickets.ranking import Correlation, Form, Ranking
from ks_core.tickets.regression import Effect
from ks_core.tickets.stability import Run, compare


@pytest.fixture
def calibration():
    generator = np.random.default_rng(0)
    cases = (
        Case("identical", "unchanged rows", np.ones(50)),
        Case("noise 0.1", "noise of 0.1 standard deviations", generator.uniform(0.5, 1, 400), 0.1),
        Case("independent", "two independent resamples", generator.uniform(0, 1, 1000)),
        Case("pair", "the pair: tuned and base", np.array([0.001, 0.02, 0.9])),
    )
    sizes = np.geomspace(0.1, 2, 9)
    powers = tuple(
        Power(change, rows, sizes, np.linspace(0, 1, 9), 0.4, 0.8) for change in ("shift", "noise") for rows in ("dependent", "independent")
    )  # fmt: skip
    return Calibration(64, 50, 0, cases, powers, np.array([0.3, 0.5, 0.7]), Settings(), Signature({}))


@pytest.fixture
def ranking():
    ids = np.array([5, 6, 7])
    steps = np.array([100.0, 10, 1])
    variables = {"log steps": np.log(steps), "in prompt": np.array([1.0, 0, 0])}
    effects = (Effect("log steps", 0.8, 0.7, 0.9, 1e-9, 0.1), Effect("in prompt", -0.1, -0.3, 0.1, 0.4, -0.01))
    place = np.array([1, 3, 2])
    return Ranking(
        ids, np.array([0.5, 0.3, 0.1]), variables, (Correlation("log steps", 0.91, 0.01),), effects, 0.64,
        np.array([0.1, -0.1, 0.0]), np.array([1, 2, 3]), place, {"steps": steps, "draws": 3 * steps},
        (Correlation("steps", 0.91, 0.01),), (Form("D", 0.64, place),), 3, 0, 0, (), Signature({}),
    )  # fmt: skip


@pytest.fixture
def stability():
    generator = np.random.default_rng(0)

    def run(name, **facets):
        d = generator.uniform(0, 1, 300)
        changed = d > 0.2
        trained = dict(enumerate(generator.integers(1, 50, 300).tolist()))
        return Run(name, tuple(np.argsort(-d)[:5].tolist()), np.arange(300), d, d, changed, facets, trained=trained)

    return compare([run("s0", seed=0), run("s1", seed=1), run("<b>p</b>", seed=0, prompt="x")], ks=50)


def bars(figure):
    return [t for t in figure.data if t.type == "bar"]


@pytest.mark.parametrize("alpha", [0.05, 0.013])
def test_every_case_has_a_histogram_of_all_its_rows(calibration, alpha):
    found = replace(calibration, settings=Settings(alpha=alpha))
    figure = audit.pvalue_cases(found)
    assert len(bars(figure)) == 4
    for bar, case in zip(bars(figure), found.cases, strict=True):
        assert np.dot(bar.y, bar.width) == pytest.approx(1)  # densities
        assert np.sum(bar.customdata) == len(case.pvalues)
        wins = np.asarray(bar.marker.color) == WINNING
        assert np.sum(np.asarray(bar.customdata)[wins]) == (case.pvalues < alpha).sum()
        assert (np.asarray(bar.x)[wins] < alpha).all() and (np.asarray(bar.x)[~wins] > alpha).all()
    titles = [a.text for a in figure.layout.annotations]
    assert any("the pair" in t and "66.7% below alpha" in t for t in titles) == (alpha == 0.05)
    assert "noise of 0.1 standard deviations" in alt(figure) and figure.layout.xaxis4.title.text == "p-value"
    assert sum(t.type == "scatter" and t.line.color == CONTROL for t in figure.data) == 4  # the uniform line


def test_a_case_without_rows_is_an_empty_histogram(calibration):
    found = replace(calibration, cases=(Case("pair", "the pair", np.zeros(0)),))
    figure = audit.pvalue_cases(found)
    assert len(bars(figure)[0].x) == 0 and "no rows below alpha" in figure.layout.annotations[0].text


def test_both_critical_values_are_drawn_and_what_cannot_be_is_left_out():
    found = [Critical(0.05, 0.25, 0.24, 0.049, 7, 9), Critical(0.001, np.inf, 0.4, np.nan, 0, 2)]
    figure = audit.critical_values(found, 16)
    formula, exact = figure.data
    assert list(formula.x) == [0.001, 0.05] and list(formula.y) == [0.4, 0.24] and list(formula.customdata) == [2, 9]
    assert list(exact.y) == [None, 0.25] and exact.line.color == WINNING and exact.customdata[1][0] == 7
    assert "16 values" in figure.layout.title.text and "0.2500 and 0.2400" in alt(figure)
    nothing = audit.critical_values(found[1:], 16)
    assert nothing.layout.annotations[0].text.startswith("No D can win")


def test_the_power_curves_and_the_pair_on_them(calibration):
    figure = audit.power_curves(calibration)
    lines = {t.name: t for t in figure.data if t.mode == "lines"}
    assert lines["shift, dependent rows"].line.color == TUNED and lines["noise, independent rows"].line.color == CONTROL
    assert lines["noise, dependent rows"].line.dash == "dash" and len(lines) == 4
    marks = [t for t in figure.data if t.mode == "markers"]
    assert all(list(t.x) == [0.4, 0.8] and list(t.y) == [0.5, 0.8] for t in marks)
    assert figure.layout.shapes[0].x0 == pytest.approx(0.5) and "0.5 (median)" in figure.layout.annotations[0].text
    assert figure.layout.annotations[0].x == pytest.approx(np.log10(0.5)) and figure.layout.xaxis.type == "log"
    never = replace(
        calibration, moved=np.zeros(0), powers=(replace(calibration.powers[0], half=np.inf, eighty=np.inf),)
    )
    figure = audit.power_curves(never)
    assert not figure.layout.shapes and len(figure.data[1].x) == 0 and "50% at inf" in alt(figure)


def test_the_scatter_tells_prompt_tokens_and_shows_strings_as_text(ranking):
    figure = audit.count_scatter(ranking, ["<b>a</b>", "b", "c"])
    others, prompt = figure.data
    assert prompt.marker.color == TUNED and list(prompt.x) == [100] and prompt.text[0] == "&lt;b&gt;a&lt;/b&gt;"
    assert others.marker.color == MUTED and list(others.x) == [10, 1] and list(others.customdata) == [3, 2]
    assert "0.91" in figure.layout.title.text and figure.layout.xaxis.type == "log"
    assert "training steps" in figure.layout.title.text and "Optimizer steps" in figure.layout.xaxis.title.text
    assert "count" not in figure.to_json().lower().replace("counts", "")
    plain = replace(ranking, variables={"log steps": ranking.variables["log steps"]}, correlations=())
    figure = audit.count_scatter(plain, ["a", "b", "c"])
    assert [t.name for t in figure.data] == ["tokens"] and "no rank correlation" in alt(figure)


def test_the_intervals_are_those_of_the_regression(ranking):
    figure = audit.coefficients(ranking)
    clear, unclear = figure.data
    assert clear.y[0] == "log steps" and clear.marker.color == TUNED and unclear.marker.color == MUTED
    assert clear.error_x.array[0] == pytest.approx(0.1) and unclear.error_x.arrayminus[0] == pytest.approx(0.2)
    assert "R² 0.64" in figure.layout.title.text and "in prompt -0.100 [-0.300, +0.100]" in alt(figure)
    empty = audit.coefficients(replace(ranking, effects=()))
    assert empty.layout.annotations[-1].text == "No variable takes part"


@pytest.mark.parametrize("measure", list(audit.MEASURES))
def test_the_heatmap_shows_the_matrix(stability, measure):
    figure = audit.overlap_heatmap(stability, measure)
    heat, numbers = figure.data
    np.testing.assert_allclose(heat.z, stability.matrix(measure), rtol=1e-6)
    assert list(heat.x) == ["s0", "s1", "&lt;b&gt;p&lt;/b&gt;"] == list(heat.y)
    written = dict(zip(zip(numbers.y, numbers.x, strict=True), numbers.text, strict=True))
    assert written["s0", "s1"] == (f"{heat.z[0][1]:.0f}" if measure == "shared" else f"{heat.z[0][1]:.2f}")
    assert len(written) == 9 and numbers.textfont.color[0] == "#111"  # the diagonal is the lightest
    assert (heat.zmin < 0) == (measure == "rho" and stability.matrix("rho").min() < 0)


def test_unknown_correlations_are_empty_squares():
    found = compare([Run("a", (1,)), Run("b", (1, 2))])
    heat, numbers = audit.overlap_heatmap(found, "rho").data
    assert np.isnan(heat.z[0][1]) and list(zip(numbers.x, numbers.y, strict=True)) == [("a", "a"), ("b", "b")]


def test_the_curves_with_what_would_be_shared_anyway(stability):
    figure = audit.top_curves(stability)
    by_name = {t.name: t for t in figure.data if t.name}
    seed, prompt = by_name["seed (one pair)"], by_name["prompt (one pair)"]
    groups = [stability.group("seed"), stability.group("prompt")]
    np.testing.assert_allclose(seed.y, groups[0].curve)
    np.testing.assert_allclose(prompt.y, groups[1].curve)
    assert seed.line.color == CONTROL and seed.line.width > prompt.line.width
    assert by_name["uniform draw"].line.dash == "dot" and by_name["by training steps alone"].line.dash == "dash"
    np.testing.assert_allclose(by_name["uniform draw"].y, np.maximum(*(g.chance for g in groups)))
    np.testing.assert_allclose(by_name["by training steps alone"].y, np.maximum(*(g.by_training for g in groups)))
    assert not any(t.fill for t in figure.data) and "ceiling" not in figure.to_json(), "one pair is no ceiling"
    assert f"{groups[0].curve[17]:.0%} at k = 18" in alt(figure) and "by training steps alone: " in alt(figure)
    nothing = audit.top_curves(compare([Run("a", (1,)), Run("b", (1,))]))
    assert not nothing.data and "No two tested runs" in nothing.layout.annotations[0].text


def test_several_pairs_are_drawn_with_their_spread():
    def run(name, ids, **facets):
        d = np.zeros(40)
        d[ids] = np.linspace(1, 0.5, len(ids))
        return Run(name, tuple(ids[:3]), np.arange(40), d, d, d > 0, facets)

    low, mid = list(range(10)), [*range(6), *range(20, 24)]
    found = compare(
        [run("a", low, seed=0), run("b", low, seed=1), run("c", mid, seed=2), run("p", low[::-1], seed=0, prompt="x")],
        9,
    )
    figure = audit.top_curves(found)
    assert "seed (3 pairs), the ceiling" in {t.name for t in figure.data} and found.has_ceiling
    (band,) = [t for t in figure.data if t.fill == "toself"]
    assert len(band.x) == 2 * 9 and band.fillcolor == CONTROL and "by training" not in figure.to_json()
    assert "(67% to 100%) at k = 9" in alt(figure)


def test_figures_suit_light_and_dark(calibration, ranking, stability):
    drawn = [
        audit.pvalue_cases(calibration), audit.power_curves(calibration), audit.count_scatter(ranking, "abc"),
        audit.coefficients(ranking), audit.overlap_heatmap(stability), audit.top_curves(stability),
        audit.critical_values([Critical(0.05, 0.25, 0.24, 0.049, 7, 9)], 16),
    ]  # fmt: skip
    for figure in drawn:
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.title.text and alt(figure).endswith(".") and figure.layout.font.color is None
        figure.to_json()

"""Drift maps as they are drawn: each token where it is, one scale of colours, names where they have room."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ks_core import drawing
from ks_core.signature import Signature
from ks_core.study import drift, map_figures, map_labels
from ks_core.study.map_figures import View, drift_map, morph, side_by_side
from ks_core.study.map_labels import COLOURS, Rows, Spot, places
from ks_core.study.map_picture import dots


@pytest.fixture
def many():
    """A map of 1,000 tokens, 300 of them changed and 100 winning, with what is known of them."""
    generator = np.random.default_rng(4)
    l2 = np.where(np.arange(1000) < 300, generator.uniform(1, 2, 1000), 0.0)
    statistic = np.where(l2 > 0, np.linspace(1, 0, 1000), 0.0)
    xy = [generator.standard_normal((n, 2)).astype(np.float32) for n in (700, 300, 300)]
    found = drift.DriftMap(
        np.arange(300, 1000), xy[0], np.arange(300), xy[1], xy[2], None, 1.0, drift.Settings("umap"), Signature({})
    )
    rows = Rows(
        statistic, np.exp(-9 * statistic), l2, np.arange(1000) < 100, np.arange(1000) + 5000, [f"t{i}" for i in range(1000)],
        np.arange(1000.0), np.where(np.arange(1000) < 200, 0.5, np.nan), np.where(np.arange(1000) < 300, np.arange(1000.0) ** 2, np.nan),
    )  # fmt: skip
    return found, rows


def points(figure):
    return {t.name: t for t in figure.data if len(t.x) and t.x[0] is not None}


def test_each_token_is_drawn_where_it_belongs():
    found = drift.DriftMap(
        np.array([0, 1]), np.zeros((2, 2), np.float32), np.array([3, 2]), np.zeros((2, 2), np.float32),
        np.array([[1, 1], [2, 2]], np.float32), [0.5, 0.25], 0.1, drift.Settings(), Signature({}),
    )  # fmt: skip
    rows = Rows(
        np.array([0, 0, 0.2, 0.6]), np.array([1, 1, 0.5, 0.01]), np.array([0, 0, 1.0, 2.0]),
        np.array([False, False, False, True]), np.arange(4) + 100, ["a", "b", "<c>", "d"],
    )  # fmt: skip
    figure = drift_map(found, rows)
    traces = points(figure)
    assert traces["winning, tuned"].customdata[0][0] == 103 and traces["winning, tuned"].x.tolist() == [1]
    assert traces["changed"].text[0] == "&lt;c&gt;" and traces["changed"].x.tolist() == [2]
    assert "50.0%" in figure.layout.xaxis.title.text
    assert set(rows.measures) == set(list(COLOURS)[:3]), "what is not known is no colour"
    carried = replace(rows, carried=np.array([np.nan, np.nan, -4.0, 90.0])).measures["attribution"]
    np.testing.assert_array_equal(carried, [np.nan, np.nan, 0, 1])
    assert places(found) == {0: (0, 0), 1: (0, 0), 3: (1, 1), 2: (2, 2)} and places(found, tuned=False)[3] == (0, 0)


@pytest.mark.parametrize("draw", [drift_map, morph, side_by_side])
@pytest.mark.parametrize("colour", COLOURS)
def test_all_points_of_a_map_share_one_scale(many, colour, draw):
    found, rows = many
    figure = draw(found, rows, View(colour))
    axis, traces = figure.layout.coloraxis, points(figure)
    # The range has to be given: Plotly would scale each trace of WebGL points by itself.
    winning = "winning, tuned" if draw is drift_map else "winning"
    values = np.concatenate([traces[n].marker.color for n in ("changed", winning)])
    assert (axis.cmin, axis.cmax) == pytest.approx(
        (np.nanmin(values), np.nanmax(values) if np.nanmax(values) > np.nanmin(values) else np.nanmin(values) + 1)
    )
    assert axis.colorbar.title.text == COLOURS[colour] and axis.showscale
    measure = {"D": rows.statistic, "log10 p": np.log10(rows.pvalue), "L2 shift": rows.l2,
               "count (log10)": np.log10(np.maximum(rows.count, 0.5)),
               COLOURS["attribution"]: np.arange(1000) / 299}.get(COLOURS[colour], rows.change)  # fmt: skip
    np.testing.assert_allclose(traces["changed"].marker.color, measure[100:300], rtol=1e-5)


def test_arrows_lead_from_base_to_tuned(many):
    found, rows = many
    traces = points(drift_map(found, rows))
    path = np.stack([traces["from base to tuned"].x, traces["from base to tuned"].y], 1).reshape(100, 3, 2)
    np.testing.assert_array_equal(path[:, 0], found.before_xy[:100])
    np.testing.assert_array_equal(path[:, 1], found.after_xy[:100])
    assert np.isnan(path[:, 2]).all()  # the pen is lifted between two arrows
    # An angle of 0 points up and 90 to the right.
    heading = np.radians(traces["winning, tuned"].marker.angle)
    move = found.after_xy[:100] - found.before_xy[:100]
    along = (move * np.stack([np.sin(heading), np.cos(heading)], 1)).sum(1) / np.linalg.norm(move, axis=1)
    assert (along > np.cos(np.radians(5.01))).all()
    bare = points(drift_map(found, rows, View(arrows=False, names=False)))
    assert set(bare) == {"unchanged", "changed", "winning"} and len(bare["winning"].x) == 100


def test_a_map_keeps_to_its_limits(many, monkeypatch):
    found, rows = many
    monkeypatch.setattr(map_figures, "ARROWS", 10)
    figure = drift_map(found, rows)
    traces = points(figure)
    assert (
        traces["winning, tuned"].customdata[:, 0].tolist() == list(range(5000, 5010)) and len(traces["winning"].x) == 90
    )
    assert "10 arrows" in drawing.alt(figure)


@pytest.mark.parametrize("draw", [drift_map, morph, side_by_side])
def test_many_tokens_that_stand_still_are_points_and_a_picture(many, monkeypatch, draw):
    """Every token is in the one or the other, and the picture has each where it belongs."""
    found, rows = many
    assert not draw(found, rows).layout.images and len(points(draw(found, rows))["unchanged"].x) == 700
    monkeypatch.setattr(map_figures, "SINGLE", 50)
    figure = draw(found, rows)
    alone = map_figures.singly(found)
    assert 50 <= alone.sum() <= 54 and len(points(figure)["unchanged"].x) == alone.sum()
    assert "700 others in grey" in figure.layout.title.text
    ends = found.background_xy[alone]
    assert (ends.min(axis=0) == found.background_xy.min(axis=0)).all() and (
        ends.max(axis=0) == found.background_xy.max(axis=0)
    ).all()
    for image in figure.layout.images:
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.source.partition(",")[2]))).convert("RGBA"))
        assert (seen[seen[..., 3] > 0][:, :3] == (0x8A, 0x94, 0xA0)).all()
        unit = image.sizex / seen.shape[1]
        assert unit == pytest.approx(image.sizey / seen.shape[0])
        column, row = ((found.background_xy[~alone] - (image.x, image.y)) / (unit, -unit)).astype(int).T
        assert (seen[row, column, 3] > 60).all(), "there is a dot where the token is"
        assert 0 < (seen[..., 3] > 0).sum() < 650 * 60, "and nowhere else"
    assert [(i.xref, i.layer) for i in figure.layout.images] == [("x", "below"), ("x2", "below")][
        : 2 if draw is side_by_side else 1
    ]


def test_a_picture_of_one_place_and_of_places_that_are_one():
    for xy in (np.array([[3.0, -4.0]]), np.full((9, 2), 7.0), np.array([[0.0, 5.0], [9.0, 5.0]])):
        made = dots(xy.astype(np.float32), "#102030")
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(made.source.partition(",")[2]))).convert("RGBA"))
        assert made.low[0] < xy[0, 0] < made.high[0] and made.low[1] < xy[0, 1] < made.high[1]
        assert seen[..., 3].max() == (round(255 * 0.4) if len(xy) < 9 else round(255 * (1 - 0.6**9)))


def test_a_background_that_moved_is_not_called_unchanged(many):
    found, rows = many
    assert "unchanged" not in points(drift_map(found, replace(rows, l2=rows.l2 + 0.1)))


@pytest.mark.parametrize("draw", [drift_map, morph, side_by_side])
def test_a_map_on_which_nothing_changed(many, draw):
    found, rows = many
    nothing = np.zeros((0, 2), np.float32)
    empty = replace(found, changed=np.zeros(0, np.int64), before_xy=nothing, after_xy=nothing)
    figure = draw(empty, rows)
    assert set(points(figure)) == {"unchanged"} and not figure.layout.coloraxis.showscale


@pytest.mark.parametrize("draw", [drift_map, morph, side_by_side])
def test_both_themes_are_served_and_one_unit_is_as_long_in_either_direction(many, draw):
    figure = draw(*many, View(regions=True, spot=Spot(3, (4,), (5,), (6,))))
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.font.color is None and figure.layout.title.font.color is None
    assert all(a.font.color is None for a in figure.layout.annotations)
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text and figure.layout.yaxis.scaleanchor == "x"
    assert len(drawing.alt(figure)) > 20


def test_names_are_those_of_the_largest_d_and_lie_on_no_other(many):
    found, rows = many
    trace = points(drift_map(found, rows))["names"]
    assert trace.text[0] == "t0" and 3 < len(trace.text) <= map_labels.NAMES
    every = np.concatenate([found.background_xy, found.before_xy, found.after_xy])
    low, high = every.min(axis=0), every.max(axis=0)
    unit = max((high[0] - low[0]) / map_labels.WIDE, (high[1] - low[1]) / map_labels.TALL)
    for n in range(len(trace.x)):
        for m in range(n):
            apart = abs(trace.x[n] - trace.x[m]) > 13 * unit or abs(trace.y[n] - trace.y[m]) > 15 * unit
            assert apart, (trace.text[n], trace.text[m])
    crowded = replace(found, after_xy=np.zeros((300, 2), np.float32))
    assert points(drift_map(crowded, rows))["names"].text == ("t0",)


def test_a_token_that_is_looked_at_is_in_the_middle_with_those_near_it(many):
    found, rows = many
    figure = drift_map(found, rows, View(spot=Spot(7, stayed=(8, 400), left=(9,), came=(10, 99_999))))
    x, y = found.after_xy[7]
    assert np.mean(figure.layout.xaxis.range) == pytest.approx(x) and np.mean(
        figure.layout.yaxis.range
    ) == pytest.approx(y)
    traces = points(figure)
    assert traces["near in both"].text == ("t8", "t400") and traces["near in the base only"].text == ("t9",)
    assert traces["near in the tuned only"].text == ("t10",), "what is not drawn has no ring"
    assert figure.layout.xaxis.range[0] <= min(traces["near in both"].x) <= figure.layout.xaxis.range[1]
    nowhere = drift_map(found, rows, View(spot=Spot(99_999)))
    assert nowhere.layout.xaxis.range is None, "a token that is not on the map moves nothing"


def test_what_is_picked_has_a_ring_in_both_maps(many):
    found, rows = many
    figure = side_by_side(found, rows, View(picked=(2, 500, 99_999)))
    rings = [t for t in figure.data if t.name == "picked"]
    assert [t.x.tolist() if hasattr(t.x, "tolist") else list(t.x) for t in rings] == [
        pytest.approx([found.before_xy[2, 0], found.background_xy[200, 0]]),
        pytest.approx([found.after_xy[2, 0], found.background_xy[200, 0]]),
    ]
    assert rings[0].xaxis != rings[1].xaxis


def test_a_morph_begins_at_the_base_and_ends_at_the_tuned_rows(many):
    found, rows = many
    figure = morph(found, rows)
    assert len(figure.frames) == map_figures.STEPS == len(figure.layout.sliders[0].steps)
    for frame, expected in ((figure.frames[0], found.before_xy), (figure.frames[-1], found.after_xy)):
        drawn = {figure.data[n].name: data for n, data in zip(frame.traces, frame.data, strict=True)}
        np.testing.assert_allclose(drawn["changed"].x, expected[100:, 0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(drawn["winning"].y, expected[:100, 1], rtol=1e-5, atol=1e-6)
    middle = figure.frames[map_figures.STEPS // 2].data[0].x
    np.testing.assert_allclose(middle, (found.before_xy[100:, 0] + found.after_xy[100:, 0]) / 2, rtol=1e-4, atol=1e-5)


def test_regions_are_named_after_words_in_their_middle():
    generator = np.random.default_rng(2)
    xy = np.concatenate([generator.normal(0, 0.05, (50, 2)), generator.normal(9, 0.05, (50, 2))]).astype(np.float32)
    tokens = ["␣alpha"] * 49 + ["<b>"] + ["omega"] * 49 + ["12"]
    found = drift.DriftMap(
        np.arange(100), xy, np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), None, 1.0,
        drift.Settings("umap"), Signature({}),
    )  # fmt: skip
    rows = Rows(np.zeros(100), np.ones(100), np.zeros(100), np.zeros(100, bool), np.arange(100), tokens)
    said = {a.text: (a.x, a.y) for a in drift_map(found, rows, View(regions=True)).layout.annotations}
    assert said.keys() == {"<i>alpha, alpha, alpha</i>", "<i>omega, omega, omega</i>"}
    assert said["<i>alpha, alpha, alpha</i>"] == pytest.approx((0, 0), abs=0.2)

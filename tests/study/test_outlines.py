"""What lies inside of what is drawn on a map: against a test for each edge, and for what no browser would send."""

import math

import numpy as np
import pytest

from ks_core.signature import Signature
from ks_core.study import drift
from ks_core.study.outlines import CORNERS, enclosed, inside


def test_inside_a_convex_outline_is_on_one_side_of_every_edge():
    generator = np.random.default_rng(0)
    xy = generator.uniform(-2, 2, (5000, 2)).astype(np.float32)
    angles = np.sort(generator.uniform(0, 2 * math.pi, 9))
    corners = np.column_stack([np.cos(angles), np.sin(angles)])
    edges = np.roll(corners, -1, axis=0) - corners
    sides = [
        edge[0] * (xy[:, 1] - at[1]) - edge[1] * (xy[:, 0] - at[0]) for edge, at in zip(edges, corners, strict=True)
    ]
    expected = (np.array(sides) > 0).all(axis=0)
    assert 500 < expected.sum() < 4000
    np.testing.assert_array_equal(inside(xy, corners), expected)
    np.testing.assert_array_equal(inside(xy, corners[::-1]), expected)


def test_a_star_is_hollow_and_an_l_has_a_corner_missing():
    star = np.array([(math.sin(4 * math.pi * n / 5), math.cos(4 * math.pi * n / 5)) for n in range(5)])
    assert inside(np.array([[0.0, 0.0], [0.0, 0.8], [0.0, 2.0]]), star).tolist() == [False, True, False]
    bent = np.array([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)], float)
    assert inside(np.array([[0.5, 1.5], [1.5, 0.5], [1.5, 1.5]]), bent).tolist() == [True, True, False]


@pytest.fixture
def found():
    return drift.DriftMap(
        np.array([0, 1]), np.array([[0, 0], [5, 5]], np.float32), np.array([3, 2]), np.array([[9, 9], [8, 8]], np.float32),
        np.array([[1, 1], [5, 6]], np.float32), None, 0.1, drift.Settings("umap"), Signature({}),
    )  # fmt: skip


def test_boxes_and_outlines_together_each_on_its_map(found):
    box, around = {"xref": "x", "x": [2, -1], "y": [-1, 2]}, {"xref": "x", "x": [4, 6, 6, 4], "y": [4, 4, 7, 7]}
    assert enclosed(found, [box], []).tolist() == [0, 3]
    assert enclosed(found, [box], [around]).tolist() == [0, 1, 2, 3]
    assert enclosed(found, [box], [], beside=True).tolist() == [0], "in the base's space that one is elsewhere"
    assert enclosed(found, [{**box, "xref": "x2"}], [], beside=True).tolist() == [0, 3]
    assert enclosed(found, [], []).tolist() == []


@pytest.mark.parametrize("sent", [
    None, 3, "x", [], {}, {"x": 1, "y": 2}, {"x": [0, 9], "y": [0]}, {"x": ["a", "b", "c"], "y": [1, 2, 3]}, {"x": [[1], [2], [3]], "y": [1, 2, 3]},
    {"x": [0, 9, math.nan], "y": [0, 9, 0]}, {"x": [0, 9, math.inf], "y": [0, 9, 0]}, {"x": [0, 1e300, 9], "y": [0, 9, 0]}, {"x": [{}, 1, 2], "y": [0, 9, 0]},
    {"x": [10**400, 1, 2], "y": [0, 9, 0]}, {"x": [1, 2], "y": [1, 2]},
])  # fmt: skip
def test_what_is_no_outline_encloses_nothing(found, sent):
    assert enclosed(found, [], [sent]).tolist() == []


def test_an_outline_of_very_many_corners_is_looked_at_as_one_of_few(found):
    turns = np.linspace(0, 2 * math.pi, 200_000)
    ring = {"x": (3 * np.cos(turns)).tolist(), "y": (3 * np.sin(turns)).tolist()}
    assert enclosed(found, [], [ring] * 1000).tolist() == [0, 3] and CORNERS < 1000

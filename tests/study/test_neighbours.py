"""Neighbours are those of a plain search through all distances, whatever the rows are like."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ks_core.errors import SettingsError
from ks_core.study.neighbours import change, nearest


def searched(queries, rows, k, metric, own=None):
    """The plain search: every distance by scipy, in order, equal ones by place."""
    distances = cdist(queries.astype(float), rows.astype(float), metric)
    if metric == "cosine":
        distances[np.isnan(distances)] = 1.0
    if own is not None:
        for n, place in enumerate(own):
            if place >= 0:
                distances[n, place] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_they_are_those_of_a_plain_search(metric, shift):
    generator = np.random.default_rng(3)
    rows = (generator.normal(size=(700, 33)) + shift).astype(np.float32)
    rows[5] *= 1000  # one that is far longer than the others
    places, distances = nearest(rows[:200], rows, 10, metric=metric, own=np.arange(200))
    expected, expected_distances = searched(rows[:200], rows, 10, metric, np.arange(200))
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6, atol=1e-9)
    assert (places == expected).mean() > 0.999 and not (places == np.arange(200)[:, None]).any()


def test_equal_rows_come_by_their_place_and_more_than_the_first_round_keeps():
    rows = np.zeros((300, 4))
    rows[200:] = 1.0
    places, distances = nearest(rows[:2], rows, 150, own=np.arange(2))
    assert places[0].tolist() == list(range(1, 151)) and not distances.any()
    assert places[1].tolist() == [0, *range(2, 151)]


@pytest.mark.parametrize("order", [1, -1])
def test_rows_that_come_nearer_and_nearer_and_rows_that_are_equal(monkeypatch, order):
    """What every block brings is nearer than all before it, or as near as what is kept: neither is lost."""
    from ks_core.study import neighbours

    monkeypatch.setattr(neighbours, "ROWS", 64)
    rows = np.repeat(np.linspace(1, 50, 100)[::order, None], 5, axis=0) * np.ones((1, 8))
    queries = np.concatenate([np.zeros((3, 8)), rows[::97]])
    for metric in ("euclidean", "cosine"):
        places, distances = nearest(queries, rows, 12, metric=metric)
        expected, far = searched(queries, rows, 12, metric)
        np.testing.assert_allclose(distances, far, atol=1e-9)
        if metric == "euclidean":
            assert (places == expected).all()


def test_differences_below_what_float32_tells_apart_are_told_apart():
    rows = np.array([[1.0, 0.0]]) + np.linspace(0, 1e-9, 60)[::-1, None] * np.array([[1.0, 1.0]])
    places, _ = nearest(np.array([[1.0, 0.0]]), rows, 5)
    assert places.tolist() == [[59, 58, 57, 56, 55]]


def test_a_row_of_zeros_has_no_direction():
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    places, distances = nearest(rows[:2], rows, 3, metric="cosine", own=np.arange(2))
    assert places.tolist() == [[1, 2, 3], [0, 3, 2]]
    assert distances.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]]


def test_fewer_rows_than_asked_for():
    places, distances = nearest(np.zeros((1, 2)), np.ones((2, 2)), 4)
    assert places.tolist() == [[0, 1, -1, -1]] and np.isinf(distances[0, 2:]).all()
    places, _ = nearest(np.zeros((1, 2)), np.ones((0, 2)), 4)
    assert places.tolist() == [[-1] * 4]


def test_blocks_and_progress(monkeypatch):
    from ks_core.study import neighbours

    rows = np.random.default_rng(1).normal(size=(50, 6))
    whole, _ = nearest(rows, rows, 3)
    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "QUERIES", 20)
    monkeypatch.setattr(neighbours, "EXACT", 20)
    told, asked = [], []

    def read(places):
        asked.append(len(places))
        return rows[places]

    again, _ = nearest(rows, read, 3, many=50, report=lambda done, total, message: told.append(done / total))
    assert (again == whole).all() and told == sorted(told) and told[-1] == 1 and len(told) == 3 * 8 + 1
    assert max(asked) <= 3 + 1 + neighbours.SPARE


@pytest.mark.parametrize(("k", "metric"), [(0, "cosine"), (3, "hamming")])
def test_what_cannot_be(k, metric):
    with pytest.raises(SettingsError, match="Expected"):
        nearest(np.zeros((1, 2)), np.zeros((2, 2)), k, metric=metric)


def test_how_far_a_neighbourhood_changed():
    before, after = (
        np.array([[1, 2, 3], [1, 2, 3], [1, 2, -1], [-1, -1, -1]]),
        np.array([[3, 1, 2], [4, 5, 6], [2, 7, -1], [-1, -1, -1]]),
    )
    assert change(before, after).tolist() == [0.0, 1.0, 1 - 1 / 3, 0.0]

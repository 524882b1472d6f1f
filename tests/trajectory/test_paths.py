"""Drift paths: where rows stood, by hand; what is not known is not drawn; the plane."""

import numpy as np
import pytest

from ks_core.checkpoints.matrices import ArrayMatrix
from ks_core.errors import SettingsError, TrajectoryError
from ks_core.signature import Signature
from ks_core.trajectory import PLANES, Trajectory, drift_paths, figures

#: Points of the training, and the shift of rows 2 and 5 along one direction each; row 2 is as at the point before at step 20, and row 5 is
#: recorded whole from step 20 on.
STEPS, FAR = [0, 10, 20, 30], {2: [0, 1, 1, 3], 5: [0, 1, 2, 4]}


@pytest.fixture
def base():
    """Rows that differ in the first two values alone, so that the plane is known."""
    rows = np.zeros((40, 6), np.float32)
    rows[:, :2] = np.random.default_rng(0).normal(0, [9, 3], (40, 2))
    return rows


def trained(base, **changed):
    far = np.array(list(FAR.values()), float).T
    along = {2: np.eye(6)[0], 5: np.eye(6)[1]}
    whole = {2: [10, 30], 5: [20, 30]}
    shifts = {
        row: (np.array(steps), np.array([along[row] * FAR[row][STEPS.index(s)] for s in steps], np.float16))
        for row, steps in whole.items()
    }
    settings = {
        "steps": np.array(STEPS), "token_ids": np.array([2, 5]), "counts": far.astype(np.int32), "l2": far, "cosine": 1 - far / 10, "dim": 6,
        "size": len(base), "signature": Signature({"made": "by hand"}), "shifts": shifts,
    }  # fmt: skip
    return Trajectory(**{**settings, **changed})


@pytest.mark.parametrize("plane", PLANES)
def test_a_row_is_where_it_was_recorded_and_stays_while_nothing_is_said_of_it(base, plane):
    found = drift_paths(trained(base), ArrayMatrix(base), [5, 9, 2], plane)
    assert found.token_ids.tolist() == [5, 2] and found.steps.tolist() == STEPS, "of row 9 nothing is known"
    assert found.seen == pytest.approx(1, abs=1e-4) and sum(found.shares) == pytest.approx(1, abs=1e-4)
    away = found.xy - found.xy[0]
    for n, row in ((0, 5), (1, 2)):
        lengths = np.linalg.norm(away[:, n], axis=1)
        expected = [np.nan if row == 5 and step == 10 else far for step, far in zip(STEPS, FAR[row], strict=True)]
        np.testing.assert_allclose(lengths, expected, rtol=1e-3)
    assert set(found.background) == set(range(40)) - {2, 5}
    # Distances on the plane are those in space here: nothing lies outside of it.
    one, other = found.background[:2]
    assert np.linalg.norm(found.background_xy[0] - found.background_xy[1]) == pytest.approx(
        np.linalg.norm(base[one] - base[other]), rel=1e-4
    )


def test_what_lies_outside_the_plane_is_said(base):
    made = trained(base)
    aside = {row: (steps, np.roll(whole, 3, axis=1)) for row, (steps, whole) in made.shifts.items()}
    found = drift_paths(trained(base, shifts=aside), ArrayMatrix(base), [2, 5], "rows")
    assert found.seen < 0.2 and sum(found.shares) > 0.8
    figure = figures.paths(found, ["a", "b"])
    assert (
        f"shows {found.seen:.1%} of" in figure.layout.meta["alt"]
        and "of the variance" in figure.layout.xaxis.title.text
    )
    whole = drift_paths(trained(base, shifts=aside), ArrayMatrix(base), [2, 5])
    assert whole.seen == pytest.approx(1, abs=1e-4)
    # Row 5 goes 4 and row 2 goes 3, along two directions at right angles.
    assert whole.shares == pytest.approx((16 / 25, 9 / 25), abs=1e-3)
    assert "of the squared shifts" in figures.paths(whole, ["a", "b"]).layout.yaxis.title.text


def test_of_one_row_the_other_direction_is_that_of_the_rows(base):
    found = drift_paths(trained(base), ArrayMatrix(base), [5])
    assert found.shares == pytest.approx((1, 0), abs=1e-4)
    # Its shift is along the second value; beside it rows differ in the first alone.
    spread = found.background_xy.std(axis=0) / base[found.background, :2].std(axis=0)[::-1]
    np.testing.assert_allclose(spread, 1, rtol=1e-3)
    with pytest.raises(SettingsError, match="no plane"):
        drift_paths(trained(base), ArrayMatrix(base), [5], "umap")


def test_the_figure_has_a_stop_for_each_point_and_escapes_what_it_writes(base):
    found = drift_paths(trained(base), ArrayMatrix(base), [5, 2])
    figure = figures.paths(found, ["<b>", "the"])
    assert [frame.name for frame in figure.frames] == ["0", "10", "20", "30"]
    assert [step.label for step in figure.layout.sliders[0].steps] == ["0", "10", "20", "30"]
    assert [len(frame.data[0].x) for frame in figure.frames] == [1, 1, 2, 3], "row 5 is not known at step 10"
    assert [len(frame.data[1].x) for frame in figure.frames] == [1, 2, 3, 4]
    assert figure.data[1].name == "&lt;b&gt;" and figure.data[1].text[-1] == "&lt;b&gt;"
    assert list(figure.data[2].x) == list(figure.frames[-1].data[1].x)
    empty = figures.paths(drift_paths(trained(base), ArrayMatrix(base), [9]), [])
    assert empty.layout.meta["alt"] == "No path is drawn." and not empty.frames


def test_a_base_of_another_shape_is_refused(base):
    with pytest.raises(TrajectoryError, match="39 x 6"):
        drift_paths(trained(base), ArrayMatrix(base[:39]), [2])

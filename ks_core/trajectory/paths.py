"""Drift paths: where rows stood at the points of a training, on one plane with rows of the base.

Shifts hardly lie in the plane in which rows differ most, that of a drift map: of the demo's 32 largest less than a hundredth of their
squared length does. So a plane of the shifts themselves is offered first, and each says how much it shows.

Few rows are looked at, so the planes come from their singular vectors; ``ks_core.study.drift`` has thousands, and takes second moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ks_core.checkpoints.matrices import Matrix, take, to_floats
from ks_core.errors import SettingsError, TrajectoryError
from ks_core.trajectory.history import Trajectory

#: Other rows that are drawn at their base place.
BACKGROUND = 500
#: The planes: that in which the shifts at the end are longest, and that of the principal components of rows before and after.
PLANES = ("shifts", "rows")


@dataclass(frozen=True)
class Paths:
    """Rows on a plane: ``token_ids`` int64 (m,) in the order that was asked for, ``steps`` int64 (r,), ``xy`` float32 (r, m, 2) with NaN where a
    row's place is not known; ``background`` int64 (b,), the token ids of other rows, and ``background_xy`` float32 (b, 2).

    ``shares`` are of either axis: of the squared shifts at the end in the plane of the ``shifts``, of the variance in that of the ``rows``.
    ``seen`` is how much of the squared shifts lies in the plane.
    """

    plane: str
    token_ids: np.ndarray
    steps: np.ndarray
    xy: np.ndarray
    background: np.ndarray
    background_xy: np.ndarray
    shares: tuple[float, float]
    seen: float


def drift_paths(trajectory: Trajectory, base: Matrix, token_ids: Sequence[int], plane: str = PLANES[0]) -> Paths:
    """The ways of these rows, as far as they are recorded whole: of others nothing is said.

    ``base`` is the matrix that the training began with; ``BACKGROUND`` other rows of it are laid on the plane too, and the mean of all of them
    at their start is its origin. ``plane`` is one of ``PLANES``.

    Raises ``TrajectoryError`` for a base of another shape, ``SettingsError`` for another plane.
    """
    if plane not in PLANES:
        raise SettingsError(f"{plane!r} is no plane of paths. Expected one of: {', '.join(PLANES)}.")
    if base.shape != (trajectory.size, trajectory.dim):
        raise TrajectoryError(
            f"The base has {base.shape[0]:,} x {base.shape[1]:,} values, the training's embedding {trajectory.size:,} x {trajectory.dim:,}. "
            "Name the base that the training began with."
        )
    chosen = np.array([i for i in token_ids if i in trajectory.shifts], np.int64)
    left = np.setdiff1d(np.arange(trajectory.size), trajectory.token_ids)
    left = left if len(left) >= BACKGROUND else np.setdiff1d(np.arange(trajectory.size), chosen)
    background = np.sort(np.random.default_rng(0).choice(left, min(BACKGROUND, len(left)), replace=False))
    still, starts = (to_floats(take(base, ids), base.dtype, "float64") for ids in (background, chosen))
    shifts = np.stack([_shifts(trajectory, int(i)) for i in chosen], axis=1) if len(chosen) else _none(trajectory)
    ends = _last(shifts)
    middle = np.concatenate([still, starts]).mean(axis=0)
    centred = np.concatenate([still, starts, starts + ends]) - middle
    axes = np.zeros((2, trajectory.dim))
    if plane == "shifts":
        first = _directions(ends)
        axes[: len(first)] = first
    if len(rest := np.flatnonzero(~axes.any(axis=1))):  # of one row the shifts have one direction
        others = _directions(centred - centred @ axes.T @ axes)[: len(rest)]
        axes[rest[: len(others)]] = others
    shown = ends if plane == "shifts" else centred
    shares = np.square(shown @ axes.T).sum(axis=0) / (np.square(shown).sum() or 1.0)
    return Paths(
        plane=plane, token_ids=chosen, steps=trajectory.steps, xy=((shifts + starts - middle) @ axes.T).astype(np.float32),
        background=background, background_xy=((still - middle) @ axes.T).astype(np.float32),
        shares=(float(shares[0]), float(shares[1])),
        seen=float(np.square(ends @ axes.T).sum() / (np.square(ends).sum() or 1.0)),
    )  # fmt: skip


def _directions(rows: np.ndarray) -> np.ndarray:
    """The two directions in which rows (n, d) are longest, (2, d), or as many as they have. The sign is fixed, so that a plane does not flip."""
    if not rows.any():
        return np.zeros((0, rows.shape[1]))
    _, lengths, found = np.linalg.svd(rows, full_matrices=False)
    found = found[:2][lengths[:2] > 1e-9 * lengths[0]]
    return found * np.sign(found[np.arange(len(found)), np.abs(found).argmax(axis=1)])[:, None]


def _shifts(trajectory: Trajectory, row: int) -> np.ndarray:
    """A row's shift at each point, float64 (r, d): 0 where it is as it began, NaN where it moved and was not recorded whole.

    A record holds what changed since the last. So a row whose length and cosine are those of a point before is where it was then.
    """
    place = int(np.searchsorted(trajectory.token_ids, row))
    whole = dict(zip(trajectory.shifts[row][0].tolist(), trajectory.shifts[row][1], strict=True))
    said = np.column_stack([column[:, place] for column in (trajectory.counts, trajectory.l2, trajectory.cosine)])
    found = np.full((len(trajectory.steps), trajectory.dim), np.nan)
    for point, step in enumerate(trajectory.steps.tolist()):
        if trajectory.l2[point, place] == 0:
            found[point] = 0
        elif step in whole:
            found[point] = whole[step]
        elif point and (said[point] == said[point - 1]).all():
            found[point] = found[point - 1]
    return found


def _last(shifts: np.ndarray) -> np.ndarray:
    """Of shifts (r, m, d) the last known one of each row, (m, d)."""
    known = ~np.isnan(shifts[:, :, 0])
    at = len(shifts) - 1 - known[::-1].argmax(axis=0)
    return np.nan_to_num(shifts[at, np.arange(shifts.shape[1])])


def _none(trajectory: Trajectory) -> np.ndarray:
    return np.zeros((len(trajectory.steps), 0, trajectory.dim))

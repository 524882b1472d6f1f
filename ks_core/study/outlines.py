"""What lies inside of what somebody drew on a map: boxes and free outlines, as a browser sends them.

They come from outside, so nothing of them is believed: what is no outline encloses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ks_core.study.drift import DriftMap

#: Corners of an outline that are looked at; of more, as many over all of it.
CORNERS = 500
#: Outlines that are looked at.
OUTLINES = 20


def enclosed(found: DriftMap, boxes: Iterable[Any], outlines: Iterable[Any], *, beside: bool = False) -> np.ndarray:
    """Positions of the tokens inside any of them, ascending, int64 (k,). A box has two values under ``x`` and under ``y``, an
    outline those of all its corners. Tokens are where the tuned model has them; on a map ``beside`` the base's (axis ``x``) that is
    the second, with the axis ``x2``.
    """
    drawn = [(one, _corners(one, box=True)) for one in list(boxes)[:OUTLINES]]
    drawn += [(one, _corners(one)) for one in list(outlines)[:OUTLINES]]
    every, picked = np.concatenate([found.background, found.changed]), np.zeros(0, np.int64)
    for one, corners in drawn:
        if corners is not None:
            base = beside and one.get("xref") != "x2"
            xy = np.concatenate([found.background_xy, found.before_xy if base else found.after_xy])
            picked = np.union1d(picked, every[inside(xy, corners)])
    return picked


def inside(xy: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Which places (n, 2) lie inside a closed outline (m, 2): bool (n,). Where it crosses itself, a place that is surrounded twice
    is outside, as in a picture of it."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    found = ((xy >= low) & (xy <= high)).all(axis=1)
    x, y = xy[found].astype(float).T
    within = np.zeros(len(x), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crossed = (y0 > y) != (y1 > y)
            within ^= crossed & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    found[found] = within
    return found


def _corners(one: Any, *, box: bool = False) -> np.ndarray | None:
    """The corners of what was sent, float64 (m, 2); ``None`` where it is nothing of the kind."""
    if not isinstance(one, Mapping):
        return None
    x, y = one.get("x"), one.get("y")
    if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
        return None
    try:
        found = np.array([x, y], float).T
    except (TypeError, ValueError, OverflowError):
        return None
    if found.ndim != 2 or len(found) < (2 if box else 3) or not np.isfinite(found).all() or np.abs(found).max() > 1e30:
        return None
    if box:
        (left, bottom), (right, top) = found.min(axis=0), found.max(axis=0)
        return np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
    return found[np.linspace(0, len(found) - 1, min(len(found), CORNERS)).astype(np.int64)]

"""What is written on a drift map: names of tokens where they have room, a token that is looked at with those near it, regions.

And ``Rows``: what is known of the rows that a map shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from ks_core.drawing import BASE, CONTROL, TUNED, WINNING, log10, text, texts
from ks_core.study.drift import DriftMap

#: How tall a map is, in pixels, and how wide it is taken to be where names must not lie on each other.
TALL, WIDE = 640, 860
#: Names that are written on a map at most.
NAMES = 60

#: What a map can be coloured by, with the title of its colour bar.
COLOURS = {
    "KS statistic D": "D", "p-value (log10)": "log10 p", "distance in the original space": "L2 shift",
    "count in the training text": "count (log10)", "neighbours replaced": "share of<br>neighbours<br>replaced",
    "attribution": "share of<br>rows that<br>carry less",
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a scan, all (n,): ``statistic``, ``pvalue``, ``l2`` float64, ``winning`` bool, ``token_ids``
    int64, ``tokens`` readable strings; ``count``, ``change`` of neighbours and ``carried`` (attribution, in nats) float64 where they
    are known (NaN for single rows that have none).
    """

    statistic: np.ndarray
    pvalue: np.ndarray
    l2: np.ndarray
    winning: np.ndarray
    token_ids: np.ndarray
    tokens: Sequence[str]
    count: np.ndarray | None = None
    change: np.ndarray | None = None
    carried: np.ndarray | None = None

    @property
    def measures(self) -> dict[str, np.ndarray]:
        """What the rows can be coloured by, by name: those of ``COLOURS`` that are known."""
        known = {
            "KS statistic D": self.statistic,
            "p-value (log10)": log10(self.pvalue),
            "distance in the original space": self.l2,
        }
        if self.count is not None:
            known["count in the training text"] = np.log10(np.maximum(self.count, 0.5))
        if self.change is not None:
            known["neighbours replaced"] = self.change
        if self.carried is not None:
            # A few rows carry most of a gain: by nats all others would have one colour.
            known["attribution"] = _below(self.carried)
        return known

    def about(self, positions: np.ndarray) -> np.ndarray:
        """Token id, D, p and shift of some rows, float64 (m, 4): what a point carries."""
        return np.stack([x[positions].astype(float) for x in (self.token_ids, self.statistic, self.pvalue, self.l2)], 1)


def _below(values: np.ndarray) -> np.ndarray:
    """The share of the known values that are smaller than each, float64 (n,); NaN where there is none."""
    known = np.sort(values[~np.isnan(values)])
    return np.where(np.isnan(values), np.nan, np.searchsorted(known, values) / max(1, len(known) - 1))


@dataclass(frozen=True)
class Spot:
    """A token to be looked at, as its position in the scan, and those near it: ``stayed``, ``left`` and ``came`` are positions."""

    position: int
    stayed: Sequence[int] = ()
    left: Sequence[int] = ()
    came: Sequence[int] = ()


def places(found: DriftMap, *, tuned: bool = True) -> dict[int, tuple[float, float]]:
    """Where each row on a map is, by position: changed ones in the tuned space, or in the base's."""
    at = {int(i): (float(x), float(y)) for i, (x, y) in zip(found.background, found.background_xy, strict=True)}
    changed = found.after_xy if tuned else found.before_xy
    return at | {int(i): (float(x), float(y)) for i, (x, y) in zip(found.changed, changed, strict=True)}


def ringed(
    figure: go.Figure, at: Mapping[int, tuple[float, float]], picked: Sequence[int], column: int | None = None
) -> None:
    """Rings around those that are picked and on the map."""
    xy = [at[int(i)] for i in picked if int(i) in at]
    if xy:
        figure.add_scattergl(
            x=[p[0] for p in xy], y=[p[1] for p in xy], mode="markers", name="picked", hoverinfo="skip", showlegend=column in (None, 1),
            legendgroup="picked", marker={"size": 12, "symbol": "circle-open", "color": CONTROL, "line": {"width": 2}},
            **({} if column is None else {"row": 1, "col": column}),
        )  # fmt: skip


def spotted(figure: go.Figure, found: DriftMap, rows: Rows, spot: Spot | None) -> tuple[np.ndarray, np.ndarray]:
    """Draw a spot with those near it, and cut the map out around it. Returns the corners of what is seen."""
    every = np.concatenate([found.background_xy, found.before_xy, found.after_xy])
    whole = (every.min(axis=0), every.max(axis=0)) if len(every) else (np.zeros(2), np.ones(2))
    after, before = places(found), places(found, tuned=False)
    if spot is None or spot.position not in after:
        return whole
    seen = [after[spot.position], before[spot.position]]
    for name, near, colour in (
        ("near in both", spot.stayed, CONTROL), ("near in the base only", spot.left, BASE), ("near in the tuned only", spot.came, TUNED),
    ):  # fmt: skip
        at = [after[int(i)] for i in near if int(i) in after]
        seen += at
        if at:
            here = [int(i) for i in near if int(i) in after]
            figure.add_scattergl(
                x=[p[0] for p in at], y=[p[1] for p in at], mode="markers+text", name=name, hoverinfo="skip",
                text=texts(rows.tokens, np.array(here)), textposition="top center", textfont={"size": 10},
                marker={"size": 11, "symbol": "circle-open", "color": colour, "line": {"width": 2}},
            )  # fmt: skip
    x, y = after[spot.position]
    figure.add_scattergl(x=[x], y=[y], mode="markers", name=text(rows.tokens[spot.position], 24), hoverinfo="skip",
                         marker={"size": 20, "symbol": "circle-open", "color": WINNING, "line": {"width": 3}})  # fmt: skip
    figure.add_annotation(
        x=x, y=y, text=f"<b>{text(rows.tokens[spot.position], 24)}</b>", showarrow=True, arrowhead=0, ax=0, ay=-34
    )
    seen_xy = np.array(seen)
    half = max(0.05 * float((whole[1] - whole[0]).max()), 1.25 * float(np.abs(seen_xy - (x, y)).max()))
    figure.update_xaxes(range=[x - half * WIDE / TALL, x + half * WIDE / TALL])
    figure.update_yaxes(range=[y - half, y + half])
    return np.array([x - half * WIDE / TALL, y - half]), np.array([x + half * WIDE / TALL, y + half])


def names(figure: go.Figure, found: DriftMap, rows: Rows, window: tuple[np.ndarray, np.ndarray]) -> int:
    """Write the names of winning tokens beside them, the largest D first, where they lie on no other; how many."""
    low, high = window
    unit = float(max((high[0] - low[0]) / WIDE, (high[1] - low[1]) / TALL)) or 1.0  # of the map, a pixel
    taken: list[tuple[float, float, float, float]] = []
    chosen = []
    for n in np.nonzero(rows.winning[found.changed])[0]:
        x, y = found.after_xy[n]
        if not (low[0] <= x <= high[0] and low[1] <= y <= high[1]):
            continue
        wide, tall = (6.5 * len(_short(rows, found.changed[n])) + 8) * unit, 15 * unit
        box = (x - wide / 2, y, x + wide / 2, y + tall + 6 * unit)
        if all(box[2] < o[0] or o[2] < box[0] or box[3] < o[1] or o[3] < box[1] for o in taken):
            taken.append(box)
            chosen.append(n)
            if len(chosen) == NAMES:
                break
    if chosen:
        xy = found.after_xy[chosen]
        figure.add_scattergl(x=xy[:, 0], y=xy[:, 1], mode="text", name="names", hoverinfo="skip", showlegend=False,
                             text=[_short(rows, i) for i in found.changed[chosen]], textposition="top center", textfont={"size": 11})  # fmt: skip
    return len(chosen)


def _short(rows: Rows, position: int) -> str:
    return text(rows.tokens[int(position)], 16)


def regions(figure: go.Figure, found: DriftMap, rows: Rows, many: int = 10, cells: int = 14) -> None:
    """Name the densest parts of a map after the three tokens in the middle of each, if they are words."""
    at = np.concatenate([found.background, found.changed])
    xy = np.concatenate([found.background_xy, found.after_xy])
    words = np.array([rows.tokens[int(i)].strip("␣Ġ▁ ").isalpha() and len(rows.tokens[int(i)]) > 3 for i in at], bool)
    if words.sum() < 3:
        return
    at, xy = at[words], xy[words]
    counts, *edges = np.histogram2d(xy[:, 0], xy[:, 1], bins=cells)
    free = np.ones_like(counts, bool)
    for cell in np.argsort(counts, axis=None)[::-1]:
        i, j = np.unravel_index(cell, counts.shape)
        if not many or counts[i, j] < 3:
            return
        if not free[i, j]:
            continue
        free[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2] = False
        many -= 1
        inside = np.nonzero(
            (xy[:, 0] >= edges[0][i]) & (xy[:, 0] <= edges[0][i + 1]) & (xy[:, 1] >= edges[1][j]) & (xy[:, 1] <= edges[1][j + 1])
        )[0]  # fmt: skip
        middle = np.median(xy[inside], axis=0)
        nearest = inside[np.argsort(np.square(xy[inside] - middle).sum(axis=1), kind="stable")[:3]]
        figure.add_annotation(
            x=float(middle[0]), y=float(middle[1]), showarrow=False, opacity=0.75,
            text="<i>" + ", ".join(text(rows.tokens[int(k)].strip("␣Ġ▁ "), 14) for k in at[nearest]) + "</i>",
        )  # fmt: skip

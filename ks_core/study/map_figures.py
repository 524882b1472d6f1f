"""Figures of drift maps: where rows went as arrows, as a morph from base to tuned, or as two maps side by side.

Every function takes a map, and ``Rows``, what is known of the rows that are on it.

Plotly's WebGL points draw them, and a picture the many that stand still. Where there is no GPU, 128,256 points cost 1.1 s of processor
time whenever a map was drawn, which is at each step of a drag; with the picture it is a quarter of that. The component of Embedding Atlas
was looked at and left: it brings a database and language models along, and its users report that it fails inside Streamlit from about
260,000 points on and that its search stopped working there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ks_core.drawing import BASE, LEGEND_ABOVE, MUTED, SCALE, WINNING, labelled, sheet, texts
from ks_core.study.drift import DriftMap
from ks_core.study.map_labels import COLOURS, TALL, WIDE, Rows, Spot, names, places, regions, ringed, spotted
from ks_core.study.map_picture import dots

#: Tokens of the background that are points, and say who they are; the others are one picture. Arrows that can be told apart.
SINGLE, ARROWS = 6000, 600
#: Steps of a morph.
STEPS = 11


@dataclass(frozen=True)
class View:
    """What is drawn on a map beside its points: ``arrows`` of the winning tokens, ``names`` of the winning ones (those of the
    largest D that find room), ``regions`` named after what stands there, rings around ``picked`` positions, and a ``spot``,
    around which the map is cut out."""

    colour: str = "KS statistic D"
    arrows: bool = True
    names: bool = True
    regions: bool = False
    picked: Sequence[int] = ()
    spot: Spot | None = None


def drift_map(found: DriftMap, rows: Rows, view: View | None = None) -> go.Figure:
    """The map: other tokens in grey, changed ones at their new place, arrows for the winning ones: at most ``ARROWS``, those of the
    largest D.
    """
    view = view or View()
    figure = _sheet(found)
    c, wins = found.changed, rows.winning[found.changed]
    _background(figure, found, rows)
    arrowed = np.nonzero(wins)[0][:ARROWS] if view.arrows else np.zeros(0, np.int64)
    if len(arrowed):
        start, stop = found.before_xy[arrowed], found.after_xy[arrowed]
        path = np.stack([start, stop, np.full_like(start, np.nan)], axis=1).reshape(-1, 2)
        figure.add_scattergl(x=path[:, 0], y=path[:, 1], mode="lines", name="from base to tuned", opacity=0.7,
                             line={"color": WINNING, "width": 1}, hoverinfo="skip")  # fmt: skip
        figure.add_scattergl(x=start[:, 0], y=start[:, 1], mode="markers", name="winning, base",
                             marker={"color": BASE, "size": 4, "symbol": "circle-open"}, hoverinfo="skip")  # fmt: skip
    move = found.after_xy - found.before_xy
    pointed = np.isin(np.arange(len(c)), arrowed)
    # Heads come in steps of 10 degrees: the browser prepares a picture for each angle.
    angles = np.round(np.degrees(np.arctan2(move[:, 0], move[:, 1])) / 10) * 10
    for name, part, size, symbol, line in (
        ("changed", ~wins, 4, "circle", (0.5, MUTED)),
        ("winning, tuned", wins & pointed, 8, "arrow", (1, WINNING)),
        ("winning", wins & ~pointed, 7, "diamond", (1, WINNING)),
    ):
        if part.any():
            _points(figure, name, c[part], found.after_xy[part], rows, view.colour, size, symbol, line,
                    angles[part] if symbol == "arrow" else None)  # fmt: skip
    _colour_bar(figure, c, rows, view.colour)
    window = spotted(figure, found, rows, view.spot)
    ringed(figure, places(found), view.picked)
    written = names(figure, found, rows, window) if view.names else 0
    if view.regions:
        regions(figure, found, rows)
    labelled(figure, f"{len(c):,} changed tokens at their new place, {len(found.background):,} others in grey",
         f"Map of embedding rows by {found.settings.method.upper()}: {len(c):,} changed tokens, "
         f"{wins.sum():,} of them winning, among {len(found.background):,} others; {len(arrowed):,} arrows from base "
         f"to tuned, {written} names, colour by {view.colour}.")  # fmt: skip
    return figure


def morph(found: DriftMap, rows: Rows, view: View | None = None) -> go.Figure:
    """The map with a slider from base to tuned: each changed token goes its way in a straight line, in ``STEPS`` steps."""
    view = view or View()
    figure = _sheet(found)
    c, wins = found.changed, rows.winning[found.changed]
    _background(figure, found, rows)
    moving: list[tuple[int, np.ndarray]] = []
    for name, part, size, line in (("changed", ~wins, 4, (0.5, MUTED)), ("winning", wins, 8, (1, WINNING))):
        if part.any():
            _points(figure, name, c[part], found.before_xy[part], rows, view.colour, size, "circle", line)
            moving.append((len(figure.data) - 1, part))
    frames, steps = [], []
    for share in np.linspace(0, 1, STEPS):
        at = found.before_xy + np.float32(share) * (found.after_xy - found.before_xy)
        name = f"{share:.0%}"
        data = [go.Scattergl(x=at[part, 0], y=at[part, 1]) for _, part in moving]
        frames.append(go.Frame(name=name, data=data, traces=[n for n, _ in moving]))
        now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
        label = {"0%": "base", "100%": "tuned"}.get(name, name)
        steps.append({"label": label, "method": "animate", "args": [[name], now]})
    figure.frames = frames
    play = {"fromcurrent": False, "frame": {"duration": 120, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        sliders=[{"steps": steps, "x": 0.12, "len": 0.88, "y": -0.14, "currentvalue": {"prefix": "From base to tuned: "}}],
        updatemenus=[{"type": "buttons", "direction": "left", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top",
                      "buttons": [{"label": "Play", "method": "animate", "args": [None, play]}]}],
        legend=LEGEND_ABOVE, margin={"t": 84}, height=TALL + 70,
    )  # fmt: skip
    # All the way is on the sheet from the start, so that it does not jump.
    every = np.concatenate([found.before_xy, found.after_xy, found.background_xy])
    if len(every):
        margin = 0.03 * (every.max(axis=0) - every.min(axis=0) + 1e-6)
        low, high = every.min(axis=0) - margin, every.max(axis=0) + margin
        figure.update_xaxes(range=[float(low[0]), float(high[0])])
        figure.update_yaxes(range=[float(low[1]), float(high[1])])
    _colour_bar(figure, c, rows, view.colour)
    labelled(figure, f"{len(c):,} changed tokens on their way, {len(found.background):,} others in grey",
         f"Map of embedding rows by {found.settings.method.upper()} with a slider from base to tuned: {len(c):,} changed tokens, "
         f"{wins.sum():,} of them winning, among {len(found.background):,} others, colour by {view.colour}.")  # fmt: skip
    return figure


def side_by_side(found: DriftMap, rows: Rows, view: View | None = None) -> go.Figure:
    """Two maps with the same axes: the base on the left, the tuned model on the right. What is picked in one is ringed in both."""
    view = view or View()
    c, wins = found.changed, rows.winning[found.changed]
    figure = make_subplots(
        1, 2, subplot_titles=("base", "tuned"), shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.03
    )
    empty = _sheet(found)
    figure.update_layout(empty.layout)
    for column, xy in ((1, found.before_xy), (2, found.after_xy)):
        _background(figure, found, rows, column)
        for name, part, size, line in (("changed", ~wins, 4, (0.5, MUTED)), ("winning", wins, 7, (1, WINNING))):
            if part.any():
                _points(figure, name, c[part], xy[part], rows, view.colour, size, "circle", line, column=column)
        ringed(figure, places(found, tuned=column == 2), view.picked, column)
    across, up = (
        axis.title.text.replace("Principal component", "PC") for axis in (empty.layout.xaxis, empty.layout.yaxis)
    )
    figure.update_xaxes(title=across, zeroline=False, matches="x", scaleanchor=None)
    figure.update_yaxes(zeroline=False, matches="y")
    figure.update_yaxes(title=up, scaleanchor="x", col=1)
    _colour_bar(figure, c, rows, view.colour)
    figure.update_annotations(yshift=4)
    # As tall as two maps beside each other need: one unit is as long in either direction.
    every = np.concatenate([found.before_xy, found.after_xy, found.background_xy])
    wide, tall = (every.max(axis=0) - every.min(axis=0) + 1e-6) if len(every) else (1.0, 1.0)
    figure.update_layout(height=float(np.clip(WIDE / 2 * tall / wide + 200, TALL * 2 / 3, TALL)))
    labelled(figure, f"{len(c):,} changed tokens before and after, {len(found.background):,} others in grey",
         f"Two maps of embedding rows by {found.settings.method.upper()}, base and tuned: {len(c):,} changed tokens, "
         f"{wins.sum():,} of them winning, among {len(found.background):,} others, colour by {view.colour}.")  # fmt: skip
    return figure


def _sheet(found: DriftMap) -> go.Figure:
    name = "Principal component" if found.settings.method == "pca" else "UMAP"
    shares = [f" ({share:.1%} of the variance)" for share in found.explained or ()] or ["", ""]
    figure = sheet(f"{name} 2{shares[1]}", f"{name} 1{shares[0]}", height=TALL)
    # One unit is as long in either direction: only then is the angle of an arrow, and of its head, the map's.
    figure.update_yaxes(scaleanchor="x")
    figure.update_layout(dragmode="pan")
    return figure


def singly(found: DriftMap) -> np.ndarray:
    """Which tokens of the background are points of their own, bool (b,): ``SINGLE`` over all of it, and those at its four ends,
    by which the axes are chosen. All others are in the picture."""
    xy = found.background_xy
    if len(xy) <= SINGLE:
        return np.ones(len(xy), bool)
    chosen = np.zeros(len(xy), bool)
    chosen[np.linspace(0, len(xy) - 1, SINGLE).astype(np.int64)] = True
    chosen[[*xy.argmin(axis=0), *xy.argmax(axis=0)]] = True
    return chosen


def _background(figure: go.Figure, found: DriftMap, rows: Rows, column: int | None = None) -> None:
    """Draw the tokens that stand still."""
    alone = singly(found)
    b, xy = found.background[alone], found.background_xy[alone]
    others = "others, at their base place" if (rows.l2[found.background] > 0).any() else "unchanged"
    cell: dict[str, int] = {} if column is None else {"row": 1, "col": column}
    if not alone.all():
        made = dots(found.background_xy[~alone], MUTED)
        figure.add_layout_image(
            source=made.source, x=made.low[0], y=made.high[1], sizex=made.high[0] - made.low[0], sizey=made.high[1] - made.low[1],
            xref="x", yref="y", xanchor="left", yanchor="top", sizing="stretch", layer="below", **cell,
        )  # fmt: skip
    figure.add_scattergl(
        x=xy[:, 0], y=xy[:, 1], mode="markers", name=others, showlegend=column in (None, 1), legendgroup=others,
        marker={"color": MUTED, "size": 3, "opacity": 0.35}, customdata=rows.token_ids[b], text=texts(rows.tokens, b),
        hovertemplate=f"%{{text}}<br>{others}<extra></extra>", **cell,
    )  # fmt: skip


def _points(
    figure: go.Figure, name: str, positions: np.ndarray, xy: np.ndarray, rows: Rows, colour: str, size: float, symbol: str,
    line: tuple[float, str], angles: np.ndarray | None = None, column: int | None = None,
) -> None:  # fmt: skip
    """Changed tokens of one kind, coloured by a measure."""
    cell = {} if column is None else {"row": 1, "col": column}
    look = {"size": size, "symbol": symbol, "opacity": 1, "line": {"width": line[0], "color": line[1]}}
    if column in (None, 1):
        # A trace of many colours has no colour of its own in the legend; one without points stands in for it.
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, legendgroup=name,
                           marker={**look, "color": SCALE[len(SCALE) // 2]}, **cell)  # fmt: skip
    marker = {**look, "color": rows.measures[colour][positions].astype(np.float32), "coloraxis": "coloraxis"}
    if angles is not None:
        marker["angle"] = angles.astype(np.float32)
    figure.add_scattergl(
        x=xy[:, 0], y=xy[:, 1], mode="markers", name=name, marker=marker, legendgroup=name, showlegend=False,
        customdata=rows.about(positions), text=texts(rows.tokens, positions),
        hovertemplate="<b>%{text}</b> (id %{customdata[0]:.0f})<br>D %{customdata[1]:.4f}<br>p %{customdata[2]:.3g}"
        "<br>L2 shift %{customdata[3]:.4g}<extra></extra>", **cell,
    )  # fmt: skip


def _colour_bar(figure: go.Figure, changed: np.ndarray, rows: Rows, colour: str) -> None:
    values = rows.measures[colour][changed]
    values = values[~np.isnan(values)]
    # Without a range of its own the axis takes each trace's, and one value would have two colours.
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    bar = {"title": {"text": COLOURS[colour]}, "thickness": 14, "len": 0.8}
    figure.update_layout(coloraxis={
        "colorscale": SCALE, "colorbar": bar, "cmin": low, "cmax": high if high > low else low + 1.0,
        "reversescale": colour == "p-value (log10)", "showscale": len(values) > 0})  # fmt: skip

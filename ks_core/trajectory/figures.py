"""Figures of a trajectory: the ticket's size, the D of tokens, their ranks, and when each won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ks_core.drawing import (
    BASE,
    CONTROL,
    LEGEND_ABOVE,
    LONG,
    MUTED,
    SCALE,
    TUNED,
    WINNING,
    labelled,
    nothing,
    sheet,
    text,
)
from ks_core.ks.statistic import critical_value
from ks_core.trajectory.history import Trajectory
from ks_core.trajectory.paths import Paths

_COLOURS = (WINNING, TUNED, BASE, CONTROL, MUTED, "#CC79A7", "#56B4E9", "#F0E442")
#: How a loss and its parts are called and drawn, by their names in ``Trajectory.every_loss``.
_LOSSES = {
    "all": ("loss", BASE, "solid"), "content": ("loss on content", CONTROL, "solid"), "end": ("loss on the end token", TUNED, "dot"),
}  # fmt: skip
#: Lines that can be told apart, and rows of a heat map that can be read.
LINES, ROWS = 16, 60
#: Points of a slider at most, and milliseconds between them where it is played.
STOPS, PACE = 60, 150


def ticket_size(trajectory: Trajectory, alpha: float) -> go.Figure:
    """How many rows win at each point, and the loss where it was recorded, its parts too.

    A batch has few end tokens, and their loss jumps from step to step. So where there are several losses to a point, their mean is drawn there.
    """
    sizes = trajectory.winners(alpha).sum(axis=1)
    figure = sheet(f"Rows with p < {alpha:g}", "Optimizer step")
    figure.add_scatter(
        x=trajectory.steps, y=sizes, mode="lines+markers", name="ticket", line={"color": WINNING, "width": 2}, marker={"size": 5},
        hovertemplate="step %{x}: %{y:,} rows<extra></extra>",
    )  # fmt: skip
    said = f"The ticket has {int(sizes[0]):,} rows at step {int(trajectory.steps[0]):,} and {int(sizes[-1]):,} at step {int(trajectory.steps[-1]):,}"
    for part, pairs in trajectory.every_loss.items():
        name, colour, dash = _LOSSES[part]
        at, losses = _by_point(pairs, trajectory.steps)
        figure.add_scatter(
            x=at, y=losses, mode="lines", name=name, yaxis="y2", line={"color": colour, "width": 1.5, "dash": dash},
            hovertemplate=f"step %{{x}}: {name} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
        said += f"; the {name} goes from {losses[0]:.2f} to {losses[-1]:.2f}"
    if trajectory.every_loss:
        many = any(_several(pairs, trajectory.steps) for pairs in trajectory.every_loss.values())
        figure.update_layout(
            yaxis2={
                "title": "Training loss (nats a token)" + (", mean since the point before" if many else ""),
                "overlaying": "y",
                "side": "right",
                "showgrid": False,
                "tickmode": "auto",
                "zeroline": False,
            }
        )
    figure.update_yaxes(rangemode="tozero")
    return labelled(figure, "Ticket size over the training", f"{said}.")


def _several(pairs: Sequence[tuple[int, float]], steps: np.ndarray) -> bool:
    """Whether there are several losses to a point."""
    return len(pairs) >= 2 * len(steps)


def _by_point(pairs: Sequence[tuple[int, float]], steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses as they are drawn: each, or where there are several to a point the mean of those since the point before."""
    at, losses = np.array([step for step, _ in pairs]), np.array([loss for _, loss in pairs])
    if not _several(pairs, steps):
        return at, losses
    place = np.searchsorted(steps, at)
    kept = np.unique(place[place < len(steps)])
    return steps[kept], np.array([losses[place == n].mean() for n in kept])


def statistics(trajectory: Trajectory, tokens: Sequence[str], places: Sequence[int], alpha: float) -> go.Figure:
    """D of some rows at each point, with the critical value; ``tokens`` are the strings of all rows, ``places`` those drawn."""
    figure = sheet("KS statistic D", "Optimizer step", height=440)
    for n, place in enumerate(places[:LINES]):
        name = text(tokens[place])
        figure.add_scatter(
            x=trajectory.steps, y=trajectory.statistic[:, place], mode="lines+markers", name=name, marker={"size": 4},
            line={"color": _COLOURS[n % len(_COLOURS)], "dash": "solid" if n < len(_COLOURS) else "dot"},
            hovertemplate=f"{name}, step %{{x}}: D %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    critical = critical_value(trajectory.dim, alpha)
    if critical <= 1:
        figure.add_hline(
            y=critical, line={"color": WINNING, "dash": "dash"}, annotation_text=f"critical D {critical:.4f}"
        )
    if not len(places):
        nothing(figure, "Choose tokens above")
    said = "; ".join(f"{tokens[p]} {trajectory.statistic[-1, p]:.3f}" for p in places[:LINES])
    reached = f"The critical value is {critical:.4f}." if critical <= 1 else f"No D can have p below {alpha:g}."
    return labelled(figure, "D of tokens over the training", f"D at the end: {said or 'no token is chosen'}. {reached}")


def ranks(trajectory: Trajectory, tokens: Sequence[str], places: Sequence[int]) -> go.Figure:
    """The rank by D of some rows at each point: a bump chart. A row that has not moved has no rank yet."""
    figure = sheet("Rank by D (log scale)", "Optimizer step", height=440)
    figure.update_yaxes(type="log", autorange="reversed")
    for n, place in enumerate(places[:LINES]):
        name = text(tokens[place])
        there = trajectory.l2[:, place] > 0
        figure.add_scatter(
            x=trajectory.steps[there], y=trajectory.ranks[there, place], mode="lines+markers", name=name, marker={"size": 6},
            line={"color": _COLOURS[n % len(_COLOURS)], "dash": "solid" if n < len(_COLOURS) else "dot"},
            hovertemplate=f"{name}, step %{{x}}: rank %{{y:,}}<extra></extra>",
        )  # fmt: skip
    if not len(places):
        nothing(figure, "Choose tokens above")
    said = "; ".join(f"{tokens[p]} {int(trajectory.ranks[-1, p])}" for p in places[:LINES])
    return labelled(figure, "Ranks over the training", f"Rank by D at the end: {said or 'no token is chosen'}.")


def heat(trajectory: Trajectory, tokens: Sequence[str], places: Sequence[int]) -> go.Figure:
    """D of some rows, a line each, over the steps."""
    places = list(places[:ROWS])
    figure = sheet("", "Optimizer step", height=180 + 16 * len(places))
    if not places:
        nothing(figure)
        return labelled(figure, "D, token by token", "No row moved.")
    names = [f"{text(tokens[p], LONG)} ({int(trajectory.token_ids[p])})" for p in places]
    figure.add_heatmap(
        x=trajectory.steps, y=names, z=trajectory.statistic[:, places].T.astype(np.float32), colorscale=SCALE, zmin=0, colorbar={"title": "D"},
        hovertemplate="%{y}, step %{x}: D %{z:.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    largest = trajectory.statistic[-1, places]
    return labelled(
        figure, f"D of {len(places)} tokens, step by step",
        f"Heat map of D of {len(places)} tokens over {len(trajectory.steps)} points; at the end it lies between {largest.min():.3f} and {largest.max():.3f}.",
    )  # fmt: skip


def first_wins(trajectory: Trajectory, alpha: float) -> go.Figure:
    """At which point rows won for the first time: those that kept it from then on, and those that did not."""
    first, stays = trajectory.first_win(alpha), trajectory.stays(alpha)
    figure = sheet("Rows", "Optimizer step of the first win")
    won = first >= 0
    for name, which, colour in (("stay to the end", won & stays, WINNING), ("lose it again", won & ~stays, MUTED)):
        counted = [int((first[which] == step).sum()) for step in trajectory.steps]
        figure.add_bar(
            x=trajectory.steps,
            y=counted,
            name=name,
            marker={"color": colour},
            hovertemplate=f"step %{{x}}: %{{y:,}} rows that {name}<extra></extra>",
        )
    if not won.any():
        nothing(figure, "No row won at any point")
    return labelled(
        figure, "When tokens win first",
        f"{int(won.sum()):,} rows win at some point: {int((won & stays).sum()):,} have p < {alpha:g} from then on to the end, {int((won & ~stays).sum()):,} not.",
    )  # fmt: skip


def paths(found: Paths, tokens: Sequence[str]) -> go.Figure:
    """The ways of rows on a plane, with a slider over the steps; ``tokens`` are the strings of ``found.token_ids``."""
    what, of = ("Direction", "squared shifts") if found.plane == "shifts" else ("Principal component", "variance")
    x, y = (f"{what} {n} ({share:.1%} of the {of})" for n, share in enumerate(found.shares, 1))
    figure = sheet(y, x, height=620)
    figure.add_scattergl(
        x=found.background_xy[:, 0], y=found.background_xy[:, 1], mode="markers", name="other tokens, at their base place",
        marker={"color": MUTED, "size": 3, "opacity": 0.35}, hoverinfo="skip",
    )  # fmt: skip
    drawn = min(LINES, len(found.token_ids))
    if not drawn:
        nothing(figure, "Of no chosen token the row was recorded whole")
        return labelled(figure, "Where rows went", "No path is drawn.")
    stops = np.unique(np.linspace(0, len(found.steps) - 1, min(STOPS, len(found.steps))).astype(np.int64))
    for n in range(drawn):
        figure.add_scatter(name=text(tokens[n]), **_way(found, n, int(stops[-1]), tokens[n]))
    steps, frames = [], []
    for stop in stops:
        step, data = int(found.steps[stop]), [go.Scatter(**_way(found, n, int(stop), tokens[n])) for n in range(drawn)]
        frames.append(go.Frame(name=str(step), data=data, traces=list(range(1, drawn + 1))))
        now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
        steps.append({"label": f"{step:,}", "method": "animate", "args": [[str(step)], now]})
    figure.frames = frames  # at once: Plotly looks through all of them each time
    play = {"fromcurrent": False, "frame": {"duration": PACE, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        sliders=[{"steps": steps, "active": len(steps) - 1, "x": 0.12, "len": 0.88, "y": -0.1, "currentvalue": {"prefix": "Step "}}],
        updatemenus=[{"type": "buttons", "direction": "left", "x": 0, "xanchor": "left", "y": -0.14, "yanchor": "top",
                      "buttons": [{"label": "Play", "method": "animate", "args": [None, play]}]}],
        legend=LEGEND_ABOVE, margin={"t": 110},
    )  # fmt: skip
    # All the way is on the sheet from the start, so that it does not jump; one unit is as long in either direction.
    every = np.concatenate([found.background_xy, found.xy[:, :drawn].reshape(-1, 2)])
    every = every[~np.isnan(every[:, 0])]
    low, high = every.min(axis=0), every.max(axis=0)
    margin = 0.04 * (high - low + 1e-6)
    figure.update_xaxes(range=[float(low[0] - margin[0]), float(high[0] + margin[0])])
    figure.update_yaxes(range=[float(low[1] - margin[1]), float(high[1] + margin[1])], scaleanchor="x")
    return labelled(
        figure, f"Where {drawn} rows went",
        f"Paths of {drawn} rows over {len(stops)} points, from step {int(found.steps[stops[0]]):,} to {int(found.steps[stops[-1]]):,}, among "
        f"{len(found.background):,} other rows. The plane shows {found.seen:.1%} of the squared shifts.",
    )  # fmt: skip


def _way(found: Paths, n: int, stop: int, token: str) -> dict[str, Any]:
    """A row's known places up to a point as a line, with its token at the last of them."""
    there = np.flatnonzero(~np.isnan(found.xy[: stop + 1, n, 0]))
    x, y = found.xy[there, n].T
    name, last = text(token), max(0, len(there) - 1)
    return {
        "x": x, "y": y, "mode": "lines+markers+text", "line": {"color": _COLOURS[n % len(_COLOURS)], "width": 1.5},
        "marker": {"size": [0] * last + [8] * (len(there) > 0), "opacity": 1}, "text": [""] * last + [name] * (len(there) > 0),
        "textposition": "top center", "customdata": found.steps[there],
        "hovertemplate": f"{name}, step %{{customdata}}<extra></extra>",
    }  # fmt: skip

"""Figures of a trajectory: the ticket's size, the D of tokens, their ranks, and when each won."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ks_core.drawing import BASE, CONTROL, LONG, MUTED, SCALE, TUNED, WINNING, labelled, nothing, sheet, text
from ks_core.ks.statistic import critical_value
from ks_core.trajectory.history import Trajectory

_COLOURS = (WINNING, TUNED, BASE, CONTROL, MUTED, "#CC79A7", "#56B4E9", "#F0E442")
#: Lines that can be told apart, and rows of a heat map that can be read.
LINES, ROWS = 16, 60


def ticket_size(trajectory: Trajectory, alpha: float) -> go.Figure:
    """How many rows win at each point, and the loss where it was recorded."""
    sizes = trajectory.winners(alpha).sum(axis=1)
    figure = sheet(f"Rows with p < {alpha:g}", "Optimizer step")
    figure.add_scatter(
        x=trajectory.steps, y=sizes, mode="lines+markers", name="ticket", line={"color": WINNING, "width": 2}, marker={"size": 5},
        hovertemplate="step %{x}: %{y:,} rows<extra></extra>",
    )  # fmt: skip
    said = f"The ticket has {int(sizes[0]):,} rows at step {int(trajectory.steps[0]):,} and {int(sizes[-1]):,} at step {int(trajectory.steps[-1]):,}"
    if trajectory.losses:
        at, losses = zip(*trajectory.losses, strict=True)
        figure.add_scatter(
            x=at, y=losses, mode="lines", name="loss", yaxis="y2", line={"color": BASE, "width": 1.5},
            hovertemplate="step %{x}: loss %{y:.3f}<extra></extra>",
        )  # fmt: skip
        figure.update_layout(
            yaxis2={
                "title": "Training loss (nats a token)",
                "overlaying": "y",
                "side": "right",
                "showgrid": False,
                "tickmode": "auto",
                "zeroline": False,
            }
        )
        said += f"; the loss goes from {losses[0]:.2f} to {losses[-1]:.2f}"
    figure.update_yaxes(rangemode="tozero")
    return labelled(figure, "Ticket size over the training", f"{said}.")


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

"""The figures of the page Learn: what the lessons' experiments gave, and the drawing of the methods that moves."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from ks_core.drawing import BASE, CONTROL, MUTED, TUNED, WINNING, labelled, mark, sheet
from ks_core.ks.statistic import pvalue_table
from ks_core.teaching.lessons import Ties, asymptotic_pvalues

#: Rows of the drawing, how far each moved in Embed Tuning (0 to 1), and which of them win.
MOVED = (0.15, 0.9, 0.05, 0.3, 1.0, 0.1, 0.2, 0.8, 0.0, 0.25)
WINNERS = tuple(i for i, moved in enumerate(MOVED) if moved >= 0.8)
SCENES = (
    "The base model: one row for every token of the vocabulary.",
    "Embed Tuning trains the whole matrix. Some rows move far, most hardly at all.",
    "The KS test compares each row before and after. Those with p below alpha are the ticket.",
    "Partial Transfer copies the ticket's tuned rows into the base. Nothing is trained.",
    "Partial Tuning begins at the base again and trains the ticket's rows alone.",
)


def power_curve(
    widths: Sequence[int], shares: Sequence[float], shift: float, alpha: float, dim: int | None
) -> go.Figure:
    """How often a shift is seen, against the width of a row; ``dim`` is that of the model that is looked at, if any."""
    figure = sheet("Rows with p below alpha", "Values in a row, d (log scale)")
    figure.add_scatter(
        x=list(widths), y=list(shares), mode="lines+markers", line={"color": WINNING, "width": 3}, marker={"size": 9},
        hovertemplate="d = %{x:,}: %{y:.0%} of the rows are found<extra></extra>", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(type="log", tickvals=list(widths), ticktext=[f"{w:,}" for w in widths])
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    if dim:
        mark(figure, dim, f"this pair, d = {dim:,}", left=dim > 500, log=True)
    enough = next((w for w, share in zip(widths, shares, strict=True) if share >= 0.9), None)
    return labelled(
        figure, f"A shift of {shift:g} deviations, tested at alpha {alpha:g}",
        f"Share of rows whose shift of {shift:g} standard deviations has p below {alpha:g}, against the width of a row: "
        f"{shares[0]:.0%} at d = {widths[0]}, {shares[-1]:.0%} at d = {widths[-1]:,}. "
        + (f"Nine in ten are found from d = {enough:,}." if enough else "Nine in ten are found at none of these widths."),
    )  # fmt: skip


def exact_and_asymptotic(dim: int, alpha: float) -> go.Figure:
    """Both p-values of every D that a row of ``dim`` values can have, down to 1e-8."""
    exact, large = pvalue_table(dim), asymptotic_pvalues(dim)
    k = np.arange(dim + 1)
    shown = (exact >= 1e-8) | (large >= 1e-8)
    figure = sheet("p-value (log scale)", "KS statistic D")
    for name, values, colour, dash in (("exact", exact, BASE, "solid"), ("large samples", large, TUNED, "dash")):
        figure.add_scatter(
            x=k[shown] / dim, y=np.maximum(values[shown], 1e-12), name=name, mode="lines+markers" if dim <= 64 else "lines",
            line={"color": colour, "dash": dash, "width": 3}, hovertemplate=f"D = %{{x:.4f}}: p = %{{y:.3g}}, {name}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(alpha, line={"color": WINNING, "dash": "dash", "width": 2}, annotation_text=f"alpha = {alpha:g}")
    figure.update_yaxes(type="log", range=[-8, 0.2], dtick=2, exponentformat="power")
    worst = int(np.abs(exact - large).argmax())
    return labelled(
        figure, f"p-values of rows of {dim:,} values",
        f"Exact and large-sample p-values against D for rows of {dim:,} values. They differ most at D = {worst / dim:.4f}: "
        f"{exact[worst]:.3g} exact, {large[worst]:.3g} for large samples.",
    )  # fmt: skip


def permutation_histogram(found: Ties) -> go.Figure:
    """D of random relabellings, with the D that was seen."""
    figure = sheet("Relabellings", "KS statistic D")
    values, counts = np.unique(found.permuted.round(9), return_counts=True)
    figure.add_bar(
        x=values,
        y=counts,
        marker={"color": MUTED},
        showlegend=False,
        hovertemplate="D = %{x:.4f}: %{y} relabellings<extra></extra>",
    )
    mark(figure, found.statistic, f"seen: D = {found.statistic:.4f}", left=found.statistic > values.mean())
    return labelled(
        figure, f"{len(found.permuted):,} random relabellings of {found.distinct:,} distinct values",
        f"Histogram of D over {len(found.permuted):,} random relabellings. The pair that was seen has D = {found.statistic:.4f}; "
        f"{found.permutation:.1%} of the relabellings reach it. The exact p-value that assumes no ties is {found.exact:.3g}.",
    )  # fmt: skip


def dependence_curve(sizes: Sequence[float], shares: Mapping[str, Sequence[float]], alpha: float) -> go.Figure:
    """The share of rows below alpha against the size of the change, for the same row moved and for another row."""
    figure = sheet("Rows with p below alpha", "Size of the noise, in deviations of the row")
    for (name, values), colour in zip(shares.items(), (TUNED, CONTROL), strict=True):
        figure.add_scatter(x=list(sizes), y=list(values), name=name, mode="lines+markers", line={"color": colour, "width": 3},
                           hovertemplate=f"noise %{{x:g}}: %{{y:.1%}} below alpha, {name}<extra></extra>")  # fmt: skip
    figure.add_hline(alpha, line={"color": WINNING, "dash": "dash", "width": 2}, annotation_text=f"alpha = {alpha:g}")
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    moved, other = (list(values) for values in shares.values())
    return labelled(
        figure, "What alpha means, and what it does not",
        f"Share of rows with p below {alpha:g} against the size of the noise. With the smallest noise, {moved[0]:.1%} of the moved "
        f"rows and {other[0]:.1%} of rows drawn anew; with the largest, {moved[-1]:.1%} and {other[-1]:.1%}.",
    )  # fmt: skip


def methods() -> go.Figure:
    """Base, embed-tuned and resulting matrix as columns of rows, in scenes that play one after the other."""
    rows = len(MOVED)
    height = np.arange(rows)[::-1]
    tuned = [_mix(BASE, TUNED, moved) for moved in MOVED]
    judged = [WINNING if i in WINNERS else MUTED for i in range(rows)]
    nothing = ["rgba(0,0,0,0)"] * rows
    base = [BASE] * rows
    copied = [tuned[i] if i in WINNERS else BASE for i in range(rows)]
    retrained = [_mix(BASE, TUNED, 0.85) if i in WINNERS else BASE for i in range(rows)]
    # Columns of a scene, where the copies are (0: at the tuned matrix, 1: at the result), and the words on the columns.
    scenes = (
        (base, nothing, nothing, 0.0, False),
        (base, tuned, nothing, 0.0, False),
        (base, judged, nothing, 0.0, False),
        (base, judged, copied, 1.0, True),
        (base, judged, retrained, 1.0, False),
    )

    def column(place: float, colours: Sequence[str]) -> go.Bar:
        return go.Bar(x=[0.8] * rows, base=[place] * rows, y=height, orientation="h", hoverinfo="skip", showlegend=False,
                      marker={"color": list(colours), "line": {"width": 0}})  # fmt: skip

    def copies(at: float, shown: bool) -> go.Scatter:
        return go.Scatter(
            x=[1.7 + 1.5 * at] * len(WINNERS), y=height[list(WINNERS)], mode="markers", hoverinfo="skip", showlegend=False,
            marker={"symbol": "square", "size": 16, "color": WINNING, "opacity": 1.0 if shown else 0.0},
        )  # fmt: skip

    frames = []
    for number, (first, second, third, at, shown) in enumerate(scenes):
        data = [column(0, first), column(1.3, second), column(2.6, third), copies(at, shown)]
        frames.append(go.Frame(data=data, name=str(number), layout={"title": {"text": _scene(number)}}))
    figure = sheet("", "", height=430)
    figure.add_traces(frames[0].data)
    figure.frames = frames
    figure.update_xaxes(
        range=[-0.1, 3.5], tickvals=[0.4, 1.7, 3.0], ticktext=["Base", "Embed-tuned", "Result"], side="top"
    )
    figure.update_yaxes(visible=False)
    play = {"frame": {"duration": 2200, "redraw": True}, "transition": {"duration": 900}, "fromcurrent": False}
    steps = [
        {"method": "animate", "label": str(n + 1), "args": [[str(n)], {"mode": "immediate", "transition": {"duration": 600}, "frame": {"duration": 600, "redraw": True}}]}
        for n in range(len(scenes))
    ]  # fmt: skip
    figure.update_layout(
        margin={"t": 110, "b": 10}, bargap=0.18,
        updatemenus=[{"type": "buttons", "direction": "left", "x": 0, "y": -0.02, "yanchor": "top", "showactive": False,
                      "buttons": [{"label": "▶ Play", "method": "animate", "args": [None, play]}]}],
        sliders=[{"x": 0.18, "len": 0.8, "y": -0.02, "yanchor": "top", "currentvalue": {"visible": False}, "steps": steps,
                  "pad": {"t": 10}}],
    )  # fmt: skip
    return labelled(
        figure, _scene(0),
        f"A drawing in {len(scenes)} scenes, of a base matrix, an embed-tuned one and a result, each of {rows} rows. " + " ".join(SCENES),
    )  # fmt: skip


def _scene(number: int) -> str:
    """What happens in a scene, in lines as short as a narrow screen has room for."""
    return "<br>".join(textwrap.wrap(f"{number + 1}. {SCENES[number]}", 48))


def _mix(one: str, other: str, share: float) -> str:
    """A colour between two, ``share`` of the way."""
    a, b = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (one, other))
    mixed = [math.floor(x + (y - x) * share + 0.5) for x, y in zip(a, b, strict=True)]
    return "#" + "".join(f"{value:02X}" for value in mixed)

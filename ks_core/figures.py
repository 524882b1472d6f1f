"""Plotly figures from results. No Streamlit here: a page, a report and a notebook draw the same.

One colour language throughout, safe for colour-blind readers (Okabe and Ito, 2008): base, tuned, winning
and muted mean the same in every figure. Backgrounds are transparent and text takes the theme's colour, so
that light and dark both read well. Each figure has a sentence for those who cannot see it, in
``layout.meta``; ``alt`` gives it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ks_core.drift import DriftMap

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.layers import TensorResult

BASE, TUNED, WINNING, CONTROL, MUTED = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#8A94A0"
SCALE = "Viridis"
HEIGHT = 380


def alt(figure: go.Figure) -> str:
    """What the figure shows, in a sentence."""
    return str((figure.layout.meta or {}).get("alt", ""))


def pvalue_histogram(pvalues: np.ndarray, changed: np.ndarray, alpha: float, *, log: bool) -> go.Figure:
    """p-values of the changed rows, (V,) each; the part below ``alpha`` in the winning colour.

    Linear: 40 bins over [0, 1]. ``log``: bins of log10 p. Rows that did not change have p = 1 by
    definition; they are not drawn, as they would hide all others.
    """
    shown = pvalues[changed]
    wins = int((shown < alpha).sum())
    if log:
        values = np.log10(np.maximum(shown, 1e-320))
        low = min(math.floor(values.min()) if len(values) else -2.0, math.floor(math.log10(alpha)) - 1.0)
        edges, mark = np.linspace(low, 0, 41), math.log10(alpha)
        title, _ticks = "p-value (log scale)", "~"
    else:
        values, edges, mark, title = shown, np.linspace(0, 1, 41), alpha, "p-value"
    figure = _figure("Rows", title)
    if log:
        marks = sorted({int(x) for x in np.linspace(low, 0, 7)})
        figure.update_xaxes(tickvals=marks, ticktext=[f"1e{m}" if m else "1" for m in marks])
    for name, colour, part in (
        ("below alpha", WINNING, values[shown < alpha]),
        ("not below", BASE, values[shown >= alpha]),
    ):
        _bars(figure, part, edges, name, colour)
    figure.add_vline(
        mark,
        line={"color": WINNING, "dash": "dash", "width": 2},
        annotation={"text": f"alpha = {alpha:g}", "font_color": WINNING, "yanchor": "bottom"},
    )
    figure.update_yaxes(type="log", title="Rows (log scale)", dtick=1)
    _say(
        figure,
        f"p-values of {len(shown):,} changed rows",
        f"Histogram of p-values: {wins} of {len(shown)} changed rows are below alpha {alpha:g}.",
    )
    return figure


def statistic_histogram(
    statistic: np.ndarray, changed: np.ndarray, dim: int, critical: float, alpha: float
) -> go.Figure:
    """D of the changed rows, with the critical value for ``alpha`` on it."""
    shown = statistic[changed]
    top = max(float(shown.max()) if len(shown) else 0.1, critical if critical <= 1 else 0.0)
    # Bins follow the lattice k/d: any other width would give a comb of empty and full bars.
    step = max(1, math.ceil(top * dim / 45)) / dim
    edges = np.arange(-0.5 / dim, top + 2 * step, step)
    figure = _figure("Rows (log scale)", "KS statistic D")
    for name, colour, part in (
        ("critical or above", WINNING, shown[shown >= critical - 1e-12]),
        ("below", BASE, shown[shown < critical - 1e-12]),
    ):
        _bars(figure, part, edges, name, colour)
    if critical <= 1:
        figure.add_vline(
            critical,
            line={"color": WINNING, "dash": "dash", "width": 2},
            annotation={"text": f"critical D = {critical:.4f}", "font_color": WINNING, "yanchor": "bottom"},
        )
    figure.update_yaxes(type="log", dtick=1)
    _say(
        figure,
        f"D of {len(shown):,} changed rows",
        f"Histogram of D: {int((shown >= critical).sum())} of {len(shown)} "
        f"changed rows reach the critical value for alpha {alpha:g}.",
    )
    return figure


def ticket_size_curve(alphas: np.ndarray, sizes: np.ndarray, alpha: float, size: int) -> go.Figure:
    """How many rows win, against alpha (log scale), with the chosen alpha marked."""
    figure = _figure("Winning rows", "alpha (log scale)")
    figure.add_scatter(
        x=alphas,
        y=sizes,
        mode="lines",
        line={"color": BASE, "width": 2, "shape": "hv"},
        name="size",
        hovertemplate="alpha %{x:.3g}: %{y:,} rows<extra></extra>",
    )
    figure.add_scatter(
        x=[alpha],
        y=[size],
        mode="markers+text",
        marker={"color": WINNING, "size": 11},
        text=[f"{size:,}"],
        textposition="top left",
        name="chosen alpha",
        hoverinfo="skip",
    )
    figure.update_xaxes(type="log", exponentformat="power", dtick=2)
    figure.update_layout(showlegend=False)
    _say(figure, "Ticket size against alpha", f"The ticket has {size} rows at alpha {alpha:g}.")
    return figure


def cdfs(before: np.ndarray, after: np.ndarray, token: str) -> go.Figure:
    """The empirical CDFs of one row before and after, (d,) each, with the gap D where it occurs."""
    before, after = (np.sort(np.asarray(x, np.float64)) for x in (before, after))
    values = np.union1d(before, after)
    first, second = (np.searchsorted(x, values, side="right") / len(x) for x in (before, after))
    at = int(np.abs(first - second).argmax())
    gap = abs(first[at] - second[at])
    figure = _figure("Share of values at or below", "Value in the embedding row")
    for x, name, colour in ((before, "base", BASE), (after, "tuned", TUNED)):
        steps = np.arange(1, len(x) + 1) / len(x)
        figure.add_scatter(
            x=x.astype(np.float32),
            y=steps.astype(np.float32),
            mode="lines",
            name=name,
            line={"color": colour, "width": 2, "shape": "hv"},
            hovertemplate=f"{name}: %{{y:.3f}} of the values are at or below %{{x:.4g}}<extra></extra>",
        )
    figure.add_scatter(
        x=[values[at]] * 2,
        y=[first[at], second[at]],
        mode="lines+markers",
        name=f"D = {gap:.4f}",
        line={"color": WINNING, "width": 4},
        marker={"size": 8},
        hoverinfo="skip",
    )
    figure.update_yaxes(range=[0, 1.02])
    _say(
        figure,
        f"Values of {_text(token)} before and after",
        f"Two empirical CDFs of the token {token}; the largest gap is D = {gap:.4f} at the value {values[at]:.4g}.",
    )
    return figure


def shift_scatter(l2: np.ndarray, statistic: np.ndarray, winning: np.ndarray, tokens: Sequence[str]) -> go.Figure:
    """D against the length of the shift, for the rows given (changed ones)."""
    figure = _figure("KS statistic D", "Length of the shift (L2)")
    for name, colour, part in (("not winning", BASE, ~winning), ("winning", WINNING, winning)):
        figure.add_scattergl(
            x=l2[part].astype(np.float32),
            y=statistic[part].astype(np.float32),
            mode="markers",
            name=name,
            marker={"color": colour, "size": 5, "opacity": 0.6},
            text=[_text(tokens[int(i)]) for i in np.nonzero(part)[0]],
            hovertemplate="%{text}<br>D %{y:.4f}, L2 %{x:.4g}<extra></extra>",
        )
    _say(
        figure,
        "D against the length of the shift",
        f"Scatter of D against L2 shift for {len(l2)} changed rows.",
    )
    return figure


COLOURS = {"KS statistic D": "D", "p-value (log10)": "log10 p", "distance in the original space": "L2 shift"}


def drift_map(
    found: DriftMap,
    *,
    statistic: np.ndarray,
    pvalue: np.ndarray,
    l2: np.ndarray,
    winning: np.ndarray,
    token_ids: np.ndarray,
    tokens: Sequence[str],
    colour: str = "KS statistic D",
    arrows: bool = True,
) -> go.Figure:
    """The map: unchanged tokens in grey, changed ones at their new place, arrows for the winning ones.

    The arrays are the scan's, (n,); ``tokens`` readable strings by position in them; ``colour`` one of
    ``COLOURS``.
    """
    axes = (
        ("first principal component", "second principal component")
        if found.settings.method == "pca"
        else ("UMAP 1", "UMAP 2")
    )
    if found.explained:
        axes = tuple(f"{a} ({100 * e:.1f}% of the variance)" for a, e in zip(axes, found.explained, strict=True))  # type: ignore[assignment]
    figure = _figure(axes[1], axes[0], height=640)
    b, c = found.background, found.changed
    figure.add_scattergl(
        x=found.background_xy[:, 0],
        y=found.background_xy[:, 1],
        mode="markers",
        name="unchanged",
        marker={"color": MUTED, "size": 3, "opacity": 0.35},
        text=[_text(tokens[i]) for i in b],
        hovertemplate="%{text}<br>unchanged<extra></extra>",
    )
    values = {
        "KS statistic D": statistic,
        "p-value (log10)": np.log10(np.maximum(pvalue, 1e-320)),
        "distance in the original space": l2,
    }[colour][c].astype(np.float32)
    wins = winning[c]
    if arrows and wins.any():
        start, stop = found.before_xy[wins], found.after_xy[wins]
        nothing = np.full(len(start), np.nan, np.float32)
        figure.add_scattergl(
            x=np.stack([start[:, 0], stop[:, 0], nothing], 1).ravel(),
            y=np.stack([start[:, 1], stop[:, 1], nothing], 1).ravel(),
            mode="lines",
            name="from base to tuned",
            line={"color": WINNING, "width": 1.5},
            hoverinfo="skip",
        )
        figure.add_scattergl(
            x=start[:, 0],
            y=start[:, 1],
            mode="markers",
            name="winning, base",
            marker={"color": BASE, "size": 5, "symbol": "circle-open"},
            hoverinfo="skip",
        )
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    for name, part, size, symbol in (("changed", ~wins, 4, "circle"), ("winning, tuned", wins, 7, "diamond")):
        # Both halves share one scale; the colour bar is drawn once.
        figure.add_scattergl(
            x=found.after_xy[part, 0], y=found.after_xy[part, 1], mode="markers", name=name,
            marker={"color": values[part], "colorscale": SCALE, "cmin": low, "cmax": high, "size": size, "symbol": symbol,
                    "reversescale": colour == "p-value (log10)", "showscale": symbol == "circle",
                    "colorbar": {"title": {"text": COLOURS[colour]}, "thickness": 14, "len": 0.8},
                    "line": {"width": 1 if symbol == "diamond" else 0, "color": WINNING}},
            customdata=np.stack([token_ids[c][part], statistic[c][part], pvalue[c][part], l2[c][part]], 1),
            text=[_text(tokens[i]) for i in c[part]],
            hovertemplate="<b>%{text}</b> (id %{customdata[0]:.0f})<br>D %{customdata[1]:.4f}<br>p %{customdata[2]:.3g}"
                          "<br>L2 shift %{customdata[3]:.4g}<extra></extra>")  # fmt: skip
    _say(
        figure,
        f"{len(c):,} changed tokens at their new place, {len(b):,} unchanged ones in grey",
        f"Map of embedding rows: {int(wins.sum())} winning tokens with arrows from base to tuned among {len(b)} unchanged ones.",
    )
    figure.update_layout(legend={"y": -0.1})
    return figure


MEASURES = {
    "share_below_alpha": "Share of rows with p < alpha",
    "largest_D": "Largest D",
    "changed": "Share of rows that changed",
}


def layer_map(tensors: pd.DataFrame, measure: str) -> go.Figure:
    """Module by layer, a square a tensor, as ``ks_core.layers.table`` gives them; ``measure`` one of ``MEASURES``.

    Tensors outside the layers (embedding, last norm, output layer) stand in a column of their own on the
    left. The squares are markers, because those can be clicked; ``customdata`` holds the tensor's name.
    """
    inside = tensors[tensors.layer.notna()]
    outside = tensors[tensors.layer.isna()]
    modules = [*dict.fromkeys(outside.module), *dict.fromkeys(inside.module)]
    values = tensors[measure].astype(float)
    figure = _figure("", "Layer", height=max(320, 34 * len(modules) + 130))
    x = tensors.layer.astype(object).where(tensors.layer.notna(), "none").astype(str)
    order = (
        ["none", *(str(i) for i in sorted({int(i) for i in inside.layer}))]
        if len(outside)
        else [str(i) for i in sorted({int(i) for i in inside.layer})]
    )
    figure.add_scatter(
        x=x, y=tensors.module, mode="markers", customdata=np.stack([tensors.tensor, tensors.rows, tensors.dim], 1),
        marker={"symbol": "square", "size": 18, "color": values, "colorscale": SCALE, "cmin": 0, "cmax": max(float(values.max()), 1e-9),
                "colorbar": {"title": {"text": MEASURES[measure], "side": "right"}, "thickness": 14}},
        hovertemplate="%{customdata[0]}<br>%{customdata[1]:,} rows of %{customdata[2]:,}<br>%{marker.color:.4f}<extra></extra>")  # fmt: skip
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=modules[::-1])
    touched = int((tensors.changed > 0).sum())
    _say(
        figure,
        MEASURES[measure],
        f"{touched} of {len(tensors)} tensors changed; a square for each by module and layer.",
    )
    return figure


def tensor_histogram(found: TensorResult, critical: float) -> go.Figure:
    """How many rows of one tensor have which D."""
    figure = _figure("Rows (log scale)", "KS statistic D")
    values = found.k / found.dim
    for name, colour, part in (
        ("critical or above", WINNING, values >= critical),
        ("below", BASE, values < critical),
    ):
        figure.add_bar(
            x=values[part].astype(np.float32),
            y=found.rows_at[part],
            name=name,
            marker={"color": colour},
            width=0.8 / found.dim,
            hovertemplate="D %{x:.4f}: %{y:,} rows<extra></extra>",
        )
    figure.update_yaxes(type="log", dtick=1)
    _say(
        figure,
        f"D over {found.rows:,} rows of {_text(found.name)}",
        f"Histogram of D of the tensor {found.name}.",
    )
    return figure


def _figure(y: str, x: str, height: int = HEIGHT) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 64, "b": 10},
        bargap=0.03,
        barmode="stack",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0},
    )
    figure.update_xaxes(title=x, zeroline=False)
    figure.update_yaxes(title=y, zeroline=False)
    return figure


def _bars(figure: go.Figure, values: np.ndarray, edges: np.ndarray, name: str, colour: str) -> None:
    """A histogram as bars: binned here, so that the browser gets bins and not a vocabulary."""
    counts, _ = np.histogram(values, edges)
    full = counts > 0
    figure.add_bar(
        x=((edges[:-1] + edges[1:]) / 2)[full],
        y=counts[full],
        width=np.diff(edges)[full],
        name=name,
        marker={"color": colour, "line": {"width": 0}},
        hovertemplate=f"%{{y:,}} rows, {name}<extra></extra>",
    )


def _say(figure: go.Figure, title: str, words: str) -> None:
    figure.update_layout(title={"text": title, "x": 0, "font": {"size": 15}}, meta={"alt": words})


def _text(token: str) -> str:
    """A token string as text: Plotly reads some HTML, and a token may be anything."""
    return html.escape(token)

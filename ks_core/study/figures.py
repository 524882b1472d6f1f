"""Plotly figures of the test: p-values, D, the ticket's size, a row's two CDFs, layers.

No Streamlit here: a page, a report and a notebook draw the same. Every function returns a ``go.Figure`` in the style
of ``drawing``. What comes from outside, tokens and names, goes through ``drawing.text``, because Plotly reads some HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ks_core.drawing import (
    BASE,
    LONG,
    MUTED,
    SCALE,
    TUNED,
    WINNING,
    decades,
    labelled,
    log10,
    mark,
    nothing,
    sheet,
    text,
    texts,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd

    from ks_core.study.layers import TensorResult


def pvalue_histogram(pvalues: np.ndarray, changed: np.ndarray, alpha: float, *, log: bool) -> go.Figure:
    """p-values of the changed rows, (V,) each; the part below ``alpha`` in the winning colour.

    Linear: bins of 0.025 over [0, 1]. ``log``: bins of log10 p. Either way alpha is an edge of a bin, so
    that a bar has one colour. Rows that did not change have p = 1 by definition; they are not drawn, as
    they would hide all others.
    """
    shown = pvalues[changed]
    wins = shown < alpha
    values, at, edges = shown, alpha, np.linspace(0, 1, 41)
    figure = sheet("Rows (log scale)", "p-value (log scale)" if log else "p-value")
    if log:
        values, at = log10(shown), math.log10(alpha)
        low = min(math.floor(values.min()) if len(values) else -2, math.floor(at) - 1)
        edges = np.linspace(low, 0, 41)
        marks = range(0, low - 1, -max(1, math.ceil(-low / 6)))
        figure.update_xaxes(tickvals=list(marks), ticktext=[f"1e{m}" if m else "1" for m in marks])
    _histogram(figure, values, wins, np.union1d(edges, at), "below alpha", "not below")
    mark(figure, at, f"alpha = {alpha:g}: {wins.sum():,} rows below", left=at > edges.mean())
    labelled(figure, f"p-values of {len(shown):,} changed rows",
         f"Histogram of p-values: {wins.sum():,} of {len(shown):,} changed rows are below alpha {alpha:g}. "
         f"{len(pvalues) - len(shown):,} rows did not change, have p = 1 and are not drawn.")  # fmt: skip
    return figure


def statistic_histogram(
    statistic: np.ndarray, changed: np.ndarray, dim: int, critical: float, alpha: float
) -> go.Figure:
    """D of the changed rows, with the critical value for ``alpha`` on it (``inf`` when no D can reach it)."""
    k = np.rint(statistic[changed] * dim).astype(np.int64)
    reachable = critical <= 1
    # Bins follow the lattice k/d (any other width would give a comb of empty and full bars), and one
    # begins at the critical value.
    border = round(critical * dim) if reachable else 0
    wins = (k >= border) & reachable
    top = max(int(k.max(initial=dim // 10)), border)
    step = max(1, math.ceil(top / 45))
    edges = (np.arange(border % step - step, top + 2 * step, step) - 0.5) / dim
    figure = sheet("Rows (log scale)", "KS statistic D")
    _histogram(figure, k / dim, wins, edges, "critical or above", "below")
    figure.update_xaxes(range=[-0.5 / dim, edges[-1]])
    if reachable:
        words = f"critical D = {critical:.4f}: {wins.sum():,} rows"
        mark(figure, critical, words, left=critical > edges.mean())
    said = f"With {dim} values a row, no D can have p below {alpha:g}."
    if reachable:
        said = f"{wins.sum():,} of them reach the critical value {critical:.4f} for alpha {alpha:g}."
    labelled(figure, f"D of {len(k):,} changed rows", f"Histogram of D for {len(k):,} changed rows. {said}")
    return figure


def ticket_size_curve(alphas: np.ndarray, sizes: np.ndarray, alpha: float, size: int) -> go.Figure:
    """How many rows win, against alpha (both on log scales), with the chosen alpha marked.

    ``alphas`` ascending; ``sizes`` (as ``tickets.sizes`` gives them) for each.
    """
    shown = sizes > 0
    figure = sheet("Winning rows (log scale)", "alpha (log scale)")
    figure.add_scatter(x=alphas[shown].astype(np.float32), y=sizes[shown].astype(np.float32), mode="lines",
                       line={"color": WINNING, "width": 2, "shape": "hv"}, name="size",
                       hovertemplate="alpha %{x:.3g}: %{y:,} rows<extra></extra>")  # fmt: skip
    if size:
        figure.add_scatter(x=[alpha], y=[size], mode="markers+text", name="chosen alpha", hoverinfo="skip",
                           marker={"color": WINNING, "size": 11}, text=[f"{size:,}"],
                           textposition="top left")  # fmt: skip
    mark(figure, alpha, f"alpha = {alpha:g}", left=True, log=True)
    figure.update_xaxes(type="log", exponentformat="power", dtick=decades(alphas[shown]))
    figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(showlegend=False)
    if not shown.any():
        nothing(figure, "No row wins at any of these alphas")
    labelled(figure, "Ticket size against alpha",
         f"Curve of the ticket's size: {size:,} rows at alpha {alpha:g}, "
         f"between {sizes.min(initial=0):,} and {sizes.max(initial=0):,} over the alphas shown.")  # fmt: skip
    return figure


def cdfs(before: np.ndarray, after: np.ndarray, token: str) -> go.Figure:
    """The empirical CDFs of one row before and after, (d,) each, with the gap D where it occurs."""
    before, after = (np.sort(np.asarray(x, np.float64)) for x in (before, after))
    values = np.union1d(before, after)
    first, second = (np.searchsorted(x, values, side="right") / len(x) for x in (before, after))
    at = int(np.abs(first - second).argmax())
    gap = abs(first[at] - second[at])
    figure = sheet("Share of values at or below", "Value in the embedding row")
    for x, name, colour in ((before, "base", BASE), (after, "tuned", TUNED)):
        # Both curves run over the whole range, from 0 to 1.
        places = np.concatenate([values[:1], x, values[-1:]]).astype(np.float32)
        shares = np.concatenate([[0], np.arange(1, len(x) + 1) / len(x), [1]]).astype(np.float32)
        figure.add_scatter(x=places, y=shares, mode="lines", name=name,
                           line={"color": colour, "width": 2, "shape": "hv"},
                           hovertemplate=f"{name}: %{{y:.3f}} of the values are at or below %{{x:.4g}}"
                                         "<extra></extra>")  # fmt: skip
    figure.add_scatter(x=[values[at]] * 2, y=[first[at], second[at]], mode="lines+markers",
                       line={"color": WINNING, "width": 4}, marker={"size": 8}, name="largest gap",
                       hoverinfo="skip")  # fmt: skip
    # Below and right of the lower curve nothing is ever drawn.
    figure.add_annotation(x=values[at], y=min(first[at], second[at]), text=f"D = {gap:.4f}", showarrow=False,
                          xanchor="left", yanchor="top", xshift=8)  # fmt: skip
    figure.update_yaxes(range=[0, 1.02])
    more = "fewer" if first[at] > second[at] else "more"
    said = "they are the same, D = 0."
    if gap:
        said = (
            f"the largest gap is D = {gap:.4f}, at the value {values[at]:.4g}: {more} of the tuned row's "
            "values than of the base row's lie at or below it."
        )
    words = f"Two empirical CDFs of the token {token}: {said}"
    labelled(figure, f"Values of {text(token)} before and after", words)
    return figure


def shift_scatter(l2: np.ndarray, statistic: np.ndarray, winning: np.ndarray, tokens: Sequence[str]) -> go.Figure:
    """D against the length of the shift, (n,) each, for the rows given (changed ones)."""
    figure = sheet("KS statistic D", "Length of the shift (L2)")
    for name, colour, part in (("not winning", MUTED, ~winning), ("winning", WINNING, winning)):
        figure.add_scattergl(x=l2[part].astype(np.float32), y=statistic[part].astype(np.float32),
                             mode="markers", name=name, marker={"color": colour, "size": 5, "opacity": 0.6},
                             text=texts(tokens, np.nonzero(part)[0]),
                             hovertemplate="%{text}<br>D %{y:.4f}, L2 %{x:.4g}<extra></extra>")  # fmt: skip
    if not len(l2):
        nothing(figure)
    labelled(figure, "D against the length of the shift",
         f"Scatter of D against L2 shift for {len(l2):,} changed rows, "
         f"{winning.sum():,} of them winning.")  # fmt: skip
    return figure


MEASURES = {
    "share_below_alpha": "Share of rows with p < alpha",
    "largest_D": "Largest D",
    "changed": "Share of rows that changed",
}


def layer_map(tensors: pd.DataFrame, measure: str) -> go.Figure:
    """Module by layer, a square a tensor, as ``ks_core.study.layers.table`` gives them; ``measure`` one of ``MEASURES``.

    Tensors that did not change are grey, so that a share of 0 among changed ones can be told from them.
    Those outside the layers (embedding, last norm, output layer) stand in a column of their own on the
    left. The squares are markers, because those can be clicked; ``customdata`` holds the tensor's name.
    """
    tensors = tensors.assign(module=[text(module, LONG) for module in tensors.module])
    inside = tensors[tensors.layer.notna()]
    outside = tensors[tensors.layer.isna()]
    modules = [*dict.fromkeys(outside.module), *dict.fromkeys(inside.module)]
    order = ["outside"] * bool(len(outside)) + [str(i) for i in sorted({int(i) for i in inside.layer})]
    figure = sheet("", "Layer", height=max(320, 34 * len(modules) + 150))
    changed = tensors.changed > 0
    scale = {
        "colorscale": SCALE, "cmin": 0, "cmax": max(float(tensors[measure].max()), 1e-9),
        "colorbar": {"title": {"text": MEASURES[measure], "side": "right"}, "thickness": 14},
    }  # fmt: skip
    for name, part, look in (
        ("unchanged", tensors[~changed], {"color": MUTED, "opacity": 0.25}),
        ("changed", tensors[changed], {"color": tensors[changed][measure].astype(float), **scale}),
    ):
        figure.add_scatter(
            x=part.layer.astype("string").fillna("outside"),
            y=part.module,
            mode="markers",
            name=name,
            marker={"symbol": "square", "size": 16, **look},
            customdata=np.stack([part.tensor, part.rows, part.dim, part[measure].astype(float)], 1),
            text=[text(tensor, LONG) for tensor in part.tensor],
            hovertemplate="%{text}<br>%{customdata[1]:,} rows of %{customdata[2]:,}<br>%{customdata[3]:.4f}<extra></extra>",
        )
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=modules[::-1])
    labelled(
        figure,
        MEASURES[measure],
        f"{int(changed.sum())} of {len(tensors)} tensors changed; a square for each by module and layer.",
    )
    return figure


def tensor_histogram(found: TensorResult, critical: float) -> go.Figure:
    """How many rows of one tensor have which D."""
    figure = sheet("Rows (log scale)", "KS statistic D")
    values = found.k / found.dim
    for name, colour, part in (
        ("critical or above", WINNING, values >= critical),
        ("below", MUTED, values < critical),
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
    labelled(
        figure,
        f"D over {found.rows:,} rows of {text(found.name)}",
        f"Histogram of D of the tensor {found.name}.",
    )
    return figure


def _histogram(figure: go.Figure, values: np.ndarray, wins: np.ndarray, edges: np.ndarray, yes: str, no: str) -> None:
    """A histogram as bars: binned here, so that the browser gets bins and not a vocabulary.

    The counts are on a log scale that begins below 1, so that a single row is seen beside thousands.
    """
    top = 1
    for name, colour, part in ((yes, WINNING, wins), (no, MUTED, ~wins)):
        counts, _ = np.histogram(values[part], edges)
        full = counts > 0
        top = max(top, int(counts.max()))
        if full.any():
            middles = (edges[:-1] + edges[1:])[full] / 2
            figure.add_bar(x=middles.astype(np.float32), y=counts[full].astype(np.int32), name=name,
                           showlegend=True, width=np.diff(edges)[full].astype(np.float32),
                           marker={"color": colour, "line": {"width": 0}},
                           hovertemplate=f"%{{y:,}} rows, {name}<extra></extra>")  # fmt: skip
    figure.update_yaxes(type="log", dtick=1, range=[math.log10(0.7), math.log10(top * 1.5)])
    figure.update_xaxes(range=[edges[0], edges[-1]])
    if not len(values):
        nothing(figure)

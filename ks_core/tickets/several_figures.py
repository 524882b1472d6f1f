"""Figures of several tuned checkpoints in one: p-values over one another, what tickets share, how ranks change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from ks_core.drawing import LONG, MUTED, WINNING, labelled, mark, nothing, sheet, text
from ks_core.tickets.several import Intersection, Several

#: How many combinations an UpSet plot shows, and how many tokens a rank chart follows.
COMBINATIONS, FOLLOWED = 20, 18
#: Beside its colour each checkpoint has a dash of its own.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def colours(count: int) -> list[str]:
    """A colour for each of several checkpoints: along Viridis, as none of them is base, tuned or control."""
    return sample_colorscale("Viridis", np.linspace(0.25, 0.95, max(count, 2)).tolist())[:count]


def pvalue_outlines(found: Several, alpha: float) -> go.Figure:
    """p-values of the changed rows of every checkpoint as outlines over one another, bins of 0.05."""
    edges, top = np.linspace(0, 1, 21), 1  # narrower ones would lie between the values that p can take
    figure = sheet("Rows (log scale)", "p-value")
    for n, (name, colour) in enumerate(zip(found.names, colours(len(found.names)), strict=True)):
        counts, _ = np.histogram(found.pvalue[found.changed[:, n], n], edges)
        top = max(top, int(counts.max()))
        figure.add_scatter(
            x=np.repeat(edges, 2)[1:-1].astype(np.float32), y=np.maximum(np.repeat(counts, 2), 0.5).astype(np.float32),
            mode="lines", name=text(name), line={"color": colour, "width": 2, "dash": DASHES[n % len(DASHES)]},
            customdata=np.repeat(counts, 2), hovertemplate=f"{text(name)}: %{{customdata:,}} rows<extra></extra>",
        )  # fmt: skip
    mark(figure, alpha, f"alpha = {alpha:g}", left=alpha > 0.5)
    figure.update_yaxes(type="log", dtick=1, range=[math.log10(0.7), math.log10(top * 1.5)])
    if not found.changed.any():
        nothing(figure)
    parts = "; ".join(
        f"{name}: {int(found.changed[:, n].sum()):,} rows changed, {int((found.pvalue[:, n] < alpha).sum()):,} below alpha"
        for n, name in enumerate(found.names)
    )
    return labelled(figure, "p-values of the changed rows", f"Histograms of p over one another. {parts}.")


def upset(parts: Sequence[Intersection], names: Sequence[str]) -> go.Figure:
    """UpSet plot (Lex et al. 2014): above, how many rows are in exactly these tickets; below, a dot for each ticket."""
    shown = list(parts[:COMBINATIONS])
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.04)
    places = list(range(len(shown)))
    sizes = [len(i.token_ids) for i in shown]
    everywhere = [len(i.names) == len(names) for i in shown]
    figure.add_bar(
        x=places, y=sizes, text=[f"{s:,}" for s in sizes], textposition="outside", cliponaxis=False,
        marker={"color": [WINNING if full else MUTED for full in everywhere], "line": {"width": 0}}, row=1, col=1,
        hovertext=[f"{s:,} rows in {text(' and '.join(i.names))} alone" for s, i in zip(sizes, shown, strict=True)],
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
    rows = {name: n for n, name in enumerate(names)}
    for x, part, full in zip(places, shown, everywhere, strict=True):
        ys = [rows[name] for name in part.names]
        figure.add_scatter(
            x=[x] * len(ys), y=ys, mode="lines+markers", hoverinfo="skip", row=2, col=1,
            line={"color": WINNING if full else MUTED, "width": 3}, marker={"size": 12},
        )  # fmt: skip
    figure.update_layout(
        sheet("", "", height=300 + 34 * len(names)).layout, showlegend=False, bargap=0.4,
    )  # fmt: skip
    figure.update_xaxes(showticklabels=False, title=None, showgrid=False, zeroline=False)
    figure.update_yaxes(title="Rows", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(
        title=None, tickvals=list(rows.values()), ticktext=[text(n) for n in names], row=2, col=1, zeroline=False,
        range=[len(names) - 0.5, -0.5],
    )  # fmt: skip
    if not shown:
        nothing(figure, "No row is in any ticket")
    more = f" {len(parts) - len(shown)} smaller combinations are not drawn." if len(parts) > len(shown) else ""
    said = "; ".join(f"{s:,} in {' and '.join(i.names)}" for s, i in list(zip(sizes, shown, strict=True))[:8])
    return labelled(figure, "Rows in exactly these tickets", f"UpSet plot of {len(names)} tickets: {said}.{more}")


def rank_changes(found: Several, tokens: Sequence[str], first: int = 0) -> go.Figure:
    """The ranks that the top tokens of one checkpoint have in the others. ``tokens`` by row; ranks on a log scale."""
    top = np.argsort(found.rank[:, first])[:FOLLOWED]
    top = top[found.changed[top, first]]
    columns = [first, *(n for n in range(len(found.names)) if n != first)]
    ranks = found.rank[top][:, columns]
    # The names stand apart from each other on the left, each with a line to its rank.
    places = np.geomspace(1, max(ranks.max(initial=1), 10), max(len(top), 2))
    figure = sheet("Rank by D (log scale)", "", height=600)
    names = ["token", *(text(found.names[n], LONG) for n in columns)]
    for row, rank, place in zip(top, ranks, places, strict=False):
        everywhere = bool(found.ticket[row].all())
        figure.add_scatter(
            x=names, y=[place, *rank.tolist()], mode="lines+markers", name=text(tokens[row]), showlegend=False,
            line={"color": WINNING if everywhere else MUTED, "width": 2}, marker={"size": [0, *[7] * len(rank)]},
            hovertemplate=f"{text(tokens[row])}: rank %{{y:,}} in %{{x}}<extra></extra>",
        )  # fmt: skip
        figure.add_annotation(
            x="token", y=math.log10(place), text=text(tokens[row]), showarrow=False, xanchor="right", xshift=-6,
            font={"size": 12},
        )  # fmt: skip
    figure.update_yaxes(type="log", autorange="reversed", dtick=1)
    figure.update_xaxes(type="category", range=[-0.5, len(names) - 0.7])
    if not len(top):
        nothing(figure)
    shared = int(found.ticket[top].all(axis=1).sum()) if len(top) else 0
    return labelled(
        figure, f"Where the top of {text(found.names[first])} stands elsewhere",
        f"Ranks of the {len(top)} tokens of largest D in {found.names[first]} in every checkpoint; {shared} of them are in all "
        "tickets.",
    )  # fmt: skip

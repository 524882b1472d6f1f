"""Figures of the audit's panels that need no training: calibration, ranking, stability. No Streamlit.

They speak the colour language of ``ks_core.study.figures``: what wins is in the winning colour, what serves as a
yardstick (independent samples, another seed) in the control's, what neither changed nor won in grey. Every
function returns a ``go.Figure`` whose ``layout.meta`` holds the sentence for those who cannot see it
(``drawing.alt``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ks_core.drawing import CONTROL, LONG, MUTED, SCALE, TUNED, WINNING, decades, labelled, mark, nothing, sheet, text
from ks_core.study.critical import Critical
from ks_core.tickets.calibration import Calibration
from ks_core.tickets.ranking import COUNT, STEPS, Ranking
from ks_core.tickets.stability import GROUPS, QUOTED, Stability

#: Histograms beside each other, and the height of one row of them.
COLUMNS, ROW_HEIGHT = 3, 190
#: What a heatmap of overlaps can show, with the words for it.
MEASURES = {
    "shared": "Rows in both tickets",
    "share": "Shared rows, as a share of the smaller ticket",
    "jaccard": "Jaccard index of the tickets",
    "rho": "Spearman correlation of D",
}
#: Colour and dash of a group's curve: the seed is the yardstick; the others' colours mean nothing elsewhere.
LINES = {
    "seed": (CONTROL, "solid"), "prompt": ("#CC79A7", "dash"), "language": ("#56B4E9", "dashdot"),
    "optimizer": ("#A6761D", "longdash"),
}  # fmt: skip


def pvalue_cases(found: Calibration, bins: int = 20) -> go.Figure:
    """A histogram of p for every case, small multiples; densities on a log scale, 1 (dotted) being uniform.

    alpha is an edge of a bin, so that a bar has one colour; the winning one is for p < alpha.
    """
    alpha, cases = found.settings.alpha, found.cases
    edges = np.union1d(np.linspace(0, 1, bins + 1), alpha)
    rows = math.ceil(len(cases) / COLUMNS)
    titles = [f"{text(c.label)}<br>{_percent(c.share_below(alpha))} below alpha" for c in cases]
    figure = sheet("", "", height=rows * ROW_HEIGHT + 120)
    look = figure.layout
    figure = make_subplots(rows, COLUMNS, subplot_titles=titles, shared_xaxes="all", shared_yaxes="all",
                           vertical_spacing=0.3 / rows, horizontal_spacing=0.03)  # fmt: skip
    figure.update_layout(height=look.height, margin={**look.margin.to_plotly_json(), "t": 100}, bargap=0, barmode="stack",
                         paper_bgcolor=look.paper_bgcolor, plot_bgcolor=look.plot_bgcolor, showlegend=False)  # fmt: skip
    figure.update_annotations(font={"size": 12})
    middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    top = 1.0
    for i, case in enumerate(cases):
        density = case.density(edges)
        top = max(top, float(density.max(initial=0)))
        full = density > 0
        place = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        figure.add_bar(x=middles[full], y=density[full], width=widths[full], **place,
                       marker={"color": np.where(edges[1:] <= alpha, WINNING, MUTED)[full], "line": {"width": 0}},
                       customdata=np.rint(density * widths * len(case.pvalues))[full],
                       hovertemplate="p about %{x:.3f}: %{customdata:,} rows, density %{y:.3g}<extra></extra>")  # fmt: skip
        figure.add_scatter(x=[0, 1], y=[1, 1], mode="lines", hoverinfo="skip", **place,
                           line={"color": CONTROL, "dash": "dot", "width": 1.5})  # fmt: skip
    figure.update_yaxes(type="log", dtick=1, range=[-2.6, math.log10(top * 1.6)], zeroline=False)
    figure.update_xaxes(range=[0, 1], zeroline=False)
    for i in range(max(0, len(cases) - COLUMNS), len(cases)):
        figure.update_xaxes(title="p-value", showticklabels=True, row=i // COLUMNS + 1, col=i % COLUMNS + 1)
    for row in range(1, rows + 1):
        figure.update_yaxes(title="Density (log)", row=row, col=1)
    parts = "; ".join(f"{c.label}: {_percent(c.share_below(alpha))} below alpha, median {c.median:.3g}" for c in cases)
    return labelled(
        figure, f"p-values where the truth is known (dotted: uniform; alpha {alpha:g})", f"Histograms of p. {parts}."
    )


def critical_values(found: Sequence[Critical], dim: int) -> go.Figure:
    """Exact and asymptotic critical value of D against alpha (log scale)."""
    shown = sorted(found, key=lambda c: c.alpha)
    alphas = np.array([c.alpha for c in shown])
    reached = [c.exact if c.exact <= 1 else None for c in shown]
    figure = sheet("Critical value of D", "alpha (log scale)")
    figure.add_scatter(x=alphas, y=[c.asymptotic for c in shown], mode="lines+markers", name="asymptotic formula",
                       line={"color": MUTED, "dash": "dash", "width": 2}, customdata=[c.rows_asymptotic for c in shown],
                       hovertemplate="alpha %{x:.3g}: D > %{y:.4f}, %{customdata:,} rows win<extra></extra>")  # fmt: skip
    figure.add_scatter(x=alphas, y=reached, mode="lines+markers", name="exact test",
                       line={"color": WINNING, "width": 2}, marker={"size": 9, "symbol": "diamond"},
                       customdata=np.array([(c.rows, c.attained) for c in shown]),
                       hovertemplate="alpha %{x:.3g}: D ≥ %{y:.4f}, exact p %{customdata[1]:.3g}, %{customdata[0]:,} rows win"
                                     "<extra></extra>")  # fmt: skip
    figure.update_xaxes(type="log", exponentformat="power", dtick=decades(alphas))
    if not any(c.exact <= 1 for c in shown):
        nothing(figure, "No D can win at any of these alphas")
    pairs = "; ".join(f"alpha {c.alpha:g}: {c.exact:.4f} and {c.asymptotic:.4f}" for c in shown)
    return labelled(
        figure, f"Critical values for rows of {dim:,} values", f"Exact and asymptotic critical value of D. {pairs}."
    )


def power_curves(found: Calibration) -> go.Figure:
    """The share of rows with p < alpha against the size of a change, with how far the pair's rows moved."""
    figure = sheet("Share of rows with p < alpha", "Size of the change, in standard deviations of a row (log scale)")
    said = []
    for power in found.powers:
        colour = TUNED if power.rows == "dependent" else CONTROL
        figure.add_scatter(x=power.sizes, y=power.power, mode="lines", name=f"{power.change}, {power.rows} rows",
                           line={"color": colour, "width": 2, "dash": "solid" if power.change == "shift" else "dash"},
                           hovertemplate=f"{power.change} of %{{x:.3g}}: %{{y:.1%}} of {power.rows} rows<extra></extra>")  # fmt: skip
        marks = [(x, y) for x, y in ((power.half, 0.5), (power.eighty, 0.8)) if math.isfinite(x)]
        figure.add_scatter(x=[x for x, _ in marks], y=[y for _, y in marks], mode="markers", showlegend=False,
                           marker={"color": colour, "size": 9, "symbol": "circle" if power.change == "shift" else "square"},
                           hovertemplate="%{x:.3g} for %{y:.0%}<extra></extra>")  # fmt: skip
        said.append(f"{power.change}, {power.rows} rows: 50% at {power.half:.3g}, 80% at {power.eighty:.3g}")
    if len(found.moved):
        moved = float(np.median(found.moved))
        # A log axis has no place for 0, and a change that is far from the curves would squeeze them.
        if moved > min(p.sizes[0] for p in found.powers):
            mark(figure, moved, f"the pair's rows: {moved:.2g} (median)", left=False, log=True)
        said.append(f"the pair's changed rows moved by {moved:.3g} in the median")
    figure.update_xaxes(type="log")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    return labelled(
        figure, f"What alpha {found.settings.alpha:g} can see in rows of {found.dim:,} values", f"{'; '.join(said)}."
    )


def count_scatter(found: Ranking, tokens: Sequence[str]) -> go.Figure:
    """D against the optimizer steps that touched a row (log scale), coloured by in the prompt or not.

    ``tokens`` by position in the ranking.
    """
    steps = found.trained[STEPS]
    prompt = found.variables.get("in prompt")
    inside = np.zeros(len(steps), bool) if prompt is None else prompt > 0
    figure = sheet("KS statistic D", "Optimizer steps that touched the row (log scale)")
    others = "not in the prompt" if prompt is not None else "tokens"
    for name, look, part in ((others, {"color": MUTED, "size": 6, "opacity": 0.6}, ~inside),
                             ("in the prompt", {"color": TUNED, "size": 9}, inside)):  # fmt: skip
        at = np.nonzero(part)[0]
        if not len(at):
            continue
        figure.add_scattergl(x=steps[at].astype(np.float32), y=found.statistic[at].astype(np.float32), mode="markers",
                             name=name, marker=look, text=[text(tokens[int(i)]) for i in at],
                             customdata=found.adjusted_rank[at],
                             hovertemplate="%{text}<br>D %{y:.4f}, steps %{x:,}<br>adjusted rank %{customdata}"
                                           "<extra></extra>")  # fmt: skip
    figure.update_xaxes(type="log", dtick=decades(steps))
    rho = found.correlation("log steps")
    words = f"rank correlation {rho.rho:.2f}" if rho else "no rank correlation"
    return labelled(figure, f"D against training steps ({words})",
         f"Scatter of D against the optimizer steps that touched the row, for {len(steps):,} tokens, {int(inside.sum())} of "
         f"them in the prompt: {words}.")  # fmt: skip


def coefficients(found: Ranking) -> go.Figure:
    """Standardized coefficients with their 95% intervals (HC3); grey where the interval holds 0."""
    effects = found.effects[::-1]
    clear = [e.is_clear for e in effects]
    figure = sheet("", "Standardized coefficient: standard deviations of D for one of the variable (95% interval, HC3)",
                     height=max(240, 46 * len(effects) + 150))  # fmt: skip
    for name, colour, wanted in (("interval excludes 0", TUNED, True), ("interval holds 0", MUTED, False)):
        part = [e for e, sure in zip(effects, clear, strict=True) if sure == wanted]
        if not part:
            continue
        figure.add_scatter(x=[e.coefficient for e in part], y=[text(e.variable, LONG) for e in part], mode="markers", name=name,
                           marker={"color": colour, "size": 10},
                           error_x={"array": [e.high - e.coefficient for e in part], "color": colour, "thickness": 2,
                                    "arrayminus": [e.coefficient - e.low for e in part]},
                           customdata=[(e.p, e.slope) for e in part],
                           hovertemplate="%{y}: %{x:+.3f}<br>p %{customdata[0]:.2g}, D per unit %{customdata[1]:.3g}"
                                         "<extra></extra>")  # fmt: skip
    figure.add_vline(0, line={"color": MUTED, "width": 1})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=[text(e.variable, LONG) for e in effects])
    if not effects:
        nothing(figure, "No variable takes part")
    parts = "; ".join(f"{e.variable} {e.coefficient:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e in found.effects)
    return labelled(figure, f"What goes with D, the others held fixed (R² {found.r2:.2f})",
         f"Regression of D on {len(effects)} variables, R² {found.r2:.2f}: {parts}.")  # fmt: skip


def overlap_heatmap(found: Stability, measure: str = "jaccard") -> go.Figure:
    """One of ``MEASURES`` for every two runs. Where it is not known the square is empty."""
    values, names = found.matrix(measure), [text(name, LONG) for name in found.names]
    low = -1.0 if measure == "rho" and np.nanmin(values) < 0 else 0.0
    high = max(*found.sizes, 1) if measure == "shared" else 1.0
    figure = sheet("Run", "Run", height=max(320, 40 * len(names) + 170))
    figure.add_heatmap(z=values.astype(np.float32), x=names, y=names, colorscale=SCALE, zmin=low, zmax=high,
                       colorbar={"thickness": 14}, xgap=2, ygap=2, hoverongaps=False,
                       hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>")  # fmt: skip
    # The numbers, dark on light squares and light on dark ones, whatever the theme.
    known = list(zip(*np.nonzero(np.isfinite(values)), strict=True))
    figure.add_scatter(x=[names[x] for _, x in known], y=[names[y] for y, _ in known], mode="text", showlegend=False,
                       text=[f"{values[at]:.0f}" if measure == "shared" else f"{values[at]:.2f}" for at in known],
                       textfont={"color": ["#111" if values[at] - low > 0.4 * (high - low) else "#fff" for at in known]},
                       hoverinfo="skip")  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    pairs = [(o.first, o.second, getattr(o, measure)) for o in found.overlaps]
    parts = "; ".join(f"{found.names[a]} and {found.names[b]} {x:.2f}" for a, b, x in pairs[:12])
    more = f"; and {len(pairs) - 12} more" if len(pairs) > 12 else ""
    return labelled(
        figure, MEASURES[measure], f"{MEASURES[measure]}, for every two of {len(names)} runs: {parts}{more}."
    )


def top_curves(found: Stability) -> go.Figure:
    """Share of the k rows of largest D that two runs have in common, against k, by what the runs differ in.

    Where a group has several pairs, their range is shaded. Below: what a list by training steps alone would share, and
    what a uniform draw would.
    """
    figure = sheet("Shared rows, of the k of largest D", "k")
    said = []
    for group in found.groups:
        known = np.isfinite(group.curve)
        if group.name not in GROUPS or not known.any():
            continue
        k, (colour, dash) = np.nonzero(known)[0] + 1, LINES[group.name]
        label = f"{group.name} ({'one pair' if group.pairs == 1 else f'{group.pairs} pairs'})"
        if group.name == "seed" and found.has_ceiling:
            label += ", the ceiling"
        if group.pairs > 1:
            figure.add_scatter(x=np.concatenate([k, k[::-1]]),
                               y=np.concatenate([group.highest[known], group.lowest[known][::-1]]),
                               fill="toself", fillcolor=colour, opacity=0.15, line={"width": 0}, mode="lines",
                               hoverinfo="skip", showlegend=False)  # fmt: skip
        figure.add_scatter(x=k, y=group.curve[known], mode="lines", name=label,
                           line={"color": colour, "dash": dash, "width": 3 if group.name == "seed" else 2},
                           hovertemplate=f"{group.name}, k = %{{x}}: %{{y:.1%}}<extra></extra>")  # fmt: skip
        at = min(QUOTED, int(k[-1]))
        range_at = f" ({group.lowest[at - 1]:.0%} to {group.highest[at - 1]:.0%})" if group.pairs > 1 else ""
        said.append(f"{label}: {group.curve[at - 1]:.0%}{range_at} at k = {at}")
    if found.noise is not None and np.isfinite(found.noise.curve).any():
        known = np.isfinite(found.noise.curve)
        figure.add_scatter(x=np.nonzero(known)[0] + 1, y=found.noise.curve[known], mode="lines", name=f"trained on noise ({found.noise.pairs} draws)",
                           line={"color": MUTED, "width": 2}, hovertemplate="trained on noise, k = %{x}: %{y:.1%}<extra></extra>")  # fmt: skip
        at = min(QUOTED, int(known.sum()))
        said.append(f"trained on noise at the exposure of {found.noisy}: {found.noise.curve[at - 1]:.0%} at k = {at}")
    drawn = [g for g in found.groups if g.name in GROUPS and np.isfinite(g.chance).any()]
    by = "training steps" if all(g.measure == STEPS for g in drawn) else COUNT
    for name, dash, levels in (
        (f"by {by} alone", "dash", [g.by_training for g in drawn]),
        ("uniform draw", "dot", [g.chance for g in drawn]),
    ):
        # The groups' levels lie close together; the highest is the one to beat.
        level = np.max(np.where(np.isfinite(levels), levels, -1), axis=0, initial=-1) if drawn else np.zeros(0)
        known = level >= 0
        if known.any():
            figure.add_scatter(x=np.nonzero(known)[0] + 1, y=level[known], mode="lines", name=name,
                               line={"color": MUTED, "dash": dash, "width": 2},
                               hovertemplate=f"{name}, k = %{{x}}: %{{y:.1%}}<extra></extra>")  # fmt: skip
            at = min(QUOTED, int(np.nonzero(known)[0][-1]) + 1)
            said.append(f"{name}: {level[at - 1]:.0%} at k = {at}")
    if not drawn:
        nothing(figure, "No two tested runs differ in one thing alone")
    figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")
    return labelled(
        figure,
        "How much of the top stays when one thing changes",
        f"Overlap of the k rows of largest D. {'; '.join(said)}.",
    )


def _percent(share: float) -> str:
    return "no rows" if math.isnan(share) else f"{share:.1%}"

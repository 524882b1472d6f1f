"""Figures of the audit's panels that need the model, by likelihood: gating, prompt transfer, strength; and of the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ks_core.audit.agreement.certificate import PREFIXES, Predictions, outcome, rates_by_margin
from ks_core.audit.sentences import gain as points, is_clear, nats, nats_of, of_gain, with_parts
from ks_core.drawing import BASE, CONTROL, LEGEND_ABOVE, LONG, MUTED, TUNED, WINNING, labelled, sheet, text
from ks_core.translation.metrics import TITLES
from ks_core.translation.prompts import template_title
from ks_core.translation.shares import Share

#: How the parts of a gain in likelihood are called, and drawn: what is stopping, and what is not.
PART_NAMES = {"end": "the end token", "content": "the content", "all": "all target tokens"}
PART_COLOURS = {"end": MUTED, "content": WINNING, "all": WINNING}


def gate_bars(panel: Mapping[str, Any]) -> go.Figure:
    """Gating as plain values: what of the copied ticket's gain in likelihood each gate recovers, end token and content apart,
    and tokens that could act there. Where that gain is not clear of chance there is no share, and the bars are nats."""
    runs = [r for r in panel["runs"] if r["name"] != "none"]
    names = [r["name"].replace("_", " ") for r in runs]
    found = [nats_of(r) for r in runs]
    clear = is_clear(found[-1]["all"])
    figure = sheet(
        "Share of the gain recovered" if clear else "Gain, nats a target token", "Where the rows act", height=420
    )
    _stacked(figure, [text(name) for name in names], found, clear=clear)
    figure.add_scatter(
        x=[text(name) for name in names], y=[r["acting"] for r in runs], name="tokens with an acting row, a sentence", yaxis="y2",
        mode="markers", marker={"color": BASE, "size": 11, "symbol": "diamond"}, hovertemplate="%{x}: %{y:.1f} tokens<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        yaxis2={"title": "Tokens a sentence", "overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero"}
    )  # fmt: skip
    said = "; ".join(
        f"{n} {with_parts(f) if clear else nats(f['all'])} with {r['acting']:.1f} tokens"
        for n, f, r in zip(names, found, runs, strict=True)
    )
    what = (
        "Share of its gain in likelihood recovered"
        if clear
        else "Its gain in nats a target token, of which no share is clear of chance,"
    )
    return labelled(figure, "Where the copied ticket acts", f"{what} when it acts in one part alone: {said}.")


def prompt_bars(panel: Mapping[str, Any]) -> go.Figure:
    """Prompt transfer as plain values: what the copied ticket gains over the base under every template, end token and content
    apart."""
    runs = panel["runs"]
    names = [template_title(r["name"]) + (" (trained)" if r["trained"] else "") for r in runs]
    found = [nats_of(r["tuned"]) for r in runs]
    figure = sheet("Gain, nats a target token", "Prompt", height=420)
    _stacked(figure, [text(name, LONG) for name in names], found, clear=False)
    said = "; ".join(
        f"{n} {of_gain(f)} (base {r['base']['read']['nats_all']:.2f})"
        for n, f, r in zip(names, found, runs, strict=True)
    )
    return labelled(
        figure, "The copied ticket under other prompts", f"Gain in likelihood over the base under each prompt: {said}."
    )


def nats_curves(panel: Mapping[str, Any]) -> go.Figure:
    """Nats against the strength a in base + a * change, for each set of rows: of all target tokens, and of the end token."""
    figure = sheet("Nats a token (less is better)", "Strength a (0: base, 1: as trained)", height=420)
    sets, said = list(dict.fromkeys(p["rows"] for p in panel["points"])), []
    for name, colour in zip(sets, (WINNING, TUNED, CONTROL), strict=False):
        points = [p for p in panel["points"] if p["rows"] == name]
        label = f"{text(name)} ({points[0]['count']:,} rows)"
        for part, dash, words in (("all", "solid", "all target tokens"), ("end", "dot", "the end token")):
            if f"nats_{part}" not in points[0]["read"]:
                continue
            figure.add_scatter(
                x=[p["strength"] for p in points], y=[p["read"][f"nats_{part}"] for p in points], name=f"{words}, {label}",
                mode="lines+markers" if part == "all" else "lines", line={"color": colour, "dash": dash},
                hovertemplate=f"{words}, {label}, a = %{{x}}: %{{y:.2f}} nats<extra></extra>",
            )  # fmt: skip
        best = min(points, key=lambda p: p["read"]["nats_all"])
        said.append(f"{name} {best['read']['nats_all']:.2f} at its best, {best['strength']:g}")
    test = panel["claimed"]
    figure.add_scatter(
        x=[p["strength"] for p in test], y=[p["read"]["nats_all"] for p in test], name="the ticket, test references",
        mode="markers", marker={"color": WINNING, "size": 13, "symbol": "diamond-open"},
        hovertemplate="test, a = %{x}: %{y:.2f} nats<extra></extra>",
    )  # fmt: skip
    return labelled(
        figure, "Strength of the copied change", f"Nats a target token against the strength: {'; '.join(said)}."
    )


def nats_points(rows: Sequence[Any]) -> go.Figure:
    """Controls: what each arm gains in likelihood, end token and content apart, with the interval of both together; one bar an
    arm, so every seed is seen. ``rows`` are ``gains.Gain``; those without a likelihood are left out."""
    there = [row for row in rows if row.nats]
    figure = sheet("", "Gain over the base, nats a target token", height=150 + 30 * len(there))
    found = [row.nats for row in reversed(there)]
    _stacked(figure, [text(row.name, LONG) for row in reversed(there)], found, clear=False, flat=True)
    figure.add_vline(x=0, line={"color": MUTED, "dash": "dash"})
    said = "; ".join(f"{row.name} {of_gain(row.nats)}" for row in there)
    return labelled(
        figure, "What other rows give, by likelihood", f"Gain over the base in nats a target token: {said}."
    )


def _stacked(
    figure: go.Figure, names: Sequence[str], found: Sequence[Mapping[str, Share]], *, clear: bool, flat: bool = False
) -> None:
    """A bar each, of what lies in the content and in the end token (of all, where these cannot be parted), with the interval of
    the whole bar; as shares where they are ``clear``, and else in nats. ``flat`` bars lie on their side."""
    of = [part for part in ("content", "end") if part in found[0]] or ["all"]
    for part in of:
        values = [((f[part].value if clear else f[part].gain) or 0.0) for f in found]
        number = ":.0%" if clear else ":+.2f"
        place = "x" if flat else "y"
        figure.add_bar(
            **({"x": values, "y": names, "orientation": "h"} if flat else {"x": names, "y": values}), name=PART_NAMES[part],
            marker={"color": PART_COLOURS[part]}, offsetgroup="a",
            hovertemplate=f"{PART_NAMES[part]}, %{{{'y' if flat else 'x'}}}: %{{{place}{number}}}<extra></extra>",
        )  # fmt: skip
    whole = [f["all"] for f in found]
    middle = [((f.value if clear else f.gain) or 0.0) for f in whole]
    bounds = [((f.low, f.high) if clear else (f.gain_low, f.gain_high)) for f in whole]
    error = {
        "type": "data", "symmetric": False, "thickness": 1.5, "color": BASE,
        "array": [0 if high is None else high - v for v, (_, high) in zip(middle, bounds, strict=True)],
        "arrayminus": [0 if low is None else v - low for v, (low, _) in zip(middle, bounds, strict=True)],
    }  # fmt: skip
    figure.add_scatter(
        **({"x": middle, "y": names, "error_x": error} if flat else {"x": names, "y": middle, "error_y": error}),
        mode="markers", name="together, 95%", marker={"color": BASE, "size": 5}, hoverinfo="skip",
    )  # fmt: skip
    figure.update_layout(barmode="relative", bargap=0.3)
    (figure.update_xaxes if flat else figure.update_yaxes)(tickformat=".0%" if clear else None)


def gain_points(rows: Sequence[Any], metric: str = "chrf") -> go.Figure:
    """Controls: each arm's gain under the first-line rule, with its interval; one point an arm, so every seed is seen.

    ``rows`` are ``gains.Gain``; those without answers are left out.
    """
    rows = [row for row in rows if row.shares]
    figure = sheet("", f"Gain in {TITLES[metric]} over the base (first line)", height=90 + 34 * len(rows))
    colours = {"partial": WINNING, "transfer": WINNING, "tuned": TUNED, "embed": TUNED}
    for row in reversed(rows):
        found = row.shares[metric]
        low, high = found.gain_low, found.gain_high
        figure.add_scatter(
            x=[found.gain], y=[text(row.name, LONG)], mode="markers", showlegend=False,
            marker={"size": 12, "color": colours.get(row.kind, CONTROL)},
            error_x={"type": "data", "symmetric": False, "thickness": 1, "array": [(high or found.gain) - found.gain],
                     "arrayminus": [found.gain - (low if low is not None else found.gain)]},
            hovertemplate=f"{text(row.name)}: %{{x:+.1f}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0, line={"color": MUTED, "dash": "dash"})
    said = "; ".join(f"{r.name} {points(r.shares[metric])}" for r in rows)
    return labelled(figure, "What other rows give", f"Gain over the base under the first-line rule: {said}.")


def agreement_curve(panel: Mapping[str, Any]) -> go.Figure:
    """The certificate as plain values: agreement of ticket and embed-tuned model, given the reference so far, against the
    margin, with the distance that it must exceed, the largest D outside the ticket."""
    found = Predictions.of(panel)
    left_out = found.left_out
    figure = sheet("Tokens on which both models agree", "Margin (p_A - p_B) / 2", height=400)
    shown = [(low, high, rate) for low, high, rate in rates_by_margin(found) if rate.tokens]
    x = [(low + high) / 2 for low, high, _ in shown]
    rates = [rate for *_, rate in shown]
    figure.add_scatter(
        x=x, y=[r.share for r in rates], mode="lines+markers", name="agreement", line={"color": WINNING}, marker={"size": 9},
        error_y={"type": "data", "symmetric": False, "thickness": 1, "array": [r.high - r.share for r in rates],
                 "arrayminus": [r.share - r.low for r in rates]},
        hovertemplate="margin %{x:.2f}: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    figure.add_bar(x=x, y=[r.tokens for r in rates], name="tokens", yaxis="y2", opacity=0.35, marker={"color": MUTED},
                   hovertemplate="%{y:,} tokens<extra></extra>")  # fmt: skip
    figure.add_vline(x=left_out, line={"color": TUNED, "dash": "dash"})
    figure.add_annotation(x=left_out, y=1, yref="paper", text=f"largest D left out: {left_out:.3f}", showarrow=False,
                          yanchor="bottom", xanchor="left")  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04])
    figure.update_layout(
        yaxis2={"title": "Tokens", "overlaying": "y", "side": "right", "showgrid": False, "tickformat": ",d"}
    )
    said = "; ".join(f"{rate} at {m:.2f}" for m, rate in zip(x, rates, strict=True))
    return labelled(
        figure, "Agreement against the margin",
        f"Share of tokens on which both models agree, given {PREFIXES['reference']}, by margin, with 95% intervals over "
        f"sentences: {said}.",
    )  # fmt: skip


def agreement_points(panel: Mapping[str, Any], reading: str = "vocabulary") -> go.Figure:
    """The certificate's comparison as plain values: agreement with the embed-tuned model when the ticket's rows are copied, and
    when others are, among certified tokens (among all where none is) after either prefix."""
    found = outcome(Predictions.of(panel), reading)
    said = [o for o in (found, found.own) if o]
    figure = sheet("", "Agreement with the embed-tuned model", height=130 + 44 * len(found.models))
    words = []
    for one, symbol in zip(said, ("circle", "diamond-open"), strict=False):
        which = "certified" if one.certified else "all"
        name = f"{which} tokens, given {PREFIXES[one.prefix]}"
        rates = [m.certified if one.certified else m.all for m in one.models]
        labels = [m.label for m in one.models]
        figure.add_scatter(
            x=[r.share for r in rates], y=[text(label, LONG) for label in labels], mode="markers", name=name,
            marker={"size": 11, "symbol": symbol, "color": [WINNING] + [CONTROL] * (len(rates) - 1)},
            error_x={"type": "data", "symmetric": False, "thickness": 1, "array": [r.high - r.share for r in rates],
                     "arrayminus": [r.share - r.low for r in rates]},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )  # fmt: skip
        words.append(f"{name}: " + "; ".join(f"{m} {r}" for m, r in zip(labels, rates, strict=True)))
    figure.update_xaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(legend=LEGEND_ABOVE)
    return labelled(figure, "The same tokens, with other rows copied", ". ".join(words) + ".")

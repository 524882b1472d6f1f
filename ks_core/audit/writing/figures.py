"""Figures of the panels' answers, where an audit had them written: gating, prompt transfer, strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from ks_core.audit.sentences import METRICS, gain as points, in_words, is_clear, share_of
from ks_core.drawing import BASE, CONTROL, LONG, TUNED, WINNING, labelled, sheet, text
from ks_core.translation.prompts import template_title


def recovery_bars(panel: Mapping[str, Any], metric: str = "chrf", rule: str = "first_line") -> go.Figure:
    """Position gating as plain values: the share of the copied ticket's gain recovered per gate, and tokens that could act
    there. Where that gain is not clear of chance there is no share, and the bars are gains in points."""
    runs = [r for r in panel["runs"] if r["name"] not in ("none",)]
    names = [r["name"].replace("_", " ") for r in runs]
    drawn = [text(name) for name in names]
    found = [share_of(r["recovery"][rule][metric]) for r in runs]
    clear, name = all(is_clear(f) for f in found), METRICS[metric]
    figure = sheet("Share of the gain recovered" if clear else f"Gain in {name}", "Where the rows act", height=420)
    values = [(f.value if clear else f.gain) or 0.0 for f in found]
    lows, highs = ([f.low if clear else f.gain_low for f in found], [f.high if clear else f.gain_high for f in found])
    figure.add_bar(
        x=drawn, y=values, name="recovered", marker={"color": WINNING}, offsetgroup="a",
        error_y={"type": "data", "symmetric": False, "thickness": 1,
                 "array": [0 if h is None else h - v for h, v in zip(highs, values, strict=True)],
                 "arrayminus": [0 if low is None else v - low for low, v in zip(lows, values, strict=True)]},
        hovertemplate="%{x}: %{y:.0%}<extra></extra>" if clear else "%{x}: %{y:+.1f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=drawn, y=[r["acting"] for r in runs], name="tokens with an acting row, a sentence", yaxis="y2", mode="markers",
        marker={"color": BASE, "size": 11, "symbol": "diamond"}, hovertemplate="%{x}: %{y:.1f} tokens<extra></extra>",
    )  # fmt: skip
    if clear:
        figure.update_yaxes(tickformat=".0%")
    figure.update_layout(
        yaxis2={
            "title": "Tokens a sentence",
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "rangemode": "tozero",
        }
    )
    said = "; ".join(
        f"{n} {in_words(f) if clear else points(f)} with {r['acting']:.1f} tokens"
        for n, f, r in zip(names, found, runs, strict=True)
    )
    what = (
        f"Share of its gain in {name} recovered"
        if clear
        else f"Its gain in {name}, of which no share is clear of chance,"
    )
    return labelled(figure, "Where the copied ticket acts", f"{what} when it acts in one part alone: {said}.")


def transfer_bars(panel: Mapping[str, Any], metric: str = "chrf", rule: str = "first_line") -> go.Figure:
    """Prompt transfer as plain values: base and ticket under every template."""
    runs = panel["runs"]
    names = [template_title(r["name"]) + (" (trained)" if r["trained"] else "") for r in runs]
    figure = sheet(f"{METRICS[metric]} ({rule.replace('_', ' ')})", "Prompt", height=420)
    for key, name, colour in (("base", "base", BASE), ("tuned", "with the ticket's rows", WINNING)):
        scores = [r[key]["scores"][rule][metric] for r in runs]
        figure.add_bar(
            x=[text(name, LONG) for name in names], y=[s["value"] for s in scores], name=name, marker={"color": colour},
            error_y={"type": "data", "symmetric": False, "thickness": 1, "array": [s["high"] - s["value"] for s in scores],
                     "arrayminus": [s["value"] - s["low"] for s in scores]},
            hovertemplate=f"{name}, %{{x}}: %{{y:.1f}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group")
    said = "; ".join(
        f"{n} from {r['base']['scores'][rule][metric]['value']:.1f} to {r['tuned']['scores'][rule][metric]['value']:.1f}"
        for n, r in zip(names, runs, strict=True)
    )
    return labelled(
        figure, "The copied ticket under other prompts", f"Score of base and ticket under each prompt: {said}."
    )


def strength_curves(panel: Mapping[str, Any], rule: str = "first_line") -> go.Figure:
    """chrF and the share of ended answers against the strength a in base + a * delta, for each set of rows."""
    figure = sheet(f"chrF ({rule.replace('_', ' ')})", "Strength a (0: base, 1: as trained)", height=420)
    sets = list(dict.fromkeys(p["rows"] for p in panel["points"]))
    for name, colour in zip(sets, (WINNING, TUNED, CONTROL), strict=False):
        points = [p for p in panel["points"] if p["rows"] == name]
        x = [p["strength"] for p in points]
        scores = [p["evaluation"]["scores"][rule]["chrf"] for p in points]
        label = f"{text(name)} ({points[0]['count']:,} rows)"
        figure.add_scatter(
            x=x, y=[s["value"] for s in scores], name=f"chrF, {label}", mode="lines+markers", line={"color": colour},
            error_y={"type": "data", "symmetric": False, "thickness": 1, "array": [s["high"] - s["value"] for s in scores],
                     "arrayminus": [s["value"] - s["low"] for s in scores]},
            hovertemplate=f"{label}, a = %{{x}}: chrF %{{y:.1f}}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=[p["evaluation"]["stop_rate"] for p in points], name=f"ended answers, {label}", yaxis="y2",
            mode="lines", line={"color": colour, "dash": "dot"}, hovertemplate=f"{label}: %{{y:.0%}} ended<extra></extra>",
        )  # fmt: skip
    test = [p for p in panel.get("claimed", ()) if p["strength"]]
    if test:
        scores = [p["evaluation"]["scores"][rule]["chrf"] for p in test]
        figure.add_scatter(
            x=[p["strength"] for p in test], y=[s["value"] for s in scores], name="chrF of the ticket, test sentences",
            mode="markers", marker={"color": WINNING, "size": 13, "symbol": "diamond-open"},
            error_y={"type": "data", "symmetric": False, "thickness": 1, "array": [s["high"] - s["value"] for s in scores],
                     "arrayminus": [s["value"] - s["low"] for s in scores]},
            hovertemplate="test, a = %{x}: chrF %{y:.1f}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        yaxis2={"title": "Answers ended by the model", "overlaying": "y", "side": "right", "showgrid": False,
                "range": [0, 1.02], "tickformat": ".0%"}
    )  # fmt: skip
    return labelled(figure, "Strength of the copied change",
                    f"chrF and share of ended answers against the strength for {' and '.join(sets)}.")  # fmt: skip

"""Figures of the ledger, from the plain values that the job ``rules`` kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ks_core.drawing import BASE, CONTROL, LONG, MUTED, SCALE, TUNED, WINNING, labelled, nothing, sheet, text
from ks_core.ledger.rules import RULES

#: The rules that are drawn unless somebody chooses others: D, the best known of each side, and chance.
DRAWN = ("d", "l2", "steps", "attribution", "random")
_COLOURS = (WINNING, TUNED, BASE, CONTROL, MUTED, "#CC79A7", "#56B4E9", "#F0E442")


def gain_curves(result: Mapping[str, Any], rules: Sequence[str] = DRAWN) -> go.Figure:
    """What the k first rows of some rules keep of the whole gain, against k, with 95% intervals."""
    figure = sheet("Share kept", "Rows copied", height=420)
    sizes = sorted({int(row["k"]) for row in result["rules"]})
    figure.update_xaxes(
        type="log", tickvals=sizes, ticktext=[f"{k:,}" for k in sizes], minor={"ticks": "", "showgrid": False}
    )
    figure.update_yaxes(tickformat=".0%")
    said = []
    for n, rule in enumerate(rules):
        rows = [row for row in result["rules"] if row["rule"] == rule and row["share"]["value"] is not None]
        if not rows:
            continue
        shares = [row["share"] for row in rows]
        figure.add_scatter(
            x=[row["k"] for row in rows], y=[s["value"] for s in shares], name=RULES[rule].title, mode="lines+markers",
            line={"color": _COLOURS[n % len(_COLOURS)]}, marker={"size": 7},
            error_y={"type": "data", "symmetric": False, "thickness": 1,
                     "array": [0 if s["high"] is None else s["high"] - s["value"] for s in shares],
                     "arrayminus": [0 if s["low"] is None else s["value"] - s["low"] for s in shares]},
            hovertemplate=f"{RULES[rule].title}, %{{x}} rows: %{{y:.0%}}<extra></extra>",
        )  # fmt: skip
        said.append(
            f"{RULES[rule].title} {shares[0]['value']:.0%} with {rows[0]['k']:,} to {shares[-1]['value']:.0%} with {rows[-1]['k']:,}"
        )
    if not said:
        nothing(figure, "None of these rules was compared")
    return labelled(
        figure,
        "What the first rows of each rule keep",
        f"Share of the gain in log-likelihood kept by copied rows: {'; '.join(said) or 'none'}.",
    )


def trained_gains(result: Mapping[str, Any]) -> go.Figure:
    """What the rows of each rule gain when they alone are trained: the mean with its 95% interval, and each seed."""
    found = result.get("trained", {"rows": [], "rules": []})
    figure = sheet("", "Gain over the base, nats a target token", height=150 + 34 * len(found["rules"]))
    title = "Trained alone, at equal budget"
    if not found["rules"]:
        nothing(figure, "No rule's rows were trained")
        return labelled(figure, title, "No rule's rows were trained.")
    rows = sorted(found["rules"], key=lambda row: row["gain"]["value"])
    names = [text(row["title"]) for row in rows]
    figure.add_scatter(
        x=[x for row in rows for x in row["seeds"]], y=[name for name, row in zip(names, rows, strict=True) for _ in row["seeds"]],
        mode="markers", name="a seed", marker={"color": MUTED, "size": 7, "symbol": "circle-open"},
        hovertemplate="%{y}, a seed: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[row["gain"]["value"] for row in rows], y=names, mode="markers", name="mean, 95%", marker={"color": WINNING, "size": 10},
        error_x={"type": "data", "symmetric": False, "array": [r["gain"]["high"] - r["gain"]["value"] for r in rows],
                 "arrayminus": [r["gain"]["value"] - r["gain"]["low"] for r in rows]},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    return labelled(figure, title, found["sentence"])


def overlap_map(result: Mapping[str, Any]) -> go.Figure:
    """How many of their first rows each two rules have in common."""
    found = result["overlap"]
    names = [text(RULES[rule].title) for rule in found["rules"]]
    figure = sheet("", "", height=160 + 22 * len(names))
    figure.add_heatmap(
        z=found["shared"], x=names, y=names, colorscale=SCALE, zmin=0, zmax=found["k"], texttemplate="%{z}",
        hovertemplate="%{y} and %{x}: %{z} rows<extra></extra>", colorbar={"title": "rows"},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    with_d = found["shared"][found["rules"].index("d")] if "d" in found["rules"] else []
    said = "; ".join(f"{RULES[rule].title} {n}" for rule, n in zip(found["rules"], with_d, strict=False) if rule != "d")
    return labelled(
        figure,
        f"Of the first {found['k']}, how many two rules share",
        f"Of the first {found['k']} rows D shares with each rule: {said or 'D was not compared'}.",
    )


def attribution_map(result: Mapping[str, Any]) -> go.Figure:
    """What the rows of largest attribution contribute, by the part of the sequence in which they are read."""
    found = result.get("attribution", {})
    rows, spans = found.get("rows", []), [s.replace("_", " ") for s in found.get("spans", [])]
    figure = sheet("", "Where the row is read", height=160 + 22 * len(rows))
    if not rows:
        nothing(figure, "No attribution was made")
        return labelled(figure, "Which rows carry the gain, and where", "No attribution was made.")
    values = [[c + e for c, e in zip(row["content"], row["end"], strict=True)] for row in rows]
    most = max(abs(v) for own in values for v in own) or 1.0
    # The id behind the token, or two tokens that read alike would be one line.
    names = [f"{text(row['token'], LONG)} ({row['token_id']})" for row in rows]
    figure.add_heatmap(
        z=values, x=spans, y=names, colorscale="RdBu", zmid=0, zmin=-most, zmax=most, colorbar={"title": "nats"},
        hovertemplate="%{y}, %{x}: %{z:+.1f} nats<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    said = "; ".join(f"{row['token']} {sum(own):+.1f}" for row, own in zip(rows[:8], values, strict=False))
    return labelled(
        figure, "Which rows carry the gain, and where", f"Nats of the gain by row, the largest first: {said}."
    )


def smallest_curve(result: Mapping[str, Any]) -> go.Figure:
    """What was kept on development references while rows were put in one by one."""
    found = result.get("smallest")
    figure = sheet("Share of the gain kept (development)", "Rows put in")
    figure.update_yaxes(tickformat=".0%")
    if not found or not found["curve"]:
        nothing(figure, "The smallest ticket was not looked for")
        return labelled(figure, "The smallest ticket", "The smallest ticket was not looked for.")
    dropped, strings = set(found["dropped"]), result["strings"]
    names = [
        text(strings.get(str(i), str(i))) + (" (taken out again)" if i in dropped else "") for i, _ in found["curve"]
    ]
    figure.add_scatter(
        x=list(range(1, len(names) + 1)), y=[share for _, share in found["curve"]], mode="lines+markers", text=names,
        line={"color": WINNING}, name="kept", hovertemplate="%{x}. %{text}: %{y:.0%}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=found["asked"], line={"color": MUTED, "dash": "dash"})
    return labelled(figure, "The smallest ticket", found["sentence"])

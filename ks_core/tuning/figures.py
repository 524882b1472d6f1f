"""Figures of a run: losses, nats of the references, score against what was trained, and the sweep over alpha."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from ks_core.drawing import BASE, CONTROL, LEGEND_ABOVE, MUTED, SCALE, TUNED, WINNING, labelled, sheet, text
from ks_core.translation.metrics import TITLES
from ks_core.tuning.comparison import nats_of

if TYPE_CHECKING:
    import pandas as pd

#: One colour per kind of arm: base, tuned, ticket and control mean what they mean in every other figure.
KIND_COLOURS = {
    "base": BASE, "stop": BASE, "examples": BASE, "chat": BASE, "tuned": TUNED, "embed": TUNED, "partial": WINNING, "transfer": WINNING, "lora": MUTED, "prefix": MUTED, "full": MUTED,
}  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "pentagon", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")


def loss_curves(losses: pd.DataFrame, kinds: Mapping[str, str]) -> go.Figure:
    """Training loss of every arm against the step, smoothed over ten steps with the raw values faint behind it.

    ``losses`` has the columns arm, step, loss; ``kinds`` maps an arm's name to its kind.
    """
    figure = sheet("Loss (nats a target token)", "Step")
    for n, (arm, part) in enumerate(losses.groupby("arm", sort=False)):
        colour, dash = KIND_COLOURS.get(kinds.get(str(arm), ""), CONTROL), DASHES[n % len(DASHES)]
        figure.add_scatter(x=part.step, y=part.loss, mode="lines", line={"color": colour, "width": 1}, opacity=0.25,
                           showlegend=False, hoverinfo="skip")  # fmt: skip
        figure.add_scatter(x=part.step, y=part.loss.rolling(10, min_periods=1).mean(), mode="lines", name=text(str(arm)),
                           line={"color": colour, "width": 2, "dash": dash},
                           hovertemplate=f"{text(str(arm))}: step %{{x}}, loss %{{y:.3f}}<extra></extra>")  # fmt: skip
    last = losses.groupby("arm", sort=False).tail(1)
    said = "; ".join(f"{row.arm} is at step {row.step} with loss {row.loss:.2f}" for row in last.itertuples())
    return labelled(figure, "Training loss", f"Loss against training step. {said or 'No step yet'}.")


def score_chart(frame: pd.DataFrame, metric: str, rule: str) -> go.Figure:
    """Score of every arm against how many values it trains (log scale; 0 stands at the left edge).

    ``frame`` is ``comparison.table``'s; ``metric`` is one of ``comparison.BOUNDED``, with its 95% bootstrap interval.
    """
    figure = sheet(f"{_NAMES[metric]} ({rule.replace('_', ' ')})", "Trained values (log scale)")
    floor = max(1.0, min(frame.trainable[frame.trainable > 0], default=576) / 10) if len(frame) else 1.0
    seen: dict[float, int] = {}
    for n, row in enumerate(frame.itertuples(index=False)):
        record = row._asdict()
        value, low, high = (float(record[f"{metric}{part}_{rule}"]) for part in ("", "_low", "_high"))
        x = float(row.trainable or floor)
        seen[x] = seen.get(x, 0) + 1
        x *= 1.12 ** (seen[x] - 1)  # arms that train nothing would lie on one another
        figure.add_scatter(
            x=[x], y=[value], mode="markers", name=text(str(row.arm)),
            error_y={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low], "thickness": 1},
            marker={"color": KIND_COLOURS.get(str(row.kind), CONTROL), "size": 12, "symbol": SYMBOLS[n % len(SYMBOLS)]},
            hovertemplate=f"{text(str(row.arm))}: {value:.2f} [{low:.2f}, {high:.2f}], {int(row.trainable):,} trained values<extra></extra>",
        )  # fmt: skip
    trained = frame.trainable[frame.trainable > 0] if len(frame) else []
    ticks = [floor, *(10.0**e for e in range(2, 10) if any(10.0**e <= 10 * t for t in trained) and 10.0**e > 2 * floor)]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=["none", *(f"{t:,.0f}" for t in ticks[1:])])
    figure.update_layout(height=460)
    best = frame.loc[frame[f"{metric}_{rule}"].idxmax()].arm if len(frame) else "none"
    return labelled(figure, f"{_NAMES[metric]} against what was trained",
                    f"{len(frame)} arms, {_NAMES[metric]} under the rule {rule} against the number of trained values. "
                    f"The highest is {best}. Bars are 95% bootstrap intervals.")  # fmt: skip


def nats_chart(frame: pd.DataFrame) -> go.Figure:
    """Nats a target token of every arm, the end token's share of them apart from the content's, with the 95% interval of both.

    ``frame`` is ``comparison.table``'s of a run that has likelihoods. An arm without one is left out; one whose likelihood cannot be
    parted is one bar.
    """
    figure = sheet("", "Nats a target token (less is better)", 120 + 30 * max(len(frame), 4))
    shown = frame[frame.nats.notna()]
    names = [text(str(name)) for name in shown.arm]
    # Of all target tokens one a sentence is the end; what each part costs of a target token adds up to the whole.
    for name, colour, values, own in (
        ("content", SCALE[9], shown.nats_from_content.fillna(shown.nats), shown.content_nats),
        ("end token", SCALE[3], shown.nats_from_end, shown.end_nats),
    ):  # fmt: skip
        figure.add_bar(
            y=names, x=values, name=name, orientation="h", marker={"color": colour}, customdata=own,
            hovertemplate=f"%{{y}}: %{{x:.3f}} of its nats are the {name}'s, %{{customdata:.2f}} a token of it<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        y=names, x=shown.nats, mode="markers", name="all, with its 95% interval", marker={"color": MUTED, "size": 7},
        error_x={"type": "data", "symmetric": False, "array": shown.nats_high - shown.nats, "arrayminus": shown.nats - shown.nats_low,
                 "thickness": 1.5},
        hovertemplate="%{y}: %{x:.3f} nats a target token<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True)
    # Above the bars: how far below them the axis has its name depends on how many there are.
    figure.update_layout(bargap=0.25, legend={**LEGEND_ABOVE, "traceorder": "normal"})
    said = "; ".join(f"{row.arm} {row.nats:.2f}" for row in shown.itertuples())
    return labelled(figure, "How unlikely the references are", f"Nats a target token of {len(shown)} arms, end token and content apart. {said}.")  # fmt: skip


def sweep_chart(points: Sequence[Mapping[str, Any]], metric: str, rule: str) -> go.Figure:
    """Partial Transfer at several alphas: the score (left axis) and the ticket's size (right axis, log scale).

    ``metric`` is one of ``comparison.BOUNDED`` under a ``rule``, or ``nats`` a target token, of points that have a likelihood.
    """
    nats = metric == "nats"
    figure = sheet(
        "Nats a target token" if nats else f"{_NAMES[metric]} ({rule.replace('_', ' ')})", "alpha (log scale)"
    )
    alphas = [p["alpha"] for p in points]
    scores = nats_of(points) if nats else [p["evaluation"]["scores"][rule][metric] for p in points]
    figure.add_scatter(x=alphas, y=[s["value"] for s in scores], mode="lines+markers", name=_NAMES[metric],
                       line={"color": WINNING, "width": 2}, marker={"size": 9},
                       error_y={"type": "data", "symmetric": False, "array": [s["high"] - s["value"] for s in scores],
                                "arrayminus": [s["value"] - s["low"] for s in scores], "thickness": 1},
                       hovertemplate="alpha %{x:.3g}: %{y:.2f}<extra></extra>")  # fmt: skip
    figure.add_scatter(x=alphas, y=[p["rows"] for p in points], mode="lines+markers", name="rows in the ticket", yaxis="y2",
                       line={"color": MUTED, "width": 2, "dash": "dot"}, marker={"symbol": "square"},
                       hovertemplate="alpha %{x:.3g}: %{y:,} rows<extra></extra>")  # fmt: skip
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_layout(yaxis2={"title": "Rows in the ticket", "overlaying": "y", "side": "right", "rangemode": "tozero",
                                 "showgrid": False})  # fmt: skip
    return labelled(figure, "Partial Transfer against alpha",
                    f"{_NAMES[metric]} and ticket size at {len(points)} alphas, from {points[0]['rows']:,} to {points[-1]['rows']:,} rows.")  # fmt: skip


_NAMES = {**TITLES, "nats": "nats a target token"}

"""A figure of an answer: its tokens as they stand in it, coloured by where two voices part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go

from ks_core.asking.answers import Place
from ks_core.asking.question import VOICES
from ks_core.drawing import labelled, nothing, sheet, text

#: Tokens on a line of the figure.
LINE = 12
#: Nats at which the colour is full: a thousand to one and more look alike.
FULL = 7.0


def coloured(
    places: Sequence[Place], ratios: Sequence[float], first: str, second: str, named: Mapping[int, str], words: str
) -> go.Figure:
    """The tokens of an answer, line by line, coloured by the log-ratio of ``second`` to ``first``. Pointed at, a token tells its
    probability and the five likeliest tokens of every voice there. ``named`` has the string of every id among them; ``words`` is the sentence about it."""
    lines = -(-len(places) // LINE)
    figure = sheet("", "", height=130 + 44 * max(lines, 1))
    figure.update_xaxes(visible=False, range=[-0.5, LINE - 0.5], fixedrange=True)
    figure.update_yaxes(visible=False, autorange="reversed", fixedrange=True)
    title = f"{VOICES[second]} against {VOICES[first]}, token by token"
    if not places:
        nothing(figure, "The answer has no token")
        return labelled(figure, title, "The answer has no token.")

    def told(n: int) -> str:
        place = places[n]
        rows = [f"<b>{text(named[place.token_id])}</b> (id {place.token_id}): {ratios[n]:+.2f} nats"]
        for voice in (v for v in VOICES if v in place.top):
            best = ", ".join(f"{text(named[i], 24)} {p:.2f}" for i, p in place.top[voice])
            rows.append(f"{VOICES[voice]}: {_chance(place.nats[voice])}; likeliest {best}")
        return "<br>".join(rows)

    def grid(value: Callable[[int], object], empty: object) -> list[list[object]]:
        return [
            [value(n) if n < len(places) else empty for n in range(line * LINE, (line + 1) * LINE)]
            for line in range(lines)
        ]

    figure.add_heatmap(
        z=grid(lambda n: max(-FULL, min(FULL, ratios[n])), None), text=grid(lambda n: text(named[places[n].token_id], 12), ""),
        customdata=grid(told, ""), texttemplate="%{text}", textfont={"size": 13}, hovertemplate="%{customdata}<extra></extra>", hoverongaps=False,
        colorscale="RdBu", zmid=0, zmin=-FULL, zmax=FULL, xgap=3, ygap=6, colorbar={"title": "nats", "thickness": 12},
    )  # fmt: skip
    return labelled(figure, title, words)


def _chance(nats: float) -> str:
    """A probability by its logarithm, as a person reads it."""
    return f"{math.exp(nats):.3f}" if nats > -6.9 else f"e^{nats:.1f}"

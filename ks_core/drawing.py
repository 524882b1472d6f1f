"""How this program draws: one sheet, one colour language, and the sentence for those who cannot see a figure.

The colours are safe for colour-blind readers (Okabe and Ito, 2008): base, tuned, winning, control and muted (what
neither changed nor won) mean the same in every figure. Backgrounds are transparent and text takes the theme's colour,
so that light and dark both read well. The sentence is in ``layout.meta``, and ``alt`` gives it.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from ks_core.errors import one_line

BASE, TUNED, WINNING, CONTROL, MUTED = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#8A94A0"
#: Viridis without its ends, which would vanish on a dark and on a light page.
SCALE = sample_colorscale("Viridis", np.linspace(0.15, 0.92, 12).tolist())
HEIGHT = 380
#: Pixels of a letter in an axis' name and of a figure's height that are not the plot's; letters of a name across a narrow column.
LETTER, AROUND, ACROSS = 6.5, 110, 46
#: Where a legend stands: at the foot of the figure, which leaves room for it however many lines it has, or above the plot.
LEGEND_BELOW = {"yref": "container", "y": 0.0, "yanchor": "bottom"}
LEGEND_ABOVE = {"yref": "paper", "y": 1.0, "yanchor": "bottom"}
#: How much of a string is drawn where it has to differ from its neighbours: a place on an axis.
LONG = 200


def alt(figure: go.Figure) -> str:
    """What the figure shows, in a sentence."""
    return str((figure.layout.meta or {}).get("alt", ""))


def heading(figure: go.Figure) -> str:
    """The figure's title, as text: what it has for Plotly is HTML."""
    return html.unescape(str(figure.layout.title.text or ""))


def sheet(y: str, x: str, height: int = HEIGHT) -> go.Figure:
    """An empty figure in the house's style, with the names of its axes: every figure begins with it."""
    figure = go.Figure()
    figure.update_layout(height=height, margin={"l": 10, "r": 10, "t": 64, "b": 10}, bargap=0.03,
                         barmode="stack", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
                         hovermode="closest",
                         legend={"orientation": "h", **LEGEND_BELOW, "x": 0})  # fmt: skip
    figure.update_xaxes(title=x, zeroline=False)
    figure.update_yaxes(title=y, zeroline=False)
    return figure


def fitted(figure: go.Figure) -> go.Figure:
    """The figure with the names of its axes in lines that it has room for, in a narrow window too: Plotly cuts off what is longer."""
    tall = int(figure.layout.height or HEIGHT) - AROUND
    for axis in figure.select_yaxes():
        _break(axis, tall * _share(axis) / LETTER)
    # Names of rows, which stand before the plot, may take half of a narrow window.
    named = any(
        isinstance(y[0], str) for trace in figure.data if (y := getattr(trace, "y", None)) is not None and len(y)
    )
    for axis in figure.select_xaxes():
        _break(axis, ACROSS * _share(axis) / (2 if named else 1))
    return figure


def _share(axis: go.layout.XAxis | go.layout.YAxis) -> float:
    """What an axis has of the figure: less than 1 where others stand beside it."""
    first, last = axis.domain or (0.0, 1.0)
    return float(last - first)


def _break(axis: go.layout.XAxis | go.layout.YAxis, most: float) -> None:
    words = str(axis.title.text or "")
    if len(words) > most and "<" not in words:
        axis.title.text = "<br>".join(textwrap.wrap(words, max(12, int(most)), break_long_words=False))


def labelled(figure: go.Figure, title: str, words: str) -> go.Figure:
    """The figure with its title, and with the sentence for those who cannot see it."""
    return figure.update_layout(title={"text": title, "x": 0, "font": {"size": 15}}, meta={"alt": words})


def mark(figure: go.Figure, x: float, words: str, *, left: bool, log: bool = False) -> None:
    """A vertical line with words above it, to the left or to the right of it."""
    figure.add_vline(x, line={"color": WINNING, "dash": "dash", "width": 2})
    # On a log axis Plotly wants the value for a line and its logarithm for words.
    figure.add_annotation(x=math.log10(x) if log else x, y=1, yref="paper", text=words, showarrow=False,
                          yanchor="bottom", xanchor="right" if left else "left")  # fmt: skip


def nothing(figure: go.Figure, words: str = "No row changed") -> None:
    """Words in the middle of a figure that has nothing to show."""
    figure.add_annotation(text=words, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)


def decades(x: np.ndarray) -> int:
    """Decades between two ticks of a log axis, so that there are about six."""
    return max(1, math.ceil(math.log10(x.max() / x.min()) / 6)) if len(x) else 1


def log10(pvalues: np.ndarray) -> np.ndarray:
    """Their logarithms, for an axis."""
    # A p below the smallest double is stored as 0.
    return np.log10(np.maximum(pvalues, 1e-320))


def texts(tokens: Sequence[str], positions: np.ndarray) -> list[str]:
    """The strings of some tokens, for a figure."""
    return [text(tokens[int(i)]) for i in positions]


def text(value: str, most: int = 60) -> str:
    """A string from outside (a token, a name, a label) as text in a figure, at most ``most`` characters of it, on one line.

    Plotly reads tags, mathematics between two ``$`` and, even in a title, templates such as ``%{x}``. It does
    not know ``&quot;``, so quotes stay.

    >>> text("<a href='x'>$1$</a>")
    "&lt;a href='x'&gt;&#36;1&#36;&lt;/a&gt;"
    """
    value = one_line(value if len(value) <= most else value[: most - 1] + "…")
    return html.escape(value, quote=False).replace("$", "&#36;").replace("%", "&#37;")

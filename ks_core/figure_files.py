"""A figure as a file that says by itself what it shows and from what: HTML, SVG or PNG, with caption and signature.

SVG and PNG are drawn by kaleido (Plotly's own exporter), which needs a Chrome or Chromium on the machine.
"""

from __future__ import annotations

import textwrap
from html import escape

import plotly.graph_objects as go

from ks_core.drawing import alt, heading, text
from ks_core.errors import SettingsError

#: File endings and their media types.
MEDIA_TYPES = {".html": "text/html", ".svg": "image/svg+xml", ".png": "image/png"}
#: Pixels of a drawn file; a PNG has twice as many in each direction, for print.
WIDTH, LINE = 1000, 150


def browser() -> str | None:
    """The Chrome or Chromium that would draw SVG and PNG; ``None`` where there is none."""
    from choreographer.browsers.chromium import Chromium

    return Chromium.find_browser(skip_local=False)


def figure_bytes(figure: go.Figure, suffix: str, signature: str, caption: str = "") -> bytes:
    """The figure as the bytes of a file. ``suffix`` is one of ``MEDIA_TYPES``; ``caption`` is otherwise its ``alt``.

    Raises ``SettingsError`` for another suffix, and for SVG and PNG where no browser can be used.
    """
    if suffix not in MEDIA_TYPES:
        raise SettingsError(
            f"{suffix or 'no ending'} is no format of a figure. Expected one of: {', '.join(MEDIA_TYPES)}."
        )
    caption = caption or alt(figure)
    made = go.Figure(figure)  # the one on the page stays as it is
    made.update_layout(template="plotly_white", paper_bgcolor="white", plot_bgcolor="white")
    if suffix == ".html":
        drawing = made.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(heading(made) or "Figure")}</title></head><body><figure>'
            f"{drawing}<figcaption>{escape(caption)}<br><small>Signature: {escape(signature)}</small></figcaption></figure>"
            "</body></html>"
        ).encode()
    if browser() is None:
        raise SettingsError(
            f"Drawing {suffix[1:].upper()} needs Chrome or Chromium, and none was found. Install one, or save as HTML."
        )
    lines = [*textwrap.wrap(caption, LINE), *textwrap.wrap(f"Signature: {signature}", LINE)]
    top = 58 + 15 * len(lines)
    height = int(made.layout.height or 400) + top - int(made.layout.margin.t or 64)
    under = "<br>".join(text(line, LINE) for line in lines)
    made.update_layout(
        height=height, margin={"t": top, "l": 70, "r": 30, "b": 70},
        title={"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 14},
               "subtitle": {"text": under, "font": {"size": 11, "color": "#57606a"}}},
    )  # fmt: skip
    try:
        return made.to_image(format=suffix[1:], width=WIDTH, height=height, scale=1 if suffix == ".svg" else 2)
    except Exception as error:  # kaleido, the browser and what is between them raise a dozen kinds
        raise SettingsError(
            f"The browser could not draw the figure ({type(error).__name__}). Save it as HTML instead."
        ) from None

"""A figure on a page: under its title, with its text alternative, and a way to take it along as a file.

A page says which function draws a figure and from what. It is drawn once for all visitors (``ks_core.store.shelf``), and what is kept is
the text that a browser gets.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from ks_core import drawing, figure_files
from ks_core.store import shelf
from pages.parts.say import plain

#: Pixels that a title takes of a figure, and what is left above one without.
TITLE, ABOVE = 36, 24


@dataclass(frozen=True)
class Picture:
    """A figure as a browser gets it, in plain values and without its title; its title as text (empty: it stays in the figure) and as
    Plotly has it, the sentence for those who cannot see it, and how large it is with the title."""

    plain: dict[str, Any]
    heading: str
    title: str
    alt: str
    top: float | None
    height: float | None

    def figure(self) -> go.Figure:
        """The figure, with its title."""
        figure = go.Figure(self.plain)
        return figure.update_layout(title={"text": self.title}, margin={"t": self.top}, height=self.height)


class _Sent(go.Figure):
    """A figure that is drawn already. Streamlit asks a figure for its plain values and for nothing else; to make a figure of them, and
    the plain values of that, takes ten times as long as all the rest."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self._plain = plain

    def to_dict(self) -> dict[str, Any]:
        return self._plain


@st.cache_resource(show_spinner=False)
def _browser() -> str | None:
    return figure_files.browser()


def chart(
    draw: partial[go.Figure],
    key: str,
    signature: str = "",
    height: int | None = None,
    content: object = None,
    **options: Any,
) -> Any:
    """Show what ``draw`` gives, a function of a module with all that it draws; returns what ``st.plotly_chart`` does. The file that is
    saved carries ``signature``; without one there is none. ``height`` goes before the figure's own. ``content`` is what decides the figure,
    where what it is drawn from is too large to be looked at each time.

    The title stands above it as text of the page, which is broken into lines where the screen is narrow: Plotly would cut it off.
    """
    named = (draw.func, content, height) if content else (draw, height)
    data = shelf.made_bytes("picture", named, lambda: picture(draw, height))
    found: Picture = pickle.loads(data)
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center"):
            if found.heading:
                st.markdown(f"**{plain(found.heading)}**", width="stretch")
            if signature:
                _save(data, found.alt, key, signature)
        return st.plotly_chart(_Sent(found.plain), key=key, alt=found.alt, **options)


def picture(draw: partial[go.Figure], height: int | None = None) -> Picture:
    """What ``draw`` gives, as it is sent."""
    figure = draw()
    if height:
        figure.update_layout(height=height)
    layout = drawing.fitted(figure).layout
    title, top, tall = str(layout.title.text or ""), layout.margin.t, layout.height
    heading = "" if _changes_its_title(figure) else drawing.heading(figure)
    words = drawing.alt(figure)
    if heading:
        above = max(ABOVE, int(top or 0) - TITLE)
        figure.update_layout(
            title={"text": ""}, margin={"t": above}, height=tall and tall - (int(top or above) - above)
        )
    return Picture(json.loads(str(figure.to_json(validate=False))), heading, title, words, top, tall)


def _save(data: bytes, words: str, key: str, signature: str) -> None:
    with st.popover("Save figure", icon=":material/download:", type="tertiary"):
        st.caption(plain(words))
        for suffix, media_type in figure_files.MEDIA_TYPES.items():
            drawn = suffix != ".html"
            st.download_button(
                suffix[1:].upper(), data=partial(_file, data, suffix, signature),
                file_name=f"ks-lottery-{key}{suffix}", mime=media_type, key=f"save-{key}{suffix}", on_click="ignore",
                disabled=drawn and _browser() is None,
                help="Needs Chrome or Chromium on the server." if drawn and _browser() is None else None,
            )  # fmt: skip


def _file(data: bytes, suffix: str, signature: str) -> bytes:
    """A kept picture as a file."""
    return figure_files.figure_bytes(pickle.loads(data).figure(), suffix, signature)


def _changes_its_title(figure: go.Figure) -> bool:
    """Whether the title goes along with the scenes of a figure, and has to stay in it."""
    return any(frame.layout.title.text for frame in figure.frames)

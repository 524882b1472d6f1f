"""A figure on a page: under its title, with its text alternative, and a way to take it along as a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from ks_core import drawing, figure_files
from pages.parts.say import plain

#: Pixels that a title takes of a figure, and what is left above one without.
TITLE, ABOVE = 36, 24


@st.cache_resource(show_spinner=False)
def _browser() -> str | None:
    return figure_files.browser()


def chart(figure: go.Figure, key: str, signature: str = "", **options: Any) -> Any:
    """Show a figure; returns what ``st.plotly_chart`` does. The file that is saved carries ``signature``; without one there is none.

    The title stands above it as text of the page, which is broken into lines where the screen is narrow: Plotly would cut it off.
    """
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center"):
            if not _changes_its_title(figure):
                st.markdown(f"**{plain(drawing.heading(figure))}**", width="stretch")
            if signature:
                _save(figure, key, signature)
        with _untitled(drawing.fitted(figure)):
            return st.plotly_chart(figure, key=key, alt=drawing.alt(figure), **options)


def _save(figure: go.Figure, key: str, signature: str) -> None:
    with st.popover("Save figure", icon=":material/download:", type="tertiary"):
        st.caption(plain(drawing.alt(figure)))
        for suffix, media_type in figure_files.MEDIA_TYPES.items():
            drawn = suffix != ".html"
            st.download_button(
                suffix[1:].upper(), data=partial(figure_files.figure_bytes, figure, suffix, signature),
                file_name=f"ks-lottery-{key}{suffix}", mime=media_type, key=f"save-{key}{suffix}", on_click="ignore",
                disabled=drawn and _browser() is None,
                help="Needs Chrome or Chromium on the server." if drawn and _browser() is None else None,
            )  # fmt: skip


def _changes_its_title(figure: go.Figure) -> bool:
    """Whether the title goes along with the scenes of a figure, and has to stay in it."""
    return any(frame.layout.title.text for frame in figure.frames)


@contextmanager
def _untitled(figure: go.Figure) -> Iterator[None]:
    """Inside, the figure has no title, and no room for one. A copy would be of all its points."""
    title, top, height = figure.layout.title.text, figure.layout.margin.t, figure.layout.height
    if title and not _changes_its_title(figure):
        above = max(ABOVE, int(top or 0) - TITLE)
        figure.update_layout(
            title={"text": ""}, margin={"t": above}, height=height and height - (int(top or above) - above)
        )
    try:
        yield
    finally:
        figure.update_layout(title={"text": title}, margin={"t": top}, height=height)

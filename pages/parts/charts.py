"""A figure on a page: with its text alternative, and a way to take it along as a file."""

from __future__ import annotations

from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from ks_core import drawing, figure_files
from pages.parts.say import plain


@st.cache_resource(show_spinner=False)
def _browser() -> str | None:
    return figure_files.browser()


def chart(figure: go.Figure, key: str, signature: str, **options: Any) -> Any:
    """Show a figure; returns what ``st.plotly_chart`` does. The file that is saved carries ``signature``."""
    shown = st.plotly_chart(figure, key=key, alt=drawing.alt(figure), **options)
    with (
        st.container(horizontal=True, horizontal_alignment="right"),
        st.popover("Save figure", icon=":material/download:", type="tertiary"),
    ):
        st.caption(plain(drawing.alt(figure)))
        for suffix, media_type in figure_files.MEDIA_TYPES.items():
            drawn = suffix != ".html"
            st.download_button(
                suffix[1:].upper(), data=partial(figure_files.figure_bytes, figure, suffix, signature),
                file_name=f"ks-lottery-{key}{suffix}", mime=media_type, key=f"save-{key}{suffix}", on_click="ignore",
                disabled=drawn and _browser() is None,
                help="Needs Chrome or Chromium on the server." if drawn and _browser() is None else None,
            )  # fmt: skip
    return shown

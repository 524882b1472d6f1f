"""Downloads of a table, each with the signature of what it shows."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from ks_core.export import MEDIA_TYPES, table_bytes


def table(frame: pd.DataFrame, name: str, signature: str) -> None:
    """Buttons for CSV, Parquet and JSON. The file is made when it is asked for, not on every run."""
    with st.container(horizontal=True):
        for suffix, media_type in MEDIA_TYPES.items():
            st.download_button(suffix[1:].upper() if suffix != ".parquet" else "Parquet", icon=":material/download:",
                               data=lambda suffix=suffix: table_bytes(frame, suffix, signature),
                               file_name=f"{name}{suffix}", mime=media_type, key=f"{name}-{suffix}", on_click="ignore")


def signature(text: str) -> None:
    """The signature under what it belongs to."""
    with st.expander("Where these numbers come from", icon=":material/fingerprint:"):
        st.code(text, language=None, wrap_lines=True)

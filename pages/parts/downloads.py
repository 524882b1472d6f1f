"""Downloads, each with the signature of what it shows."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from ks_core.study import MEDIA_TYPES, table_bytes
from ks_core.tickets import Ticket


def table(frame: pd.DataFrame, name: str, signature: str) -> None:
    """Buttons for CSV, Parquet and JSON. The file is made when it is asked for, not on every run."""
    with st.container(horizontal=True):
        for suffix, media_type in MEDIA_TYPES.items():
            st.download_button(
                suffix[1:].upper() if suffix != ".parquet" else "Parquet",
                icon=":material/download:",
                data=partial(table_bytes, frame, suffix, signature),
                file_name=f"{name}{suffix}",
                mime=media_type,
                key=f"{name}-{suffix}",
                on_click="ignore",
            )


def ticket(make: Callable[[], Ticket], name: str) -> None:
    """A button for the ticket as a zipped adapter folder, made when it is asked for."""

    def zipped() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            made = make().save(Path(folder) / name)
            return Path(shutil.make_archive(str(made), "zip", folder, name)).read_bytes()

    st.download_button(
        "Ticket as a peft adapter",
        icon=":material/confirmation_number:",
        data=zipped,
        file_name=f"{name}.zip",
        mime="application/zip",
        on_click="ignore",
        key=f"{name}-zip",
        help="A folder with the tuned rows and ticket.json. peft loads it onto the base, and this program opens "
        "it as a tuned checkpoint. To publish it: `python -m ks_core ticket`, with `--push-to-hub`.",
    )


def panel(found: Mapping[str, Any], name: str) -> None:
    """A panel's figures and texts as JSON; the signature is in it."""
    st.download_button(
        "JSON",
        icon=":material/download:",
        data=lambda: json.dumps(found, ensure_ascii=False, indent=1).encode(),
        file_name=f"{name}.json",
        mime="application/json",
        key=f"{name}-json",
        on_click="ignore",
    )


def report(make: Callable[[], str], name: str) -> None:
    """A button for the report as one HTML file, made when it is asked for."""
    st.download_button(
        "Report (HTML)",
        icon=":material/description:",
        data=lambda: make().encode(),
        file_name=f"ks-lottery-{name}.html",
        mime="text/html",
        key=f"{name}-report",
        on_click="ignore",
        help="One file with verdict, figures, tables and signature. Its first page, printed, is the verdict.",
    )


def signature(text: str) -> None:
    """The signature under what it belongs to."""
    with st.expander("Where these numbers come from", icon=":material/fingerprint:"):
        st.code(text, language=None, wrap_lines=True)

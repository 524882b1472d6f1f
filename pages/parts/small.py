"""Small print that holds links: in a caption they are too pale to be read."""

import streamlit as st


def small(text: str) -> None:
    """Markdown in small letters of full strength, a paragraph for each line break."""
    for line in text.split("\n"):
        st.markdown(f":small[{line.strip()}]")

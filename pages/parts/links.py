"""Links to a view: a value that cannot be used is said, instead of passed over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException

from pages.parts import say


def _is_lost(name: str, value: str) -> bool:
    """Whether a value is not in use. Streamlit takes one that is the widget's default out of the address too."""
    return name not in st.query_params and str(st.session_state.get(name)) != value


@contextmanager
def checked(title: str) -> Iterator[None]:
    """Around the page that a session begins with: says which values of its link no widget could take.

    Streamlit takes such a value out of the address and shows the default.
    """
    asked = st.session_state.setdefault("link_asked", st.query_params.to_dict())
    place = st.empty()
    whole = True
    try:
        yield
    except RerunException:
        whole = False
        raise
    finally:
        if whole and "link_page" not in st.session_state:
            lost = [f"{name} = {value[:60]}" for name, value in asked.items() if _is_lost(name, value)]
            st.session_state.link_page, st.session_state.link_lost = title, lost
        if whole and st.session_state.link_page == title and st.session_state.link_lost:
            with place:
                say.warning(
                    "The link has a value that cannot be used here, and the default is shown instead: "
                    f"{', '.join(st.session_state.link_lost)}.",
                    icon="link_off",
                )

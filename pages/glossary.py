"""Glossary: the terms of the field as the app uses them."""

import streamlit as st

from ks_core.teaching import GLOSSARY, cite
from pages.parts import say
from pages.parts.small import small

st.title("Glossary")
wanted = st.text_input("Search", placeholder="for example alpha", key="term", bind="query-params").strip().lower()
shown = [t for t in GLOSSARY if wanted in t.name.lower() or wanted in t.meaning.lower()]
st.caption(f"{len(shown)} of {len(GLOSSARY)} terms.")
if not shown:
    say.info("No term has these words. Clear the search to see all of them.", icon="search_off")
for term in shown:
    with st.container(border=True):
        st.markdown(f"**{term.name}**  \n{term.meaning}")
        with st.container(horizontal=True, vertical_alignment="center"):
            small(cite(*term.sources))
            if term.page:
                st.page_link(f"pages/{term.page}.py", label="See it", icon=":material/arrow_forward:")

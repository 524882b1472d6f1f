"""Learn: the method by doing it, a step at a time."""

import streamlit as st

from pages.parts import lessons_on_tests, lessons_on_tickets

#: What a link calls a step, its title, and what it does.
STEPS = {
    "CDFs": ("Two CDFs and the gap between them", lessons_on_tests.cdfs),
    "Width": ("A wide row sees more", lessons_on_tests.width),
    "p-values": ("Exact and large-sample p-values", lessons_on_tests.exact),
    "Ties": ("What equal values do", lessons_on_tests.ties),
    "Alpha": ("What alpha is not", lessons_on_tests.dependence),
    "Ticket": ("From a row to a ticket", lessons_on_tickets.ticket),
    "Methods": ("Tune the rows, or copy them", lessons_on_tickets.methods),
    "Stopping": ("The stopping trap", lessons_on_tickets.stopping),
    "Questions": ("What would you say?", lessons_on_tickets.questions),
}
NAMES = list(STEPS)

st.title("Learn the method")


def go(to: str) -> None:
    """To another step."""
    st.session_state.step = to


step = st.segmented_control(
    "Step", NAMES, default=NAMES[0], key="step", required=True, label_visibility="collapsed", bind="query-params"
)
number = NAMES.index(step)
with st.container(horizontal=True, vertical_alignment="center"):
    st.button(
        "Back", icon=":material/arrow_back:", disabled=number == 0, on_click=go, args=(NAMES[max(number - 1, 0)],)
    )
    st.button(
        "Next", icon=":material/arrow_forward:", icon_position="right", type="primary", disabled=number == len(NAMES) - 1,
        on_click=go, args=(NAMES[min(number + 1, len(NAMES) - 1)],),
    )  # fmt: skip
    st.caption(f"Step {number + 1:d} of {len(NAMES)}. Words you do not know are in the glossary.")
    st.page_link("pages/glossary.py", label="Glossary", icon=":material/menu_book:")
st.header(f"{number + 1:d}. {STEPS[step][0]}")
STEPS[step][1]()

"""The page Ask: what is typed, how it is put to the models, and with which rows."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from ks_core.asking import MOST_NEW, Question, Usual, content_of, respondent, usual
from ks_core.study import Scan, Study
from ks_core.translation import TEMPLATES, template_title
from pages.parts import asking, job, ticket_rule

KINDS = ("A sentence", "A whole prompt")
OWN = "own"


def remember() -> None:
    """After a reload, or coming back from another page: the question that was looked at, in the widgets as it was typed."""
    respondent().present = asking.is_here
    key = st.session_state.get(asking.KEY) or st.query_params.get(asking.LINK, "")
    found = asking.look(key)
    if found is None:
        st.session_state.pop(asking.KEY, None)
        if st.query_params.get(asking.LINK):
            st.caption("The question of the link is not remembered any more: ask it again.")
            del st.query_params[asking.LINK]
        return
    st.session_state[asking.KEY] = key
    if "ask_text" in st.session_state or asking.shipped(found):
        return
    asked = found.question
    named = asked.prompt in TEMPLATES
    st.session_state.update({
        "ask_kind": KINDS[not asked.prompt], "ask_text": asked.text, "ask_template": asked.prompt if named else OWN,
        "ask_from": asked.source_language, "ask_to": asked.target_language, "ask_strength": asked.strength,
        "ask_limit": asked.max_new_tokens,
    })  # fmt: skip
    if asked.prompt and not named:
        st.session_state["ask_own"] = asked.prompt


def form(study: Study, scan: Scan, alpha: float) -> Question | None:
    """What the widgets describe, where it is to be asked now: the button was pressed, or a row or the strength was moved.

    Raises ``SettingsError`` for what cannot be asked.
    """
    known = _usual(study.base_source, study.tuned_source)
    left, right = st.columns([3, 2])
    with left:
        kind = st.segmented_control("What is typed", KINDS, default=KINDS[0], required=True, key="ask_kind")
        text = st.text_area(
            "Text", next(iter(known.sentences), ""), key="ask_text", height=100, label_visibility="collapsed"
        )
        if known.sentences:
            st.selectbox("Take a sentence that no training saw", known.sentences, index=None, key="ask_sample", on_change=_take,
                         placeholder="Take a sentence that no training saw", label_visibility="collapsed")  # fmt: skip
    with right:
        prompt = ""
        if kind == KINDS[0]:
            names = [*TEMPLATES, OWN]
            usual = names.index(known.prompt) if known.prompt in TEMPLATES else len(TEMPLATES)
            prompt = str(st.selectbox("Template", names, usual, key="ask_template", format_func=_title,
                                      help="How the sentence is put to the models. A ticket is keyed to the prompt that it was "
                                      "trained with."))  # fmt: skip
            with st.container(horizontal=True):
                st.text_input("From", known.source_language, key="ask_from")
                st.text_input("To", known.target_language, key="ask_to")
            if prompt == OWN:
                first = known.prompt if known.prompt not in TEMPLATES else TEMPLATES["short"].text
                prompt = st.text_area("Own template", first, key="ask_own", help="{source} is the sentence; {source_language} and "
                                      "{target_language} are the languages.")  # fmt: skip
    with right, st.container(horizontal=True, vertical_alignment="bottom"):
        rule, k = ticket_rule.choose("Ticket", "ask_", most=len(scan.pvalue), bound=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        strength = st.slider(
            "Strength of the ticket's rows", 0.0, 2.0, 1.0, step=0.05, key="ask_strength", on_change=asking.again, width=360,
            help="0 is the base, 1 the tuned rows; beyond 1 they go on in the same direction.",
        )  # fmt: skip
        limit = st.number_input("Most new tokens", 1, MOST_NEW, 48, key="ask_limit", width=160)
        pressed = job.button("Ask", icon=":material/play_arrow:", type="primary")
    again = st.session_state.pop("ask_again", False) and asking.KEY in st.session_state
    if not (pressed or again):
        return None
    ticket = tuple(scan.token_ids[ticket_rule.rows(study, scan, rule, alpha, k)].tolist())
    plain_one = Question(
        study.base_source, study.tuned_source, text, prompt, st.session_state.get("ask_from", "") or known.source_language,
        st.session_state.get("ask_to", "") or known.target_language, ticket, max_new_tokens=int(limit), content=content_of(study),
    )  # fmt: skip
    return replace(plain_one, strength=float(strength), off=asking.off(plain_one))


@st.cache_data(max_entries=8, show_spinner="Looking how it was trained …")
def _usual(base: str, tuned: str) -> Usual:
    return usual(base, tuned)


def _title(name: str) -> str:
    return "My own text" if name == OWN else template_title(name)


def _take() -> None:
    if st.session_state.get("ask_sample"):
        st.session_state["ask_text"], st.session_state["ask_kind"] = st.session_state["ask_sample"], KINDS[0]
